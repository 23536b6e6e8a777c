"""Metrics of probabilities against labels, weighted, in float64.

Labels may be anything in 0..1. Where a metric needs classes (accuracy, AUC, confusion), a label ≥ 0.5 counts as 1; the
losses take the label as it is. Everything is a plain formula over whole arrays, to be read against its definition.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from streamtrain.types import F64, Bools

CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1 in logarithms: float32 sigmoids saturate there, and one sure mistake
should cost much (16 nats) but not everything."""

_THRESHOLD = 0.5
_NO_SPREAD = 1e-9
_NEWTON_STEPS = 50
_CONVERGED = 1e-9
_MAX_LOGIT = 40.0


@dataclass(frozen=True, slots=True)
class Confusion:
    """Weighted counts of decisions at a threshold; "positive" is label 1, the lightweight model was good enough."""

    true_positive: float
    false_positive: float
    true_negative: float
    false_negative: float


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is reported about probabilities on a holdout.

    Attributes
    ----------
    n_samples : int
    accuracy, auc, brier, ece : float
        In 0..1; `auc` is NaN when there is one class only.
    log_loss, base_rate_log_loss : float
        Nats; the second is what the best constant answer reaches on the same samples.
    base_rate : float
        Weighted mean label.
    majority_accuracy : float
        Accuracy of always answering the commoner class.
    confusion : Confusion
    """

    n_samples: int
    accuracy: float
    log_loss: float
    auc: float
    brier: float
    ece: float
    base_rate: float
    majority_accuracy: float
    base_rate_log_loss: float
    confusion: Confusion

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON values; a NaN becomes None."""
        values = asdict(self)
        if math.isnan(self.auc):
            values["auc"] = None
        return values


