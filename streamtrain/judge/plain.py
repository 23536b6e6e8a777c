"""A plain model beside the candidate: a logistic regression, fitted to one half of the holdout and asked the other.

A model that learned nothing can still lean the right way by accident, and where the features say much, that is truly
better than any constant. It is nowhere near what the features give away, though, and that a plain model shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamtrain.judge.metrics import log_losses
from streamtrain.judge.paired import MeanDifference, mean_difference
from streamtrain.types import F32, F64, U64, Bools

ASKED_SHARE = 0.5
"""A candidate must reach this share of the plain model's gain over the base rate. On six logs, models trained on
shuffled labels reach at most a fifth where the plain model gains anything, good ones four fifths and more."""

MOST_FITTED = 2000
"""Samples that each half's regression is fitted to: more make it slower, and hardly better."""
_STEPS = 12
_CONVERGED = 1e-6
_RIDGE = 4.0
_MAX_LOGIT = 30.0


@dataclass(frozen=True, slots=True)
class PlainGain:
    """Gains in log loss over always giving the training base rate, in nats.

    Attributes
    ----------
    plain : float
        Of the plain model.
    beyond : MeanDifference
        The candidate's, minus `ASKED_SHARE` of the plain model's.
    """

    plain: float
    beyond: MeanDifference


def plain_gain(
    features: F32,
    labels: F64,
    weights: F64,
    groups: U64 | None,
    n_trained: int,
    base_rate_losses: F64,
    losses: F64,
) -> PlainGain | None:
    """Compare the candidate's gain over the base rate with a plain model's.

    Parameters
    ----------
    features, labels, weights, groups
        Of the holdout; as in `plain_answers`.
    n_trained : int
        Samples that the candidate was trained on.
    base_rate_losses, losses : float64, (N,)
        Log loss on each sample of the training base rate, and of the candidate.

    Returns
    -------
    PlainGain or None
        None where there is no plain model.
    """
    answers = plain_answers(features, labels, weights, groups, n_trained)
    if answers is None:
        return None
    gains = base_rate_losses - log_losses(labels, answers)
    beyond = base_rate_losses - losses - ASKED_SHARE * gains
    return PlainGain(float(np.average(gains, weights=weights)), mean_difference(beyond, weights, groups))


def plain_answers(features: F32, labels: F64, weights: F64, groups: U64 | None, most_fitted: int) -> F64 | None:
    """Answer each half of the samples by a logistic regression that is fitted to the other half.

    Parameters
    ----------
    features : float32, (N, D)
    labels, weights : float64, (N,)
        Weights > 0.
    groups : uint64, (N,), or None
        Sessions, which stay whole.
    most_fitted : int
        Fit to no more samples than that: as few as the candidate was trained on.

    Returns
    -------
    float64, (N,), or None
        Probabilities of label 1; None where a half lacks one of the classes.
    """
    halves = _halves(len(labels), groups)
    answers = np.empty(len(labels))
    for asked in (halves, ~halves):
        rows = np.flatnonzero(~asked)[: max(1, min(MOST_FITTED, most_fitted))]
        positive = labels[rows] >= 0.5
        if positive.all() or not positive.any() or not asked.any():
            return None
        x = features[rows].astype(np.float64)
        mean, spread = x.mean(axis=0), x.std(axis=0)
        spread[spread == 0] = 1.0
        fit = _fit((x - mean) / spread, labels[rows], weights[rows])
        scaled = (features[asked].astype(np.float64) - mean) / spread
        answers[asked] = _sigmoid(fit[0] + scaled @ fit[1:])
    return answers


def _halves(n: int, groups: U64 | None) -> Bools:
    numbers = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    halves: Bools = np.equal(numbers & 1, 0)
    return halves


def _fit(x: F64, y: F64, w: F64) -> F64:
    """Fit intercept and slopes by Newton's method, with a ridge on the slopes."""
    design = np.column_stack([np.ones(len(x)), x])
    w = w / w.mean()
    ridge = np.full(design.shape[1], _RIDGE)
    ridge[0] = 1e-6
    rate = min(max(float(np.average(y, weights=w)), 1e-3), 1.0 - 1e-3)
    fit = np.zeros(design.shape[1])
    fit[0] = np.log(rate / (1.0 - rate))
    for _ in range(_STEPS):
        p = _sigmoid(design @ fit)
        gradient = design.T @ (w * (y - p)) - ridge * fit
        curvature = (design * (w * p * (1.0 - p))[:, None]).T @ design + np.diag(ridge)
        step = np.clip(np.linalg.solve(curvature, gradient), -2.0, 2.0)
        fit += step
        if np.abs(step).max() < _CONVERGED:
            break
    return fit


def _sigmoid(z: F64) -> F64:
    result: F64 = 1.0 / (1.0 + np.exp(-np.clip(z, -_MAX_LOGIT, _MAX_LOGIT)))
    return result
