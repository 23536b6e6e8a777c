"""What the three weight files of a version hold, tensor by tensor, and how they are checked when read.

====================================  =================================================================================
``fastgrnn.safetensors``              Tiny Dancer's own format: nine F32 tensors on raw features.
``fastgrnn_int8.safetensors``         ``w_*.int8`` (I8) and ``w_*.scale`` (F16, one per row), ``b_*`` (F32),
                                      ``normalization.means`` and ``.stds`` (F64). Normalised space.
``training.safetensors``              ``w_*.f32`` and ``b_*.f32``: unquantized weights that fine-tuning goes on from.
====================================  =================================================================================

The last two never use Tiny Dancer's names for their weights: its loader would abort the whole process on an INT8 tensor
under such a name, and would silently serve weights that expect normalised input.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrain.model.quantize import BIASES, WEIGHTS
from streamtrain.model.tensors import TensorFileError, Tensors, read, write
from streamtrain.types import FastGRNNConfig, Params, QuantizedParams, Scaling

F32_FILE = "fastgrnn.safetensors"
INT8_FILE = "fastgrnn_int8.safetensors"
TRAINING_FILE = "training.safetensors"
NORMALIZATION_FILE = "normalization.json"
METRICS_FILE = "metrics.json"
WINDOW_FILE = "window.u64"
"""Fingerprints of the samples of the window, little-endian, in its order; no router reads it."""

TINY_DANCER_FORMAT = "ruvector-tiny-dancer-fastgrnn-v1"
INT8_FORMAT = "streamtrain-fastgrnn-int8-v1"
TRAINING_FORMAT = "streamtrain-fastgrnn-training-v1"

Shapes = dict[str, tuple[tuple[int, ...], str]]


@dataclass(frozen=True, slots=True)
class Int8File:
    """What ``fastgrnn_int8.safetensors`` holds.

    Attributes
    ----------
    config : FastGRNNConfig
    quantized : QuantizedParams
        In normalised space.
    scaling : Scaling
    features : tuple of str
        Names, in column order.
    input_scale : tuple of float or None
        Folded into the F32 file beside it, not into these weights.
    """

    config: FastGRNNConfig
    quantized: QuantizedParams
    scaling: Scaling
    features: tuple[str, ...]
    input_scale: tuple[float, ...] | None


def shapes(config: FastGRNNConfig) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of `Params` by its name.

    Parameters
    ----------
    config : FastGRNNConfig

    Returns
    -------
    dict of str to tuple of int
    """
    d, h = config.input_dim, config.hidden_dim
    return {
        "w_reset": (h, d),
        "w_update": (h, d),
        "w_candidate": (h, d),
        "w_recurrent": (h, h),
        "w_output": (1, h),
        "b_reset": (h,),
        "b_update": (h,),
        "b_candidate": (h,),
        "b_output": (1,),
    }


def write_f32(config: FastGRNNConfig, params: Params) -> bytes:
    """Tiny Dancer's file.

    Parameters
    ----------
    config : FastGRNNConfig
    params : Params
        Folded: on raw features.

    Returns
    -------
    bytes
    """
    metadata = {"format": TINY_DANCER_FORMAT, "config": json.dumps(asdict(config))}
    return write({field.name: getattr(params, field.name) for field in fields(Params)}, metadata)


def read_f32(data: bytes) -> tuple[FastGRNNConfig, Params]:
    """Read Tiny Dancer's file, ours or one that its own trainer wrote.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    config : FastGRNNConfig
    params : Params

    Raises
    ------
    TensorFileError
        If it is not exactly the nine F32 tensors in the shapes of its config, or a number is not finite.
    """
    tensors, metadata = read(data)
    config = _read_config(metadata)
    _check(tensors, {name: (shape, "float32") for name, shape in shapes(config).items()})
    return config, Params(**tensors)


def write_training(config: FastGRNNConfig, params: Params) -> bytes:
    """Unquantized weights in normalised space.

    Parameters
    ----------
    config : FastGRNNConfig
    params : Params

    Returns
    -------
    bytes
    """
    metadata = {"format": TRAINING_FORMAT, "config": json.dumps(asdict(config))}
    return write({f"{field.name}.f32": getattr(params, field.name) for field in fields(Params)}, metadata)


def read_training(data: bytes) -> tuple[FastGRNNConfig, Params]:
    """Read back what `write_training` wrote.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    config : FastGRNNConfig
    params : Params

    Raises
    ------
    TensorFileError
        As in `read_f32`.
    """
    tensors, metadata = read(data)
    config = _read_config(metadata)
    _check(tensors, {f"{name}.f32": (shape, "float32") for name, shape in shapes(config).items()})
    return config, Params(**{name: tensors[f"{name}.f32"] for name in shapes(config)})