def report(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Report:
    """Return every metric of this module at once.

    Parameters
    ----------
    labels : (N,)
        In 0..1.
    probabilities : (N,)
        Of label 1, in 0..1.
    weights : (N,), optional
        ≥ 0, not all 0; 1 each without.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        As `checked`.
    """
    y, p, w = checked(labels, probabilities, weights)
    return Report(
        n_samples=len(y),
        accuracy=accuracy(y, p, w),
        log_loss=log_loss(y, p, w),
        auc=auc(y, p, w),
        brier=brier(y, p, w),
        ece=ece(y, p, w),
        base_rate=base_rate(y, w),
        majority_accuracy=majority_accuracy(y, w),
        base_rate_log_loss=base_rate_log_loss(y, w),
        confusion=confusion(y, p, w),
    )


def checked(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None) -> tuple[F64, F64, F64]:
    """Return labels, probabilities and weights as float64 of one length, checked.

    Raises
    ------
    ValueError
        Naming the array, for different lengths, no samples, values that are not finite or out of range, or weights that
        are all 0.
    """
    y = _column("labels", labels)
    p = _column("probabilities", probabilities)
    w = np.ones_like(y) if weights is None else _column("weights", weights)
    if not len(y) == len(p) == len(w):
        raise ValueError(
            f"metrics: {len(y)} labels, {len(p)} probabilities and {len(w)} weights; expected as many of each"
        )
    for name, values in (("labels", y), ("probabilities", p)):
        if values.min() < 0 or values.max() > 1:
            raise ValueError(f"metrics: {name} reach from {values.min()} to {values.max()}; expected 0..1")
    if w.min() < 0 or w.sum() <= 0:
        raise ValueError("metrics: weights are negative or all 0; expected ≥ 0 with at least one > 0")
    return y, p, w


def _column(name: str, values: ArrayLike) -> F64:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1 or column.size == 0:
        raise ValueError(f"metrics: {name} have the shape {column.shape}; expected (N,) with N ≥ 1")
    if not np.isfinite(column).all():
        raise ValueError(f"metrics: {name} have NaN or infinite values; expected finite ones")
    return column


def accuracy(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Weighted share of decisions that are right, with a probability ≥ 0.5 deciding for label 1."""
    y, p, w = checked(labels, probabilities, weights)
    return _mean(_classes(p) == _classes(y), w)


def log_losses(labels: F64, probabilities: F64 | float) -> F64:
    """Binary cross-entropy of each sample, (N,), in nats: ``-y ln p - (1 - y) ln(1 - p)``, p clipped by `CLIP`."""
    p = np.clip(probabilities, CLIP, 1.0 - CLIP)
    losses: F64 = -(labels * np.log(p) + (1.0 - labels) * np.log1p(-p))
    return losses


def log_loss(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Weighted mean binary cross-entropy, in nats."""
    y, p, w = checked(labels, probabilities, weights)
    return _mean(log_losses(y, p), w)


def auc(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the chance that a random positive scores above a random negative, ties counting half.

    The weighted Mann-Whitney statistic (Hanley and McNeil 1982). NaN when one of the classes has no weight.
    """
    y, p, w = checked(labels, probabilities, weights)
    _, rank = np.unique(p, return_inverse=True)
    positive = np.bincount(rank, weights=w * _classes(y))
    negative = np.bincount(rank, weights=w * ~_classes(y))
    pairs = positive.sum() * negative.sum()
    if pairs == 0:
        return math.nan
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / pairs)


def brier(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Weighted mean squared difference of probability and label (Brier 1950)."""
    y, p, w = checked(labels, probabilities, weights)
    return _mean((p - y) ** 2, w)


def ece(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None, n_bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal width.

    ``Σ_b share_b |mean label_b - mean probability_b|``, as Naeini, Cooper and Hauskrecht (2015), with the 15 bins of
    Guo et al. (2017); bins are ``[b/n, (b+1)/n)``, the last one closed.
    """
    y, p, w = checked(labels, probabilities, weights)
    bins = np.minimum((p * n_bins).astype(np.int64), n_bins - 1)
    gaps = np.bincount(bins, weights=w * (y - p), minlength=n_bins)
    return float(np.abs(gaps).sum() / w.sum())


def calibration_slope(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the factor that the log-odds of the probabilities would have to be multiplied by to fit the labels best.

    The slope b of ``P(y = 1) = σ(a + b logit(p))`` by maximum likelihood (Cox 1958), found by Newton's method: 1 where
    probabilities mean what they say, above 1 where they are too timid, below 1 where they are too bold, negative where
    they point the wrong way, 0 where they are all the same. Where they separate the classes the true slope is
    infinite; what is returned then is large.
    """
    y, p, w = checked(labels, probabilities, weights)
    p = np.clip(p, CLIP, 1.0 - CLIP)
    logits = np.log(p) - np.log1p(-p)
    spread = math.sqrt(_mean((logits - _mean(logits, w)) ** 2, w))
    if spread < _NO_SPREAD:
        return 0.0
    design = np.stack([np.ones_like(logits), (logits - _mean(logits, w)) / spread])
    rate = min(max(_mean(y, w), CLIP), 1.0 - CLIP)
    fit = np.array([math.log(rate) - math.log1p(-rate), 0.0])
    for _ in range(_NEWTON_STEPS):
        fitted = 1.0 / (1.0 + np.exp(-np.clip(fit @ design, -_MAX_LOGIT, _MAX_LOGIT)))
        gradient = design @ (w * (y - fitted))
        curvature = (design * (w * fitted * (1.0 - fitted))) @ design.T
        # The small constant keeps the step finite where the classes are separated.
        step = np.linalg.solve(curvature + 1e-9 * w.sum() * np.eye(2), gradient)
        fit += np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < _CONVERGED:
            break
    return float(fit[1] / spread)


def confusion(labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None) -> Confusion:
    """Weighted counts of right and wrong decisions, with a probability ≥ 0.5 deciding for label 1."""
    y, p, w = checked(labels, probabilities, weights)
    actual, said = _classes(y), _classes(p)
    return Confusion(
        true_positive=float(w[actual & said].sum()),
        false_positive=float(w[~actual & said].sum()),
        true_negative=float(w[~actual & ~said].sum()),
        false_negative=float(w[actual & ~said].sum()),
    )


def base_rate(labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Weighted mean label."""
    y, _, w = checked(labels, labels, weights)
    return _mean(y, w)


def majority_accuracy(labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Accuracy of always answering the commoner class."""
    y, _, w = checked(labels, labels, weights)
    share = _mean(_classes(y), w)
    return max(share, 1.0 - share)


def base_rate_log_loss(labels: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Log loss of always answering the base rate of these samples, in nats: the least that any constant reaches."""
    y, _, w = checked(labels, labels, weights)
    return _mean(log_losses(y, _mean(y, w)), w)


def _classes(values: F64) -> Bools:
    return values >= _THRESHOLD


def _mean(values: F64 | Bools, weights: F64) -> float:
    return float(np.average(values, weights=weights))
