from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from streamtrain.judge.paired import mean_difference, sign_test, t_quantile


def test_without_groups_it_is_the_one_sample_t_interval() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(0.1, 1.0, 50)
    estimate = mean_difference(d, np.ones(50))
    assert estimate.mean == pytest.approx(d.mean())
    assert estimate.standard_error == pytest.approx(d.std(ddof=1) / math.sqrt(50))
    assert estimate.degrees_of_freedom == pytest.approx(49)
    assert estimate.n_groups == 50
    # R: qt(0.95, 49) = 1.676551
    assert estimate.lower(0.95) == pytest.approx(d.mean() - 1.676551 * estimate.standard_error, rel=1e-4)
    assert estimate.upper(0.95) == pytest.approx(d.mean() + 1.676551 * estimate.standard_error, rel=1e-4)


def test_weights_do_not_depend_on_their_unit_and_zero_is_absent() -> None:
    rng = np.random.default_rng(1)
    d, w = rng.normal(size=30), rng.random(30)
    w[:5] = 0
    full, scaled, cut = mean_difference(d, w), mean_difference(d, 1000 * w), mean_difference(d[5:], w[5:])
    assert full.mean == pytest.approx(np.average(d, weights=w))
    for other in (scaled, cut):
        assert other.standard_error == pytest.approx(full.standard_error)
        assert other.degrees_of_freedom == pytest.approx(full.degrees_of_freedom)
        assert other.n_groups == full.n_groups == 25


def test_one_heavy_sample_counts_as_few() -> None:
    w = np.array([30.0] + [1.0] * 30)
    estimate = mean_difference(np.arange(31.0), w)
    assert estimate.degrees_of_freedom == pytest.approx(60**2 / (900 + 30) - 1)


def test_repeating_every_sample_within_its_group_adds_no_certainty() -> None:
    rng = np.random.default_rng(2)
    d = rng.normal(size=40)
    once = mean_difference(d, np.ones(40))
    groups = np.repeat(np.arange(40, dtype=np.uint64), 10)
    grouped = mean_difference(np.repeat(d, 10), np.ones(400), groups)
    assert grouped.standard_error == pytest.approx(once.standard_error)
    assert grouped.degrees_of_freedom == pytest.approx(once.degrees_of_freedom)
    assert mean_difference(np.repeat(d, 10), np.ones(400)).standard_error < once.standard_error / 3


def test_one_group_proves_nothing() -> None:
    estimate = mean_difference(np.array([1.0, 1.1]), np.ones(2), np.zeros(2, np.uint64))
    assert estimate.lower(0.95) == -math.inf
    assert estimate.upper(0.95) == math.inf


def test_no_spread_is_no_margin() -> None:
    estimate = mean_difference(np.full(10, 0.25), np.ones(10))
    assert estimate.lower(0.99) == estimate.upper(0.99) == pytest.approx(0.25)


@pytest.mark.parametrize("shared", [False, True], ids=["independent", "sessions"])
def test_the_bounds_miss_as_rarely_as_they_promise(shared: bool) -> None:
    rng = np.random.default_rng(3)
    missed = missed_without_groups = 0
    for _ in range(2000):
        sizes = rng.integers(1, 9, 60)
        groups = np.repeat(np.arange(60, dtype=np.uint64), sizes)
        d = rng.normal(size=len(groups)) + (rng.exponential(1.0, 60)[groups.astype(int)] if shared else 1.0)
        w = rng.choice([0.5, 1.0, 2.0], len(groups))
        missed += mean_difference(d, w, groups).lower(0.95) > 1.0
        missed_without_groups += mean_difference(d, w).lower(0.95) > 1.0
    # 5 % would be 100 of 2,000, with a standard error of 10; bounds on a skewed mean miss less often on this side.
    assert 30 <= missed <= 140
    assert missed_without_groups > 200 if shared else 60 <= missed_without_groups <= 140


# scipy.stats.t.ppf
@pytest.mark.parametrize(
    ("probability", "df", "quantile"),
    [
        (0.95, 10, 1.8124611),
        (0.975, 10, 2.2281389),
        (0.95, 30, 1.6972609),
        (0.99, 20, 2.5279770),
        (0.95, 1000, 1.6463788),
        (0.999, 50, 3.2614091),
        (0.5, 10, 0.0),
    ],
)
def test_t_quantiles(probability: float, df: float, quantile: float) -> None:
    assert t_quantile(probability, df) == pytest.approx(quantile, rel=2e-3, abs=1e-9)


def test_the_sign_test_counts_every_outcome_of_the_coins() -> None:
    n = 9
    outcomes = [sum(coins) for coins in product((0, 1), repeat=n)]
    for n_worse in range(n + 1):
        d = np.array([-1.0] * n_worse + [1.0] * (n - n_worse) + [0.0] * 20)
        test = sign_test(d, np.ones(len(d)))
        assert (test.n_better, test.n_worse) == (n - n_worse, n_worse)
        assert test.p_worse == pytest.approx(sum(k >= n_worse for k in outcomes) / 2**n)
        assert test.p_better == pytest.approx(sum(k >= n - n_worse for k in outcomes) / 2**n)


# scipy.stats.binomtest(k, n, alternative="greater").pvalue
@pytest.mark.parametrize(
    ("k", "n", "p"), [(60, 100, 0.028443967), (540, 1000, 0.00622207), (5100, 10000, 0.02329276), (0, 5, 1.0)]
)
def test_large_sign_tests(k: int, n: int, p: float) -> None:
    d = np.array([-1.0] * k + [1.0] * (n - k))
    assert sign_test(d, np.ones(n)).p_worse == pytest.approx(p, rel=1e-6)


def test_no_difference_is_no_evidence() -> None:
    test = sign_test(np.zeros(10), np.ones(10))
    assert (test.n_better, test.n_worse, test.p_worse, test.p_better) == (0, 0, 1.0, 1.0)


def test_groups_vote_once_and_even_ones_not_at_all() -> None:
    d = np.array([-1, -1, -1, 1, 1, -1, 0, 1.0])
    groups = np.array([0, 0, 0, 0, 1, 1, 2, 3], np.uint64)
    test = sign_test(d, np.ones(8), groups)
    assert (test.n_better, test.n_worse) == (1, 1)
    weighted = sign_test(d, np.array([0.1, 0.1, 0.1, 0.3, 1, 1, 1, 1]), groups)
    assert (weighted.n_better, weighted.n_worse) == (1, 0)


def test_where_weights_differ_the_weighted_mean_decides() -> None:
    """Few samples lost that count tenfold outweigh more that were won; counted, they would look like a gain."""
    rng = np.random.default_rng(0)
    differences, weights = np.zeros(20_000), np.ones(20_000)
    weights[rng.random(20_000) < 0.1] = 10.0
    heavy, light = np.flatnonzero(weights > 1), np.flatnonzero(weights == 1)
    differences[rng.choice(light, 75, replace=False)] = 1.0
    differences[rng.choice(heavy, 15, replace=False)] = -1.0
    assert sign_test(differences, np.ones(20_000)).p_worse > 0.5
    test = sign_test(differences, weights)
    assert (test.n_better, test.n_worse) == (75, 15)
    assert test.p_worse < 0.05
    assert test.p_better == pytest.approx(1 - test.p_worse)
    # It is the p-value to which the bound of the weighted mean is 0.
    assert mean_difference(differences, weights).upper(1 - test.p_worse) == pytest.approx(0, abs=1e-9)
