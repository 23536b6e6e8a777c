"""One loaded model: immutable, raw features in, probability that the lightweight model is good enough out.

A request is one step from ``h = 0``, so the reset gate and the recurrent matrix have no say and the cell is::

    h = (1 - u) ⊙ c        1 - σ(a) = (1 - tanh(a / 2)) / 2

With the two matrices stacked and every constant multiplied in at load, that is one product and one tanh a request, in
float64: NumPy's cost here is that of its calls, not of its arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from streamtrain.types import F64, FastGRNNConfig

_BLOCK_ROWS = 4096
# Half of float32's range: beyond it nothing was ever trained.
_LARGEST = 1.7e38


class Model:
    """A FastGRNN ready to score.

    Parameters
    ----------
    config : FastGRNNConfig
    update, candidate, output : pair of float64 arrays
        Weight and bias of each layer on raw features: (H, D) and (H,); for the output (1, H) and (1,).
    features : tuple of str
        Names, in column order.
    version : str or None
        None where the file or a staged directory has none.

    Attributes
    ----------
    config, features, version
        As given.
    """

    __slots__ = ("_bias", "_half_output", "_output_bias", "_weight", "config", "features", "version")

    def __init__(
        self,
        config: FastGRNNConfig,
        update: tuple[F64, F64],
        candidate: tuple[F64, F64],
        output: tuple[F64, F64],
        features: tuple[str, ...],
        version: str | None,
    ) -> None:
        self.config = config
        self.features = features
        self.version = version
        gate = config.nu / 2
        self._weight: F64 = np.concatenate([gate * update[0], config.zeta * candidate[0]])
        self._bias: F64 = np.concatenate([gate * update[1], config.zeta * candidate[1]])
        self._half_output: F64 = output[0][0] / 2
        self._output_bias = float(output[1][0])

    def score(self, features: Sequence[float] | F64) -> float:
        """Probability of label 1 for one request.

        Parameters
        ----------
        features : D numbers
            Raw, in the order of `Model.features`.

        Returns
        -------
        float
            In 0..1.

        Raises
        ------
        ValueError
            If there are not D finite numbers within float32's range.
        """
        x: F64 = np.array(features, dtype=np.float64)
        if x.shape != (len(self.features),):
            raise ValueError(
                f"score: {x.shape} features given; expected {len(self.features)} numbers: {', '.join(self.features)}"
            )
        # NaN and infinities survive in a length, which is one cheap call that never warns. `not <=` catches NaN.
        if not math.hypot(*x.tolist()) <= _LARGEST:
            self._refuse_unusable(x[None, :])
        a: F64 = self._weight.dot(x)
        a += self._bias
        np.tanh(a, out=a)
        n_hidden = len(self._half_output)
        kept = a[n_hidden:]
        kept -= kept * a[:n_hidden]
        return 0.5 + 0.5 * math.tanh(0.5 * (float(self._half_output.dot(kept)) + self._output_bias))

    def score_batch(self, features: ArrayLike) -> F64:
        """Probabilities of label 1 for many requests.

        Parameters
        ----------
        features : (N, D) numbers
            Raw.

        Returns
        -------
        float64, (N,)
            In 0..1; equal to `score` of each row up to rounding.

        Raises
        ------
        ValueError
            If the shape is another, or a number is not finite or beyond float32's range.
        """
        x = np.asarray(features)
        if x.ndim != 2 or x.shape[1] != len(self.features):
            raise ValueError(
                f"score_batch: an array of shape {x.shape} given; expected (N, {len(self.features)}): "
                f"{', '.join(self.features)}"
            )
        scores: F64 = np.empty(len(x))
        n_hidden = len(self._half_output)
        for start in range(0, len(x), _BLOCK_ROWS):
            block: F64 = np.array(x[start : start + _BLOCK_ROWS], dtype=np.float64)
            self._refuse_unusable(block, start)
            a = block @ self._weight.T
            a += self._bias
            np.tanh(a, out=a)
            kept = a[:, n_hidden:]
            kept -= kept * a[:, :n_hidden]
            logits = kept @ self._half_output + self._output_bias
            scores[start : start + _BLOCK_ROWS] = 0.5 + 0.5 * np.tanh(0.5 * logits)
        return scores

    def _refuse_unusable(self, x: F64, first_row: int = 0) -> None:
        unusable = ~(np.abs(x) <= _LARGEST)
        if unusable.any():
            row, column = (int(index[0]) for index in np.nonzero(unusable))
            where = f" in row {first_row + row}" if len(x) > 1 or first_row else ""
            raise ValueError(
                f"score: feature {self.features[column]!r} is {x[row, column]}{where}; expected a finite number"
            )
