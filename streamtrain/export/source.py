"""What is exported: a verified version, or a model file of Tiny Dancer's."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamtrain.model.fold import INPUT_LAYERS, fold_layer
from streamtrain.model.formats import INT8_FILE, read_f32, read_int8
from streamtrain.model.quantize import dequantize, quantize
from streamtrain.model.seal import VersionError, read_sealed
from streamtrain.model.tensors import TensorFileError
from streamtrain.router.load import load
from streamtrain.types import F64, FastGRNNConfig, Params, QuantizedParams, Scaling


@dataclass(frozen=True, slots=True)
class Source:
    """A model that was verified as the router verifies it.

    Attributes
    ----------
    config : FastGRNNConfig
    params : Params
        What is served, on features that `scaling` normalised.
    quantized : QuantizedParams
        The same in INT8: exactly for a version, rounded for a plain model file.
    scaling : Scaling
        Of the raw features; the identity for a plain model file.
    features : tuple of str
        Names, in column order.
    version : str or None
        None for a plain model file.
    sha256 : str
        Of the file that the weights are from, hex digits.
    sequence_length : int
        Steps of a session that it was trained on; 1 where unknown.
    """

    config: FastGRNNConfig
    params: Params
    quantized: QuantizedParams
    scaling: Scaling
    features: tuple[str, ...]
    version: str | None
    sha256: str
    sequence_length: int


def read_source(path: str | os.PathLike[str]) -> Source:
    """Read and verify what is to be exported.

    Parameters
    ----------
    path : path
        A models directory (its ``current`` is taken), a version directory, or a ``fastgrnn.safetensors``, which is
        taken as it is, with any normalisation and ``input_scale`` that were folded into it.

    Returns
    -------
    Source

    Raises
    ------
    VersionError
        If it does not verify.
    OSError
        If it could not be read just now.
    """
    place = Path(path)
    if (place / "current").is_symlink():
        place /= "current"
    # Resolved once: `current` may move meanwhile, and what the router's loader verifies is what is exported.
    place = place.resolve()
    model = load(place)
    try:
        if place.is_file():
            data = place.read_bytes()
            config, params = read_f32(data)
            identity = Scaling(np.zeros(config.input_dim), np.ones(config.input_dim))
            return Source(config, params, quantize(params), identity, model.features, None, _sha256(data), 1)
        manifest, files = read_sealed(place, only=(INT8_FILE,))
        content = read_int8(files[INT8_FILE])
    except (TensorFileError, ValueError) as error:
        raise VersionError(place, str(error)) from error
    return Source(
        content.config,
        dequantize(content.quantized),
        content.quantized,
        content.scaling,
        content.features,
        model.version,
        _sha256(files[INT8_FILE]),
        _sequence_length(manifest.get("config")),
    )


def layers_after(source: Source, centre: F64) -> dict[str, tuple[F64, F64]]:
    """Weight and bias of each layer that sees the input, for raw features minus `centre`.

    Parameters
    ----------
    source : Source
    centre : float64, (D,)

    Returns
    -------
    dict of str to (float64 (H, D), float64 (H,))
        By the weight's name: w_reset, w_update, w_candidate.

    Raises
    ------
    ValueError
        If a weight becomes too large for float32.
    """
    rest = Scaling(source.scaling.means - centre, source.scaling.stds)
    return {
        weight: fold_layer(getattr(source.params, weight), getattr(source.params, bias), rest)
        for weight, bias in INPUT_LAYERS
    }


def _sequence_length(settings: object) -> int:
    match settings:
        case {"model": {"sequence_length": int(steps)}} if steps > 1:
            return steps
    return 1


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
