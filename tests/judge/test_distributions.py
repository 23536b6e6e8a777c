from __future__ import annotations

import math

import numpy as np
import pytest

from streamtrain.judge.distributions import incomplete_beta, normal_tail, normal_upper, share_lower, t_quantile, t_tail


# scipy.special.betainc(a, b, x)
@pytest.mark.parametrize(
    ("x", "a", "b", "value"),
    [
        (0.3, 2.0, 5.0, 0.579825),
        (0.01, 0.5, 0.5, 0.06376856085851986),
        (0.9, 900.0, 101.0, 0.5265990812951663),
        (0.2, 2500.0, 0.5, 0.0),
        (1.0, 3.0, 4.0, 1.0),
        (0.0, 3.0, 4.0, 0.0),
    ],
)
def test_the_incomplete_beta_function(x: float, a: float, b: float, value: float) -> None:
    assert incomplete_beta(x, a, b) == pytest.approx(value, rel=1e-9, abs=1e-12)


def test_it_is_the_binomial_tail() -> None:
    for k in range(1, 13):
        tail = sum(math.comb(12, i) * 0.35**i * 0.65 ** (12 - i) for i in range(k, 13))
        assert incomplete_beta(0.35, k, 12 - k + 1) == pytest.approx(tail)


# scipy.stats.t.ppf
@pytest.mark.parametrize(
    ("probability", "df", "quantile"),
    [
        (0.95, 1.0, 6.313751514675043),
        (0.975, 19.0, 2.0930240544083087),
        (1 - 1e-6, 19.0, 6.7233942821860095),
        (1 - 1e-9, 3.0, 1033.1096842432753),
        (0.999999, 4999.0, 4.7590390776105895),
        (0.05, 50.0, -1.6759050251630967),
        (0.5, 7.0, 0.0),
    ],
)
def test_t_quantiles_in_far_tails(probability: float, df: float, quantile: float) -> None:
    assert t_quantile(probability, df) == pytest.approx(quantile, rel=1e-6, abs=1e-9)


def test_normal_tails_are_each_others_inverse() -> None:
    for tail in (0.4, 0.05, 1e-3, 1e-9):
        assert normal_tail(normal_upper(tail)) == pytest.approx(tail, rel=1e-9)


# scipy.stats.beta.ppf(1 - confidence, x, n - x + 1)
@pytest.mark.parametrize(
    ("successes", "n", "confidence", "lower"),
    [(199, 200, 0.95, 0.9765015), (200, 200, 0.95, 0.9851330), (850, 1000, 0.95, 0.8301636), (0, 10, 0.95, 0.0)],
)
def test_exact_lower_bounds_of_shares(successes: float, n: float, confidence: float, lower: float) -> None:
    assert share_lower(successes, n, confidence) == pytest.approx(lower, abs=1e-6)


def test_the_lower_bound_lies_above_the_truth_as_rarely_as_it_promises() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.binomial(120, 0.93, 400)
    bounds = {int(k): share_lower(int(k), 120, 0.9) for k in np.unique(drawn)}
    assert sum(bounds[int(k)] > 0.93 for k in drawn) <= 58  # at most 10 % of 400, with a standard error of 6


@pytest.mark.parametrize(("probability", "degrees"), [(0.6, 1.0), (0.95, 49.0), (0.999, 7.5), (0.2, 300.0)])
def test_the_tail_of_t_is_what_its_quantile_leaves(probability: float, degrees: float) -> None:
    assert t_tail(t_quantile(probability, degrees), degrees) == pytest.approx(1 - probability, rel=1e-8)
