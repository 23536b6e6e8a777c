"""The guide's `FastGRNN`: a model that one holds in the hand, built on the frozen `Params`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from streamtrain.model.formats import read_f32, write_f32
from streamtrain.model.forward import probabilities
from streamtrain.model.params import as_dict, initialise, shapes
from streamtrain.model.prune import prune
from streamtrain.model.quantize import dequantize, quantize
from streamtrain.model.tensors import TensorFileError
from streamtrain.types import F64, FastGRNNConfig, Params


class FastGRNN:
    """A FastGRNN classifier, under the guide's names.

    Parameters
    ----------
    config : FastGRNNConfig, optional
    params : Params, optional
        Its weights; fresh ones drawn from `seed` if None.
    seed : int

    Raises
    ------
    ValueError
        If the config or a tensor's shape is not possible.
    """

    def __init__(self, config: FastGRNNConfig | None = None, params: Params | None = None, seed: int = 0) -> None:
        self.config = FastGRNNConfig() if config is None else config
        _check(self.config)
        self.params = initialise(self.config, seed) if params is None else params
        for name, shape in shapes(self.config).items():
            found = as_dict(self.params)[name].shape
            if found != shape:
                raise ValueError(f"FastGRNN: tensor {name} has shape {found}; expected {shape} for {self.config}")

    def forward(self, features: Sequence[float] | ArrayLike) -> float:
        """Probability that the lightweight model is good enough for one request of D features."""
        return float(self.forward_batch(np.asarray(features, np.float64)[None])[0])

    def forward_batch(self, features: ArrayLike) -> F64:
        """Probabilities of a batch.

        Parameters
        ----------
        features : (N, D) numbers
            In the space that the model was trained in.

        Returns
        -------
        float64, (N,)
        """
        return np.asarray(probabilities(self.params, features, self.config.nu, self.config.zeta), np.float64)

    def quantize(self) -> None:
        """Round the weights to INT8 per output row; scoring uses what the rounded weights stand for."""
        self.params = dequantize(quantize(self.params))

    def prune(self, sparsity: float) -> None:
        """Set the smallest-magnitude share of the weights to zero (0 ≤ sparsity < 1)."""
        self.params = prune(self.params, sparsity)

    @property
    def n_parameters(self) -> int:
        """Number of weights and biases."""
        return sum(int(np.prod(shape)) for shape in shapes(self.config).values())

    def size_bytes(self) -> int:
        """Size of the float32 weights in bytes."""
        return 4 * self.n_parameters

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write Tiny Dancer's model file, whole or not at all; folders are made."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        beside.write_bytes(write_f32(self.config, self.params))
        beside.replace(target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FastGRNN:
        """Read a model file of Tiny Dancer's or ours.

        Raises
        ------
        ValueError
            If the file is not such a model.
        OSError
            If it can't be read.
        """
        source = Path(path)
        try:
            config, params = read_f32(source.read_bytes())
        except TensorFileError as error:
            raise ValueError(f"FastGRNN.load {source}: {error}") from error
        return cls(config, params)


def _check(config: FastGRNNConfig) -> None:
    if config.output_dim != 1:
        raise ValueError(f"FastGRNNConfig: output_dim is {config.output_dim}; expected 1, a binary classifier")
    for name, value in (("input_dim", config.input_dim), ("hidden_dim", config.hidden_dim), ("rank", config.rank)):
        if value is not None and value < 1:
            raise ValueError(f"FastGRNNConfig: {name} is {value}; expected ≥ 1")
    for name, number in (("nu", config.nu), ("zeta", config.zeta)):
        if not (np.isfinite(number) and number > 0):
            raise ValueError(f"FastGRNNConfig: {name} is {number}; expected a finite number > 0")
