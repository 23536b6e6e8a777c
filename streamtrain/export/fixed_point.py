"""A model as whole numbers: what the C code of `cell.h` computes with.

Every real number is a whole one with a stated number of fraction bits. INT8 weights stay as they are; a row's scale,
with nu or zeta and the half that ``σ(a) = (1 + tanh(a / 2)) / 2`` takes multiplied in, is a 16-bit multiplier and a
shift (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
2018). A float16 scale has 11 significant bits, so where nu and zeta are powers of two this is exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamtrain.export.source import Source
from streamtrain.types import F32, F64, I8

Z_BITS = 16
"""Fraction bits of a normalised feature."""
BITS = 20
"""Fraction bits of pre-activations, activations and hidden states."""
MULTIPLIER_BITS = 16
RATIO_BITS = 24

_INT32_MAX = 2**31 - 1
_SPREAD_STDS = 256  # a feature may lie that far from its mean; a flag that is set once in 65,000 lines does
_LARGEST_BITS = 30
_FEWEST_STEPS = 16  # to a standard deviation
_KNOT_GAP, _KNOTS = 1 / 8, 65

Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layer:
    """A matrix with a scale and, where it has them, a bias for each row.

    Attributes
    ----------
    weights : int8, (rows, columns)
    multipliers, shifts : int64, (rows,)
        A row's sum times ``multiplier / 2^shift`` has `BITS` fraction bits. Multipliers take `MULTIPLIER_BITS`.
    biases : int64, (rows,) or None
        With `BITS` fraction bits, within int32.
    """

    weights: I8
    multipliers: Whole
    shifts: Whole
    biases: Whole | None


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """All constants of the C code.

    Attributes
    ----------
    layers : dict of str to Layer
        update, candidate, output; reset and recurrent where there are sessions.
    input_bits : tuple of int
        Fraction bits of each raw feature as it is handed in; negative for large numbers.
    means, ratios, ratio_shifts : int64, (D,)
        ``z = (x - mean) ratio / 2^shift``.
    z_limit : int
        Normalised features are cut here, so that no sum overflows.
    knots : int64, (65,)
        tanh at 0, 1/8, … 8.
    """

    layers: dict[str, Layer]
    input_bits: tuple[int, ...]
    means: Whole
    ratios: Whole
    ratio_shifts: Whole
    z_limit: int
    knots: Whole


def to_fixed_point(source: Source, *, sessions: bool) -> FixedPoint:
    """Round a model to whole numbers.

    Parameters
    ----------
    source : Source
    sessions : bool
        Whether the reset gate and the recurrent matrix are needed.

    Returns
    -------
    FixedPoint

    Raises
    ------
    ValueError
        If a number does not fit: a bias beyond ±2047, a row's scale beyond 2^11, or a feature whose mean is so far from
        0 that 32 bits cannot tell its values apart.
    """
    half_nu, zeta = source.config.nu / 2, source.config.zeta
    layers = {
        "update": _layer(source, "update", half_nu, Z_BITS),
        "candidate": _layer(source, "candidate", zeta, Z_BITS),
        "output": _layer(source, "output", 0.5, BITS),
    }
    if sessions:
        layers["reset"] = _layer(source, "reset", half_nu, Z_BITS)
        layers["recurrent"] = _layer(source, "recurrent", zeta, BITS)
    input_bits = tuple(
        _input_bits(name, mean, std)
        for name, mean, std in zip(source.features, source.scaling.means, source.scaling.stds, strict=True)
    )
    units = np.ldexp(1.0, np.array(input_bits))
    ratios, shifts = _as_ratios(2.0**Z_BITS / (source.scaling.stds * units), RATIO_BITS)
    seen = [layers[name].weights for name in ("update", "candidate", "reset") if name in layers]
    heaviest = max(int(np.abs(weights.astype(np.int64)).sum(axis=1).max()) for weights in seen)
    return FixedPoint(
        layers,
        input_bits,
        np.rint(source.scaling.means * units).astype(np.int64),
        ratios,
        shifts,
        min(_INT32_MAX, (2**62 - 1) // (max(heaviest, 1) << MULTIPLIER_BITS)),
        np.rint(np.tanh(_KNOT_GAP * np.arange(_KNOTS)) * 2**BITS).astype(np.int64),
    )


def _layer(source: Source, name: str, factor: float, vector_bits: int) -> Layer:
    quantized = source.quantized
    scales = quantized.scales[f"w_{name}"].astype(np.float64)
    multipliers, shifts = _as_ratios(scales * factor * 2.0 ** (BITS - vector_bits), MULTIPLIER_BITS)
    if (shifts < 0).any():
        row = int(np.argmin(shifts))
        raise ValueError(
            f"export: w_{name} has weights up to {127 * scales[row]:.3g} in row {row}, too large for 16 bits and a "
            "shift: train with training.l2_reg or a lower training.learning_rate"
        )
    bias = quantized.biases.get(f"b_{name}")
    return Layer(
        quantized.weights[f"w_{name}"], multipliers, shifts, None if bias is None else _bias(name, bias, factor)
    )


def _bias(name: str, bias: F32, factor: float) -> Whole:
    whole = np.rint(bias.astype(np.float64) * factor * 2.0**BITS)
    if not (np.abs(whole) <= _INT32_MAX).all():
        raise ValueError(
            f"export: b_{name} has a bias of magnitude {np.abs(bias).max():.3g}; expected at most 2047: "
            "its inputs were not normalised, so export a version of our own, or train it on normalised features"
        )
    return whole.astype(np.int64)


def _as_ratios(values: F64, bits: int) -> tuple[Whole, Whole]:
    """Positive numbers as ``multiplier / 2^shift`` with a multiplier of `bits` bits, fewer where the shift is at 62."""
    shifts = np.minimum(bits - np.frexp(values)[1].astype(np.int64), 62)
    multipliers = np.rint(np.ldexp(values, shifts)).astype(np.int64)
    full = multipliers == 1 << bits  # rounded up to one bit too many
    return np.where(full, multipliers >> 1, multipliers), np.where(full, shifts - 1, shifts)


def _input_bits(name: str, mean: float, std: float) -> int:
    """Fraction bits that hold a feature up to `_SPREAD_STDS` from its mean; ±32,768 where nothing is known of it."""
    reach = 2.0**15 if mean == 0 and std == 1 else abs(mean) + _SPREAD_STDS * std
    bits = min(_LARGEST_BITS, 31 - math.frexp(reach)[1])
    if mean == 0 and std == 1:
        bits = Z_BITS
    if std * 2.0**bits < _FEWEST_STEPS:
        raise ValueError(
            f"export: the feature {name!r} has mean {mean:.6g} and std {std:.6g}: 32 bits cannot tell its values "
            "apart; subtract a constant from it in the log, or drop it"
        )
    return bits
