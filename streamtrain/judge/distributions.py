"""Quantiles that exact bounds need: of Student's t, and of the beta distribution."""

from __future__ import annotations

import math
from statistics import NormalDist

_NORMAL = NormalDist()
_TINY = 1e-300
_PRECISE = 1e-14
_MOST_TERMS = 10_000
_STEPS = 100


def normal_tail(z: float) -> float:
    """Return the chance that a standard normal variable exceeds `z`, to full relative precision."""
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def normal_upper(tail: float) -> float:
    """Return what a standard normal variable exceeds with the chance `tail`, in (0, 1)."""
    return -_NORMAL.inv_cdf(tail)


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function ``I_x(a, b)``: the beta distribution's cumulative chance at x.

    By its continued fraction (Abramowitz and Stegun 26.5.8), evaluated by Lentz's method (1976), on the side where it
    converges fast.

    Parameters
    ----------
    x : float
        In 0..1.
    a, b : float
        > 0.
    """
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _fraction(x, a, b) / a
    return 1.0 - front * _fraction(1.0 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1.0 / _kept(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _kept(1.0 + term * d)
            c = _kept(1.0 + term / c)
            value *= c * d
        if abs(c * d - 1.0) < _PRECISE:
            break
    return value


def _kept(value: float) -> float:
    """Keep a denominator away from 0."""
    return value if abs(value) > _TINY else _TINY


def t_tail(t: float, degrees_of_freedom: float) -> float:
    """Return the chance that a variable of Student's t distribution exceeds `t`."""
    tail = 0.5 * incomplete_beta(degrees_of_freedom / (degrees_of_freedom + t * t), 0.5 * degrees_of_freedom, 0.5)
    return tail if t >= 0 else 1.0 - tail


def t_quantile(probability: float, degrees_of_freedom: float) -> float:
    """Return a quantile of Student's t distribution.

    Newton's method on the logarithm of the tail, begun at the expansion in the normal quantile (Abramowitz and Stegun
    26.7.5): right in the far tails too, which a holdout that was used many times is judged by.

    Parameters
    ----------
    probability : float
        In (0, 1).
    degrees_of_freedom : float
        ≥ 1.
    """
    if probability < 0.5:
        return -t_quantile(1.0 - probability, degrees_of_freedom)
    tail, n = 1.0 - probability, degrees_of_freedom
    z = normal_upper(tail)
    if z <= 0.0:
        return 0.0
    t = z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    scale = math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2)) / math.sqrt(n * math.pi)
    for _ in range(_STEPS):
        beyond = max(0.5 * incomplete_beta(n / (n + t * t), n / 2, 0.5), _TINY)
        density = max(scale * math.exp(-(n + 1) / 2 * math.log1p(t * t / n)), _TINY)
        step = math.log(beyond / tail) * beyond / density
        # The tail's logarithm bends down: a step too far is taken back by the next, one below 0 is not taken.
        t = max(t + step, t / 2)
        if abs(step) <= 1e-12 * (1.0 + t):
            break
    return t


def share_lower(successes: float, n: float, confidence: float) -> float:
    """Return the exact one-sided lower bound of a share (Clopper and Pearson 1934).

    The least share under which so many successes, or more, are not rarer than ``1 - confidence``. `successes` and `n`
    need not be whole: with the effective number of observations instead of their number, it is the bound of Korn and
    Graubard (1998) for clustered and weighted samples.

    Parameters
    ----------
    successes : float
        In 0..n.
    n : float
        > 0.
    confidence : float
        In (0, 1).
    """
    if successes <= 0.0:
        return 0.0
    low, high = 0.0, min(successes / n, 1.0)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if incomplete_beta(middle, successes, n - successes + 1.0) > 1.0 - confidence:
            high = middle
        else:
            low = middle
    return low
