"""Make probabilities mean what they say: the logit stretched (and shifted) as the validation split asks for.

Temperature scaling (Guo, Pleiss, Sun and Weinberger 2017) divides the logit by one number, T; Platt scaling (Platt
1999) also adds one. Both are folded into the output layer: a calibrated model is a model like any other, costs nothing
to serve, ranks requests as before, and is fine-tuned from as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamtrain.model.fold import fold_output, fold_output_quantized
from streamtrain.model.quantize import dequantize, quantize
from streamtrain.train.fit import logits
from streamtrain.train.meter import Meter
from streamtrain.types import F64, Arrays, FastGRNNConfig, Params, QuantizedParams

Method = Literal["none", "temperature", "platt"]

_SLOPES = (0.05, 20.0)
_NEWTON_STEPS = 50
_CONVERGED = 1e-10


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was done to the logit: ``z' = slope · z + shift``.

    Attributes
    ----------
    method : {"none", "temperature", "platt"}
        Which of the three Akaike's criterion chose.
    slope, shift : float
        1 and 0 where nothing was done; the temperature is ``1 / slope``.
    n_samples : int
        Validation samples with any weight.
    loss_before, loss_after : float
        Mean log loss on them, in nats, of the INT8 weights; NaN without samples.
    """

    method: Method
    slope: float
    shift: float
    n_samples: int
    loss_before: float
    loss_after: float


NOTHING = Calibration("none", 1.0, 0.0, 0, float("nan"), float("nan"))
"""For a model that is left as it was trained."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Weights in both forms, and how they came about.

    Attributes
    ----------
    params : Params
        Float weights, where fine-tuning goes on from.
    quantized : QuantizedParams
        What is served.
    calibration : Calibration
    """

    params: Params
    quantized: QuantizedParams
    calibration: Calibration


def calibrate(
    params: Params, config: FastGRNNConfig, validation: Arrays | None, wanted: bool = True, meter: Meter | None = None
) -> Calibrated:
    """Calibrate trained weights on the validation split, and quantize them.

    The logits are those of the quantized weights, which are what will be served. The INT8 levels of the output layer
    are kept and its scale is stretched, so that rounding done with care in training stays as it was.

    Parameters
    ----------
    params : Params
    config : FastGRNNConfig
    validation : Arrays or None
        In the scale of `params`; samples of weight 0 are left out.
    wanted : bool
        False only quantizes.
    meter : Meter, optional
        Told of progress.

    Returns
    -------
    Calibrated
    """
    quantized = quantize(params)
    if not wanted or validation is None or len(validation.labels) == 0:
        return Calibrated(params, quantized, NOTHING)
    z = logits(dequantize(quantized), config, validation.features, meter).ravel().astype(np.float64)
    weights = validation.weights.ravel().astype(np.float64)
    found = fit_calibration(z, validation.labels.ravel().astype(np.float64), weights)
    if found.method == "none":
        return Calibrated(params, quantized, found)
    stretched = fold_output_quantized(quantized, found.slope, found.shift)
    return Calibrated(fold_output(params, found.slope, found.shift), stretched, found)


def fit_calibration(z: F64, labels: F64, weights: F64) -> Calibration:
    """Fit temperature and Platt scaling by weighted maximum likelihood, and choose between them and neither.

    Labels are drawn in a little from 0 and 1 as if there were one more sample of each (Platt 1999), without which
    logits that separate a small split would be stretched without end. Each number fitted has to gain more than one nat
    over the effective number of samples (Kish 1965), which is Akaike's criterion (1974): a small split that asks for a
    change by chance alone does not get it.

    Parameters
    ----------
    z : float64, (N,)
        Logits.
    labels, weights : float64, (N,)
        In 0..1, and ≥ 0.

    Returns
    -------
    Calibration
    """
    counted = weights > 0
    z, labels, weights = z[counted], labels[counted], weights[counted]
    if not len(z) or not np.isfinite(z).all():
        return NOTHING
    effective = weights.sum() ** 2 / (weights**2).sum()
    counts = weights * (effective / weights.sum())
    n_good = float((counts * labels).sum())
    high, low = (n_good + 1.0) / (n_good + 2.0), 1.0 / (effective - n_good + 2.0)
    targets = labels * high + (1.0 - labels) * low
    before = _loss(z, labels, counts)
    best: tuple[float, Method, float, float, float] = (2.0 * _loss(z, targets, counts), "none", 1.0, 0.0, before)
    designs: tuple[tuple[Method, F64], ...] = (
        ("temperature", z[None]),
        ("platt", np.stack((z, np.ones_like(z)))),
    )
    for method, design in designs:
        fitted = _fitted(design, targets, counts)
        slope, shift = float(fitted[0]), float(fitted[1]) if len(fitted) > 1 else 0.0
        criterion = 2.0 * _loss(fitted @ design, targets, counts) + 2.0 * len(fitted)
        if _SLOPES[0] <= slope <= _SLOPES[1] and np.isfinite(shift) and criterion < best[0]:
            best = (criterion, method, slope, shift, _loss(fitted @ design, labels, counts))
    _, method, slope, shift, after = best
    return Calibration(method, slope, shift, len(z), before / effective, after / effective)


def _loss(z: F64, targets: F64, counts: F64) -> float:
    """Total cross-entropy from logits, in nats."""
    return float((counts * (np.logaddexp(0.0, z) - targets * z)).sum())


def _fitted(design: F64, targets: F64, counts: F64) -> NDArray[np.float64]:
    """Maximise the likelihood by Newton's method from the model as it is; a step that makes it worse is halved."""
    fitted = np.zeros(len(design))
    fitted[0] = 1.0
    loss = _loss(fitted @ design, targets, counts)
    for _ in range(_NEWTON_STEPS):
        p = 0.5 + 0.5 * np.tanh(0.5 * (fitted @ design))
        gradient = design @ (counts * (p - targets))
        curvature = (design * (counts * p * (1.0 - p))) @ design.T
        step = np.linalg.solve(curvature + 1e-9 * counts.sum() * np.eye(len(design)), gradient)
        while (lower := _loss((fitted - step) @ design, targets, counts)) > loss and np.abs(step).max() > _CONVERGED:
            step = 0.5 * step
        if np.abs(step).max() <= _CONVERGED or lower > loss:
            break
        fitted, loss = fitted - step, lower
    return fitted
