"""INT8 quantization: symmetric, one scale per output row.

A row of a weight matrix is what one hidden unit (or the output) sees, and rows differ in magnitude by an order or more
after training; a scale each keeps the error of every row at half a step of its own largest weight. Biases stay float32:
they are a few dozen bytes and their error would shift every answer the same way. Scales are float16: in a network of a
few hundred weights, float32 ones would be a third of the file, and their last sixteen bits say nothing that the INT8
levels could show.
"""

from __future__ import annotations

import numpy as np

from streamtrain.types import F32, F64, I8, Params, QuantizedParams

WEIGHTS = ("w_reset", "w_update", "w_candidate", "w_recurrent", "w_output")
BIASES = ("b_reset", "b_update", "b_candidate", "b_output")
LEVELS = 127
"""Largest magnitude of a quantized weight. -128 is left out so that the grid is symmetric around 0."""


def quantize(params: Params) -> QuantizedParams:
    """Round each weight to the nearest of 255 levels of its row: ``scale = max|w| / 127``, ``int8 = round(w / scale)``.

    The scale is rounded up to float16, so that the largest weight stays within the levels. A row of zeros gets scale 1;
    one of numbers so small that the scale would underflow gets the smallest scale there is.

    Parameters
    ----------
    params : Params
        Finite float32 tensors.

    Returns
    -------
    QuantizedParams
        ``|w - scale · int8| ≤ scale / 2`` for every weight, up to float32 rounding.

    Raises
    ------
    ValueError
        If a tensor holds NaN or an infinity, or a weight beyond 127 times the largest float16: a diverged model must
        not be published.
    """
    weights: dict[str, I8] = {}
    scales: dict[str, F32] = {}
    for name in WEIGHTS:
        matrix = _finite(params, name).astype(np.float64)
        scale = half_precision(name, np.abs(matrix).max(axis=1, initial=0.0) / LEVELS)
        levels = np.rint(matrix / scale.astype(np.float64)[:, None])
        weights[name] = np.clip(levels, -LEVELS, LEVELS).astype(np.int8)
        scales[name] = scale
    return QuantizedParams(weights, scales, {name: _finite(params, name).copy() for name in BIASES})


def dequantize(quantized: QuantizedParams) -> Params:
    """Float32 weights that the quantized model stands for: ``weight[i, j] = scale[i] · int8[i, j]``.

    Parameters
    ----------
    quantized : QuantizedParams

    Returns
    -------
    Params
        In the same (normalised) space.
    """
    tensors = {
        name: quantized.weights[name].astype(np.float32) * quantized.scales[name][:, None] for name in WEIGHTS
    } | quantized.biases
    return Params(**tensors)


def half_precision(name: str, exact: F64) -> F32:
    """Round scales up to numbers that float16 holds.

    Raises
    ------
    ValueError
        If one is too large; `name` is told as the tensor that it belongs to.
    """
    with np.errstate(over="ignore"):
        half = exact.astype(np.float16)
        half = np.where(half.astype(np.float64) < exact, np.nextafter(half, np.float16(np.inf)), half)
    if not np.isfinite(half).all():
        raise ValueError(
            f"quantize: {name} holds a weight of magnitude {LEVELS * exact.max():.3g}, beyond what a float16 scale can "
            "say; the training diverged: lower training.learning_rate or training.grad_clip"
        )
    return np.where(exact > 0, half, np.float16(1)).astype(np.float32)


def _finite(params: Params, name: str) -> F32:
    tensor: F32 = getattr(params, name)
    if not np.isfinite(tensor).all():
        bad = int(np.count_nonzero(~np.isfinite(tensor)))
        raise ValueError(
            f"quantize: {name} holds {bad} of {tensor.size} numbers that are not finite; "
            "the training diverged: lower training.learning_rate or training.grad_clip"
        )
    return tensor