def write_int8(content: Int8File) -> bytes:
    """Quantized weights with all that is needed to serve them.

    Parameters
    ----------
    content : Int8File

    Returns
    -------
    bytes
    """
    tensors: dict[str, NDArray[Any]] = {
        "normalization.means": content.scaling.means,
        "normalization.stds": content.scaling.stds,
    }
    tensors |= {f"{name}.int8": content.quantized.weights[name] for name in WEIGHTS}
    tensors |= {f"{name}.scale": content.quantized.scales[name].astype(np.float16) for name in WEIGHTS}
    tensors |= {name: content.quantized.biases[name] for name in BIASES}
    metadata = {
        "format": INT8_FORMAT,
        "config": json.dumps(asdict(content.config)),
        "features": json.dumps(content.features),
        "input_scale": json.dumps(content.input_scale),
    }
    return write(tensors, metadata)


def read_int8(data: bytes) -> Int8File:
    """Read back what `write_int8` wrote.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    Int8File

    Raises
    ------
    TensorFileError
        If a tensor is missing, superfluous, of another shape or dtype, not finite, or a scale or std is not positive.
    """
    tensors, metadata = read(data)
    config = _read_config(metadata)
    whole = shapes(config)
    expected: Shapes = {f"{name}.int8": (whole[name], "int8") for name in WEIGHTS}
    expected |= {f"{name}.scale": (whole[name][:1], "float16") for name in WEIGHTS}
    expected |= {name: (whole[name], "float32") for name in BIASES}
    expected |= {f"normalization.{name}": ((config.input_dim,), "float64") for name in ("means", "stds")}
    _check(tensors, expected)
    for name in ("normalization.stds", *(f"{name}.scale" for name in WEIGHTS)):
        if not (tensors[name] > 0).all():
            raise TensorFileError(f"tensor {name} has numbers that are not positive")
    quantized = QuantizedParams(
        weights={name: tensors[f"{name}.int8"] for name in WEIGHTS},
        scales={name: tensors[f"{name}.scale"].astype(np.float32) for name in WEIGHTS},
        biases={name: tensors[name] for name in BIASES},
    )
    features = _read_features(metadata, config.input_dim)
    input_scale = _read_input_scale(metadata, config.input_dim)
    scaling = Scaling(tensors["normalization.means"], tensors["normalization.stds"])
    return Int8File(config, quantized, scaling, features, input_scale)


def _check(tensors: Tensors, expected: Shapes) -> None:
    missing, superfluous = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or superfluous:
        raise TensorFileError(
            f"tensors missing: {missing}, superfluous: {superfluous}; expected exactly {sorted(expected)}"
        )
    for name, (shape, dtype) in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype != dtype:
            raise TensorFileError(
                f"tensor {name} is {tensor.dtype} {tensor.shape}; expected {dtype} {shape} by the file's own config"
            )
        if not np.isfinite(tensor).all():
            raise TensorFileError(f"tensor {name} holds numbers that are not finite")


def _parse(metadata: dict[str, str], key: str) -> object:
    text = metadata.get(key)
    if text is None:
        raise TensorFileError(f"the metadata have no {key!r}; found {sorted(metadata)}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TensorFileError(f"metadata {key!r} is not JSON: {error}") from error


def _read_config(metadata: dict[str, str]) -> FastGRNNConfig:
    raw = _parse(metadata, "config")
    if not isinstance(raw, dict):
        raise TensorFileError(f"metadata 'config' is {raw!r}; expected a JSON object")
    output_dim = _positive_integer("output_dim", raw.get("output_dim", 1))
    if output_dim != 1:
        raise TensorFileError(f"config output_dim is {output_dim}; expected 1 (a binary classifier)")
    return FastGRNNConfig(
        input_dim=_positive_integer("input_dim", raw.get("input_dim")),
        hidden_dim=_positive_integer("hidden_dim", raw.get("hidden_dim")),
        output_dim=output_dim,
        nu=_finite_number("config nu", raw.get("nu", 1.0)),
        zeta=_finite_number("config zeta", raw.get("zeta", 1.0)),
        rank=None if raw.get("rank") is None else _positive_integer("rank", raw["rank"]),
    )


def _read_features(metadata: dict[str, str], n_features: int) -> tuple[str, ...]:
    names = _parse(metadata, "features")
    if not isinstance(names, list) or len(names) != n_features or not all(isinstance(name, str) for name in names):
        raise TensorFileError(f"metadata 'features' is not a list of {n_features} names")
    return tuple(names)


def _read_input_scale(metadata: dict[str, str], n_features: int) -> tuple[float, ...] | None:
    factors = _parse(metadata, "input_scale")
    if factors is None:
        return None
    if not isinstance(factors, list) or len(factors) != n_features:
        raise TensorFileError(f"metadata 'input_scale' is not null or a list of {n_features} numbers")
    return tuple(_finite_number(f"input_scale[{column}]", factor) for column, factor in enumerate(factors))


def _positive_integer(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise TensorFileError(f"config {key} is {value!r}; expected a positive integer")
    return value


def _finite_number(what: str, value: object) -> float:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53:
        return float(value)
    if not isinstance(value, float) or not math.isfinite(value):
        raise TensorFileError(f"{what} is {value!r}; expected a finite number")
    return value
