"""The threshold of a promised error rate: exact bounds, and how often the promise is kept."""

from __future__ import annotations

import numpy as np
import pytest

from streamtrain.judge.promise import Held, Promise, binomial_tail, least_samples, promise, upper_bound


def world(rng: np.random.Generator, n: int, per_session: int = 1, explored: bool = False) -> Held:
    """A miscalibrated model's answers."""
    score = rng.random(n)
    chance = 0.5 * (1 - score) ** 1.5
    luck = np.repeat(rng.random(-(-n // per_session)), per_session)[:n]
    own = rng.random(n) < 0.5
    wrong = np.where(own | (per_session == 1), rng.random(n), luck) < chance
    groups = (np.arange(n) // per_session).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    weights = np.ones(n)
    if explored:
        p = np.where(score > 0.6, 0.8, 0.2)
        weights = np.where(rng.random(n) < p, 1 / p, 0.0)
    return Held(1.0 - wrong, 0.3 + 0.7 * score, weights, groups)


def true_error(threshold: float) -> float:
    """Mean of ``(1 - score)^1.5 / 2`` over the scores that are routed."""
    lowest = max(0.0, (threshold - 0.3) / 0.7)
    return float(0.5 * (1 - lowest) ** 1.5 / 2.5)


@pytest.mark.parametrize(("n_wrong", "n"), [(0, 149), (0, 1), (3, 200), (17, 900), (50, 50), (400, 20_000)])
def test_tails_and_bounds_are_those_of_scipy(n_wrong: int, n: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    for rate in (0.001, 0.02, 0.5):
        assert binomial_tail(n_wrong, n, rate) == pytest.approx(stats.binom.cdf(n_wrong, n, rate), rel=1e-9, abs=1e-300)
    for confidence in (0.9, 0.95, 0.999):
        expected = 1.0 if n_wrong == n else stats.beta.ppf(confidence, n_wrong + 1, n - n_wrong)
        assert upper_bound(n_wrong, n, confidence) == pytest.approx(expected, rel=1e-9)


def test_least_samples_is_where_no_mistake_is_just_enough() -> None:
    for rate, confidence in ((0.02, 0.95), (0.1, 0.9), (0.001, 0.99)):
        n = least_samples(rate, confidence)
        assert binomial_tail(0, n, rate) <= 1 - confidence < binomial_tail(0, n - 1, rate)


@pytest.mark.parametrize(
    ("per_session", "explored", "n"),
    [(1, False, 2000), (5, False, 4000), (1, True, 8000)],
    ids=["alone", "sessions", "weights"],
)
def test_the_promise_is_kept(per_session: int, explored: bool, n: int) -> None:
    """Of 100 draws at 90 %, at most 10 are expected to break it; 20 would be seen less than once in 500 times."""
    rng = np.random.default_rng(5)
    given: list[Promise] = []
    errors = []
    for _ in range(100):
        held, guide = (world(rng, n, per_session, explored) for _ in range(2))
        made = promise(held, guide, 0.05, 0.9)
        assert made.kept or made.threshold == 1.0
        if made.kept:
            given.append(made)
            errors.append(true_error(made.threshold))
    assert len(given) >= (90 if per_session == 1 else 45)
    assert sum(error > 0.05 for error in errors) < 20
    # And it is not kept by asking for far too much: the best threshold lets half of the traffic through.
    assert np.median([one.share for one in given]) > 0.3
    assert {one.test for one in given} == {"binomial" if per_session == 1 and not explored else "betting"}


def test_a_threshold_chosen_without_a_bound_breaks_it_half_of_the_time() -> None:
    """What the method is for: the lowest threshold whose error looks low enough is too low."""
    rng = np.random.default_rng(6)
    broken = 0
    for _ in range(100):
        held = world(rng, 2000)
        order = np.argsort(-held.probabilities)
        rates = np.cumsum(held.labels[order] < 0.5) / np.arange(1, len(order) + 1)
        broken += true_error(float(held.probabilities[order][np.flatnonzero(rates <= 0.05)[-1]])) > 0.05
    assert broken > 30


def test_figures_are_those_of_the_set_aside_samples() -> None:
    rng = np.random.default_rng(1)
    held, guide = world(rng, 3000), world(rng, 3000)
    made = promise(held, guide, 0.05, 0.95)
    routed = held.probabilities >= made.threshold
    assert (made.n_routed, made.n_samples) == (routed.sum(), 3000)
    assert made.share == pytest.approx(routed.mean())
    assert made.error == pytest.approx(1 - held.labels[routed].mean())
    assert made.bound is not None
    assert made.error < made.bound <= 0.05
    assert f"{made.threshold:.4g}" in made.text
    # Scores alone decide who is routed: labels of samples below the threshold change nothing.
    flipped = Held(np.where(routed, held.labels, 0.0), held.probabilities, held.weights, held.groups)
    assert promise(flipped, guide, 0.05, 0.95).threshold == made.threshold


def test_without_a_threshold_everything_goes_to_the_powerful_model() -> None:
    rng = np.random.default_rng(2)
    held = world(rng, 200)
    for one, guide in ((held, held), (held, world(rng, 0)), (world(rng, 0), held)):
        made = promise(one, guide, 0.001, 0.95)
        assert (made.threshold, made.kept, made.n_routed, made.error) == (1.0, False, 0, None)
        assert "2,995" in made.text
    bad = Held(np.zeros(500), held.probabilities.repeat(3)[:500], np.ones(500), np.arange(500, dtype=np.uint64))
    assert not promise(bad, bad, 0.05, 0.95).kept


def test_samples_without_weight_count_nowhere() -> None:
    rng = np.random.default_rng(3)
    held, guide = world(rng, 3000), world(rng, 3000)
    junk = np.r_[np.ones(3000), np.zeros(3000)]
    doubled = Held(
        np.r_[held.labels, np.zeros(3000)],
        np.r_[held.probabilities, np.ones(3000)],
        junk,
        np.r_[held.groups, held.groups],
    )
    assert promise(doubled, guide, 0.05, 0.95) == promise(held, guide, 0.05, 0.95)
