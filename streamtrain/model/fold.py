"""Normalisation folded into the weights, and weights re-expressed when the normalisation changes.

All three input matrices (reset, update, candidate) see the same normalised input ``x' = (x - m) / s``, so the same
change of variables applies to each. It is computed in float64: with a feature far from 0 (``|m| ≫ s``) the bias is a
difference of large numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from streamtrain.model.quantize import half_precision
from streamtrain.types import F32, F64, Params, QuantizedParams, Scaling

INPUT_LAYERS = (("w_reset", "b_reset"), ("w_update", "b_update"), ("w_candidate", "b_candidate"))
"""Weight and bias of each layer that sees the input."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def fold(params: Params, scaling: Scaling, input_scale: Sequence[float] | None = None) -> Params:
    """Weights that take raw inputs: ``W_serve = W / s / input_scale``, ``b_serve = b - W (m / s)``.

    Parameters
    ----------
    params : Params
        In normalised space.
    scaling : Scaling
        Normalisation that `params` were trained with.
    input_scale : sequence of D floats, optional
        What the caller multiplies each raw feature with before the model sees it. None: the features come as they are.

    Returns
    -------
    Params
        With ``serve(input_scale · x) = params((x - m) / s)``.

    Raises
    ------
    ValueError
        If the lengths disagree, a std is not a positive number, an input scale is 0, or a result overflows float32.
    """
    changed: dict[str, F32] = {}
    for weight_name, bias_name in INPUT_LAYERS:
        weight, bias = fold_layer(getattr(params, weight_name), getattr(params, bias_name), scaling, input_scale)
        changed[weight_name] = weight.astype(np.float32)
        changed[bias_name] = bias.astype(np.float32)
    return replace(params, **changed)


def fold_layer(weight: F32, bias: F32, scaling: Scaling, input_scale: Sequence[float] | None = None) -> tuple[F64, F64]:
    """`fold` of one layer, left in float64.

    Parameters
    ----------
    weight : float32, (H, D)
    bias : float32, (H,)
    scaling : Scaling
    input_scale : sequence of D floats, optional

    Returns
    -------
    weight : float64, (H, D)
    bias : float64, (H,)

    Raises
    ------
    ValueError
        As in `fold`.
    """
    _check("fold", weight.shape[1], scaling)
    with np.errstate(over="ignore", invalid="ignore"):
        w = weight.astype(np.float64) / scaling.stds
        b = bias.astype(np.float64) - w @ scaling.means
    if input_scale is not None:
        with np.errstate(over="ignore"):
            w = w / _factors(input_scale, weight.shape[1])
    # Not `>`: a NaN must be caught too.
    if not (np.abs(w) <= _FLOAT32_MAX).all() or not (np.abs(b) <= _FLOAT32_MAX).all():
        worst = int(np.argmin(scaling.stds / np.maximum(np.abs(scaling.means), 1.0)))
        raise ValueError(
            f"fold: weights become too large for float32; the feature in column {worst} hardly varies (mean "
            f"{scaling.means[worst]:.6g}, std {scaling.stds[worst]:.6g}): drop it, or change its unit"
        )
    return w, b


def _factors(input_scale: Sequence[float], n_features: int) -> F64:
    factors = np.asarray(input_scale, dtype=np.float64)
    if factors.shape != (n_features,) or not np.isfinite(factors).all() or not factors.all():
        raise ValueError(
            f"fold: input_scale is {list(input_scale)}; expected {n_features} finite numbers other than 0, "
            "one for each feature"
        )
    return factors


def rescale(params: Params, old: Scaling, new: Scaling) -> Params:
    """Re-express `params` for another normalisation, so that the function of the raw input does not change.

    With ``x = s x' + m = s' x'' + m'``:  ``W'' = W · s'/s`` per input column, ``b'' = b + W ((m' - m) / s)``.

    Parameters
    ----------
    params : Params
        In the space of `old`.
    old, new : Scaling

    Returns
    -------
    Params
        In the space of `new`; equal to `params` bit for bit if `old` and `new` are equal.

    Raises
    ------
    ValueError
        If the lengths disagree, a std is not a positive number, or a result overflows float32.
    """
    changed: dict[str, F32] = {}
    for weight_name, bias_name in INPUT_LAYERS:
        weight: F32 = getattr(params, weight_name)
        bias: F32 = getattr(params, bias_name)
        _check("rescale", weight.shape[1], old)
        _check("rescale", weight.shape[1], new)
        shift = weight.astype(np.float64) @ ((new.means - old.means) / old.stds)
        changed[weight_name] = _to_float32(weight_name, weight * (new.stds / old.stds))
        changed[bias_name] = _to_float32(bias_name, bias + shift)
    return replace(params, **changed)


def fold_output(params: Params, slope: float, shift: float) -> Params:
    """Weights whose logit is ``slope · z + shift``: ``W_output · slope``, ``b_output · slope + shift``.

    Weights that are zero stay zero.

    Parameters
    ----------
    params : Params
    slope, shift : float
        Finite; the slope > 0, so that the order of answers stays.
    """
    return replace(
        params,
        w_output=(params.w_output.astype(np.float64) * slope).astype(np.float32),
        b_output=(params.b_output.astype(np.float64) * slope + shift).astype(np.float32),
    )


def fold_output_quantized(quantized: QuantizedParams, slope: float, shift: float) -> QuantizedParams:
    """`fold_output` of INT8 weights: the levels stay, the scale is stretched.

    Scales are float16, so the slope comes out to within 0.1 %.

    Raises
    ------
    ValueError
        If the scale becomes larger than float16 can say.
    """
    scale = quantized.scales["w_output"].astype(np.float64) * slope
    bias = quantized.biases["b_output"].astype(np.float64) * slope + shift
    return QuantizedParams(
        quantized.weights,
        quantized.scales | {"w_output": half_precision("w_output", scale)},
        quantized.biases | {"b_output": bias.astype(np.float32)},
    )


def _check(operation: str, n_features: int, scaling: Scaling) -> None:
    if scaling.means.shape != (n_features,) or scaling.stds.shape != (n_features,):
        raise ValueError(
            f"{operation}: the scaling has {scaling.means.size} means and {scaling.stds.size} stds; "
            f"expected {n_features} of each, one for each input column"
        )
    usable = np.isfinite(scaling.means) & np.isfinite(scaling.stds) & (scaling.stds > 0)
    if not usable.all():
        bad = int(np.argmin(usable))
        raise ValueError(
            f"{operation}: column {bad} has mean {scaling.means[bad]} and std {scaling.stds[bad]}; expected finite "
            "numbers and a positive std (a constant feature has std 1)"
        )


def _to_float32(name: str, values: F64) -> F32:
    if not (np.abs(values) <= _FLOAT32_MAX).all():
        raise ValueError(
            f"rescale: {name} becomes too large for float32 ({np.abs(values).max():.3g}): "
            "the normalisation changed beyond all measure; train from scratch"
        )
    return values.astype(np.float32)
