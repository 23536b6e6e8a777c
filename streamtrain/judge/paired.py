"""Paired comparison of two sets of answers to the same samples.

Samples of one session resemble each other, so the unit that is counted is the session (the group), not the sample: ten
samples of one conversation are closer to one observation than to ten. Where every sample is its own group, everything
here reduces to the textbook tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from streamtrain.judge.distributions import share_lower, t_quantile, t_tail
from streamtrain.types import F64, U64


@dataclass(frozen=True, slots=True)
class MeanDifference:
    """A weighted mean of paired differences, with its uncertainty.

    Attributes
    ----------
    mean, standard_error : float
        In the unit of the differences.
    degrees_of_freedom : float
        Of the t distribution that the bounds come from.
    n_groups : int
        Groups with any weight.
    """

    mean: float
    standard_error: float
    degrees_of_freedom: float
    n_groups: int

    def lower(self, confidence: float) -> float:
        """Return the one-sided lower bound: the true mean lies above it with this confidence."""
        return self.mean - self._margin(confidence)

    def upper(self, confidence: float) -> float:
        """Return the one-sided upper bound: the true mean lies below it with this confidence."""
        return self.mean + self._margin(confidence)

    def lower_share(self, confidence: float) -> float:
        """Return the one-sided lower bound where the mean is that of zeros and ones, such as an accuracy.

        The exact bound of Clopper and Pearson, on the effective number of observations (Korn and Graubard 1998): as
        many as would have this standard error if each were drawn by itself. It holds for shares near 1 too, where the
        bound from the t distribution is too narrow.
        """
        if self.standard_error == math.inf:
            return 0.0
        spread = self.mean * (1.0 - self.mean)
        n = spread / self.standard_error**2 + 1.0 if self.standard_error > 0 else self.degrees_of_freedom + 1.0
        return share_lower(self.mean * n, n, confidence)

    def _margin(self, confidence: float) -> float:
        if self.standard_error == 0:
            return 0.0
        return t_quantile(confidence, self.degrees_of_freedom) * self.standard_error


def mean_difference(differences: F64, weights: F64, groups: U64 | None = None) -> MeanDifference:
    """Estimate a weighted mean of differences, allowing for resemblance within groups.

    ``mean = Σ w d / Σ w``; its variance is that of a ratio, linearised, between groups (Liang and Zeger 1986):
    ``G/(G-1) Σ_g (Σ_{i∈g} w_i (d_i - mean))² / (Σ w)²`` over the G groups. Bounds are taken from the t distribution
    with as many degrees of freedom as there are effective groups, ``(Σ W_g)² / Σ W_g² - 1`` with W_g the weight of a
    group (Kish 1965): an approximation by the central limit theorem, not an exact test.

    Parameters
    ----------
    differences : float64, (N,)
        Finite.
    weights : float64, (N,)
        ≥ 0.
    groups : uint64, (N,), optional
        Each sample is its own without.

    Returns
    -------
    MeanDifference
        With fewer than two groups the standard error is infinite: nothing can be concluded.
    """
    total = float(weights.sum())
    mean = float((weights * differences).sum() / total)
    group_weights, scores = weights, weights * (differences - mean)
    if groups is not None:
        group_weights, scores = _sums(group_weights, groups), _sums(scores, groups)
    counted = group_weights > 0
    n_groups = int(counted.sum())
    if n_groups < 2:
        return MeanDifference(mean, math.inf, 1.0, n_groups)
    variance = n_groups / (n_groups - 1) * float((scores**2).sum()) / total**2
    n_effective = total**2 / float((group_weights**2).sum())
    return MeanDifference(mean, math.sqrt(variance), max(n_effective - 1.0, 1.0), n_groups)


@dataclass(frozen=True, slots=True)
class SignTest:
    """How many groups one set of answers did better in, and worse, and how likely that is between equals.

    Attributes
    ----------
    n_better, n_worse : int
        Groups in which the first set of answers has more, and fewer, right than the second.
    p_worse, p_better : float
        Chance of so many worse (better) groups, or more, when both sets are equally good.
    """

    n_better: int
    n_worse: int
    p_worse: float
    p_better: float


def sign_test(differences: F64, weights: F64, groups: U64 | None = None) -> SignTest:
    """Compare two sets of decisions by an exact one-sided sign test over groups.

    With each sample its own group and ``differences`` of -1, 0 and 1 this is McNemar's test in its exact form: of the
    samples on which exactly one set is right, each set wins as often as a fair coin (McNemar 1947). Groups whose
    balance is even are left out, as McNemar's concordant pairs are.

    Where samples have different weights (inverse propensities), counting groups would test another quantity than the
    weighted accuracy that is meant: then the chances are those of the weighted mean by the t distribution
    (`mean_difference`), and no longer exact.

    Parameters
    ----------
    differences : float64, (N,)
        Right by the first (1 or 0) minus right by the second.
    weights : float64, (N,)
        ≥ 0.
    groups : uint64, (N,), optional
        Each sample is its own without.

    Returns
    -------
    SignTest
    """
    balance = weights * differences
    if groups is not None:
        balance = _sums(balance, groups)
    # Sums of weights that cancel on paper may leave a rounding error behind.
    noise = 1e-9 * float(weights.max(initial=0.0))
    n_better, n_worse = int((balance > noise).sum()), int((balance < -noise).sum())
    n = n_better + n_worse
    counted = weights[weights > 0]
    if n and counted.max(initial=0.0) > counted.min(initial=np.inf) * (1.0 + 1e-9):
        mean = mean_difference(differences, weights, groups)
        if mean.standard_error == math.inf:
            return SignTest(n_better, n_worse, 1.0, 1.0)
        t = mean.mean / mean.standard_error
        return SignTest(n_better, n_worse, t_tail(-t, mean.degrees_of_freedom), t_tail(t, mean.degrees_of_freedom))
    return SignTest(n_better, n_worse, _coin_tail(n_worse, n), _coin_tail(n_better, n))


def _sums(values: F64, groups: U64) -> F64:
    _, index = np.unique(groups, return_inverse=True)
    return np.bincount(index, weights=values).astype(np.float64)


def _coin_tail(k: int, n: int) -> float:
    """Return the chance of k or more heads in n tosses of a fair coin, exact up to rounding."""
    if k <= 0:
        return 1.0
    i = np.arange(1, n + 1, dtype=np.float64)
    log_choose = np.concatenate(([0.0], np.cumsum(np.log((n - i + 1) / i))))
    return float(min(1.0, np.exp(log_choose[k:] - n * math.log(2)).sum()))
