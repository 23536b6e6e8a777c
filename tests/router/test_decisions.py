"""What a router decides by, and what it does where no model answers: thresholds, `on_error`, the breaker, counters."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from make_candidate import make_candidate

from streamtrain.model.seal import MANIFEST_FILE, VersionError, digest, seal, unseal
from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.router.breaker import Breaker
from streamtrain.router.counters import Tally
from streamtrain.router.load import load
from streamtrain.router.router import NoModelError, Router, ScoringError

ROW = [0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def registry(models):
    with Registry(models, keep=40) as opened:
        yield opened


def publish(registry, seed=0, **changes):
    """A version whose manifest is changed before it is published."""
    staged = registry.stage(build(make_candidate(seed)))
    reseal(staged, **changes)
    return registry.publish(staged)


def reseal(directory, **changes):
    manifest = unseal((directory / MANIFEST_FILE).read_bytes())
    del manifest["manifest_sha256"]
    manifest["files"] = {name: digest((directory / name).read_bytes()) for name in manifest["files"]}
    (directory / MANIFEST_FILE).write_bytes(seal(manifest | changes))


@pytest.mark.parametrize(
    ("manifest", "arguments", "expected"),
    [
        ({}, {}, (0.85, 0.15)),
        ({"router": None}, {}, (0.85, 0.15)),
        ({"router": {}}, {"threshold": 0.6}, (0.6, 0.15)),
        ({"router": {"threshold": 0.7}}, {}, (0.7, 1.0)),
        ({"router": {"threshold": 0.7}}, {"max_uncertainty": 0.2}, (0.7, 0.2)),
        ({"router": {"threshold": 0.7}}, {"threshold": 0.6}, (0.6, 0.15)),
        ({"router": {"threshold": 0.7, "max_uncertainty": 0.5}}, {}, (0.7, 0.5)),
        ({"router": {"threshold": 0.7, "max_uncertainty": 0.5}}, {"threshold": 0.9}, (0.9, 0.5)),
        ({"router": {"threshold": 1, "other": "x"}}, {}, (1.0, 1.0)),
    ],
)
def test_thresholds_are_the_callers_the_manifests_or_tiny_dancers(registry, models, manifest, arguments, expected):
    publish(registry, **manifest)
    router = Router(models, poll_interval_s=None, **arguments)
    threshold, most = expected
    assert router.threshold == threshold
    rows = np.random.default_rng(0).normal(0.5, 3, (300, 5)).tolist()
    decisions = router.route_batch(rows)
    alone = [router.route(row).confidence for row in rows]
    np.testing.assert_allclose([one.confidence for one in decisions], alone, rtol=0, atol=1e-14)
    for one in decisions:
        assert one.use_lightweight is (one.confidence >= threshold and one.uncertainty <= most)
        assert one.failure is None


def test_the_advised_threshold_changes_with_the_version(registry, models):
    publish(registry, 1)
    router = Router(models, poll_interval_s=None)
    assert router.threshold == 0.85
    publish(registry, 2, router={"threshold": 0.55})
    router.poll()
    assert router.threshold == 0.55


@pytest.mark.parametrize(
    "advice", [1, "x", [], {"threshold": 2}, {"threshold": "0.5"}, {"threshold": True}, {"max_uncertainty": -0.1}]
)
def test_advice_that_is_none_is_refused(registry, models, advice):
    first = publish(registry, 1)
    router = Router(models, poll_interval_s=None)
    publish(registry, 2, router=advice)
    assert router.poll() is False
    assert router.version == first
    assert "router" in router.failure


@pytest.mark.parametrize("steps", [0, -1, True, 1.5, "4", 5000, [], 1 << 70])
def test_a_sequence_length_that_is_none_is_refused(registry, models, steps):
    with pytest.raises(VersionError, match="sequence_length is"):
        load(models / "versions" / publish(registry, sequence_length=steps))


def test_powerful_where_no_model_answers(registry, models):
    router = Router(models, on_error="powerful", poll_interval_s=None)
    for decision in (router.route(ROW), *router.route_batch([ROW, ROW])):
        assert (decision.confidence, decision.use_lightweight, decision.uncertainty) == (0.0, False, 1.0)
        assert decision.version == ""
        assert "no version has been published" in decision.failure
    with pytest.raises(NoModelError):
        router.score(ROW)
    version = publish(registry)
    router.poll()
    assert router.route(ROW).failure is None
    for wrong in ([1.0], [float("nan")] * 5, None, ["x"] * 5, [10**400] * 5):
        decision = router.route(wrong)
        assert (decision.use_lightweight, decision.version) == (False, version)
        assert decision.failure
    good, bad = router.route_batch([ROW, [1.0, 2.0, float("inf"), 0.0, 0.0]])
    assert good.failure is None
    assert "'feature_2' is inf" in bad.failure
    assert not router.circuit_is_open  # callers' mistakes are not the model's
    counted = router.stats()[version]
    assert (counted.requests, counted.mistaken, counted.failures, counted.short_circuited) == (8, 6, 0, 0)


class Failing:
    """Stands in for a model's `score`: published ones don't fail, whatever one does."""

    def __init__(self, router):
        self.fails = True
        self.calls = 0
        served = router._follower.served
        self.score, served.score = served.score, self

    def __call__(self, features):
        self.calls += 1
        return float("nan") if self.fails else self.score(features)


def test_the_breaker_stops_asking_a_model_that_fails_and_tries_again(registry, models):
    version = publish(registry)
    router = Router(models, on_error="powerful", breaker_failures=3, breaker_pause_s=60.0, poll_interval_s=None)
    clock = SimpleNamespace(now=0.0)
    router._follower.served.breaker._clock = lambda: clock.now
    model = Failing(router)
    for _ in range(3):
        assert "could not score: the confidence is not a number" in router.route(ROW).failure
    assert router.circuit_is_open
    for _ in range(10):
        assert "failed again and again" in router.route(ROW).failure
        assert "failed again and again" in router.route_batch([ROW])[0].failure
    assert model.calls == 3
    clock.now += 60.0
    assert "not a number" in router.route(ROW).failure  # the trial
    assert "again and again" in router.route(ROW).failure
    assert model.calls == 4
    clock.now += 60.0
    model.fails = False
    assert router.route(ROW).failure is None
    assert not router.circuit_is_open
    assert router.route(ROW).failure is None
    counted = router.stats()[version]
    assert (counted.requests, counted.failures, counted.short_circuited) == (27, 4, 21)
    # The next version starts with a closed one.
    model.fails = True
    for _ in range(3):
        router.route(ROW)
    assert router.circuit_is_open
    publish(registry, 2)
    router.poll()
    assert not router.circuit_is_open
    assert router.route(ROW).failure is None


def test_failures_are_raised_where_that_is_asked_for(registry, models):
    publish(registry)
    router = Router(models, breaker_failures=2, poll_interval_s=None)
    model = Failing(router)
    for message in ("not a number", "not a number", "again and again", "again and again"):
        with pytest.raises(ScoringError, match=message):
            router.route(ROW)
    assert model.calls == 2
    with pytest.raises(ScoringError, match="again and again"):
        router.route_batch([ROW])


def test_failures_far_apart_open_nothing():
    clock = SimpleNamespace(now=0.0)
    breaker = Breaker(3, 10.0, 5.0, lambda: clock.now)
    for _ in range(20):
        breaker.failed()
        clock.now += 6.0
    assert not breaker.is_open
    breaker.failed()
    breaker.failed()
    assert breaker.is_open
    assert not breaker.may_try()
    clock.now += 5.0
    assert [breaker.may_try() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    breaker.failed()
    assert not breaker.is_open


def test_a_version_that_verifies_and_overflows_is_a_failure_not_a_decision(registry, models):
    """Finite weights, finite features, and ∞ - ∞ on the way."""
    first = publish(registry)
    router = Router(models, on_error="powerful", poll_interval_s=None)
    model = router._follower.served.model
    model._stacked[0, :2] = (1e308, -1e308)
    model._output[0] = 1.0
    with np.errstate(all="ignore"):
        decision = router.route([1e30, 1e30, 0.0, 0.0, 0.0])
    assert not decision.use_lightweight
    assert "could not score" in decision.failure
    assert router.stats()[first].failures == 1


def test_each_version_is_counted_and_goes_on_when_it_comes_back(registry, models):
    first = publish(registry, 1)
    router = Router(models, threshold=0.5, max_uncertainty=1.0, poll_interval_s=None)
    rows = np.random.default_rng(0).normal(0.5, 3, (200, 5)).tolist()
    light = sum(router.route(row).use_lightweight for row in rows)
    assert 0 < light < 200
    second = publish(registry, 2)
    router.poll()
    light_second = sum(one.use_lightweight for one in router.route_batch(rows))
    registry.promote(first)
    router.poll()
    light += sum(one.use_lightweight for one in router.route_batch(rows[:50]))
    counted = router.stats()
    assert list(counted) == [second, first]
    assert (counted[first].requests, counted[first].lightweight) == (250, light)
    assert (counted[second].requests, counted[second].lightweight) == (200, light_second)
    assert counted[first].lightweight_share == light / 250
    for seed in range(40):
        publish(registry, seed)
        router.poll()
    assert len(router.stats()) == 32
    assert np.isnan(list(router.stats().values())[-1].lightweight_share)


def test_no_count_is_lost_between_threads():
    tally = Tally()
    start = threading.Barrier(8)

    def count(_):
        start.wait()
        for _ in range(5000):
            tally.add()
        tally.add_many(5000)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(count, range(8)))
    finally:
        sys.setswitchinterval(before)
    assert tally.value == tally.value == 80_000


@pytest.mark.parametrize(
    "arguments",
    [
        {"on_error": "ignore"},
        {"max_sessions": 0},
        {"max_sessions": 1.5},
        {"session_idle_s": 0},
        {"session_idle_s": float("nan")},
        {"breaker_failures": 0},
        {"breaker_within_s": -1},
        {"breaker_pause_s": 0},
    ],
)
def test_an_argument_out_of_range_is_named(models, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Router(models, **arguments)
