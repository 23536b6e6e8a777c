from __future__ import annotations

import gc
import resource
import threading
import time
import weakref

import numpy as np
import pytest
from make_candidate import make_candidate

from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.router.load import load
from streamtrain.router.router import NoModelError, Router

ROW = [0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def registry(models):
    with Registry(models, keep=4) as opened:
        yield opened


@pytest.fixture
def router(models):
    """One that looks only when told to."""
    with Router(models, poll_interval_s=None) as opened:
        yield opened


def publish(registry, seed=0):
    return registry.publish(registry.stage(build(make_candidate(seed))))


def damage(models, version, file="fastgrnn_int8.safetensors"):
    path = models / "versions" / version / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def wait_for(condition):
    """However slow the machine is; a test that waits for what never comes is stopped from outside."""
    while not condition():
        time.sleep(0.002)


def test_a_decision_is_tiny_dancers_rule(registry, models):
    version = publish(registry)
    for threshold, max_uncertainty in ((0.85, 0.15), (0.3, 1.0), (0.3, 0.2), (0.0, 0.0), (1.0, 1.0)):
        router = Router(models, threshold=threshold, max_uncertainty=max_uncertainty, poll_interval_s=None)
        seen = set()
        for row in np.random.default_rng(0).normal(0.5, 3, (200, 5)).tolist():
            decision = router.route(row)
            assert decision.confidence == router.score(row) == load(models).score(row)
            assert decision.uncertainty == pytest.approx(1 - 2 * abs(decision.confidence - 0.5))
            expected = decision.confidence >= threshold and decision.uncertainty <= max_uncertainty
            assert decision.use_lightweight is expected
            assert decision.version == version
            seen.add(expected)
        assert seen == ({False} if threshold in (1.0, 0.0) else {True, False})


def test_without_a_version_it_waits_for_one(router, registry, models):
    assert router.version is None
    for call in (lambda: router.route(ROW), lambda: router.score(ROW), lambda: router.score_batch([ROW])):
        with pytest.raises(NoModelError, match=r"no version has been published in .*models yet"):
            call()
    assert router.poll() is False
    version = publish(registry)
    assert router.poll() is True
    assert router.version == router.route(ROW).version == version
    assert router.failure is None


def test_it_follows_current_both_ways(router, registry):
    first, second = publish(registry, 1), publish(registry, 2)
    router.poll()
    score = router.score(ROW)
    assert router.version == second
    registry.rollback()
    assert router.poll() is True
    assert router.version == first
    assert router.score(ROW) != score
    assert router.poll() is False
    registry.promote(second)
    assert router.poll() is True
    assert router.score(ROW) == score


def test_a_model_held_on_to_stays_the_same(router, registry):
    publish(registry, 1)
    router.poll()
    held, score = router.model, router.score(ROW)
    publish(registry, 2)
    router.poll()
    assert router.model is not held
    assert held.score(ROW) == score != router.score(ROW)


@pytest.mark.parametrize("file", ["manifest.json", "fastgrnn_int8.safetensors", "fastgrnn.safetensors", "metrics.json"])
def test_a_damaged_version_is_refused_once_and_the_old_one_serves(router, registry, models, file, caplog):
    first = publish(registry, 1)
    router.poll()
    second = publish(registry, 2)
    damage(models, second, file)
    assert router.poll() is False
    assert router.version == first
    assert file in router.failure
    assert f"version refused, {first} keeps serving" in caplog.text
    # Not read again: not even when it would verify now, nor when `current` was elsewhere in between.
    damage(models, second, file)
    assert router.poll() is False
    registry.rollback()
    assert router.poll() is False
    assert router.failure is None
    registry.promote(second)
    assert router.poll() is False
    assert file in router.failure
    assert router.version == first
    assert caplog.text.count("version refused") == 1
    third = publish(registry, 3)
    assert router.poll() is True
    assert (router.version, router.failure) == (third, None)


def test_a_first_version_that_is_damaged_is_told_to_the_caller(router, registry, models):
    damage(models, publish(registry))
    assert router.poll() is False
    with pytest.raises(NoModelError, match=r"fastgrnn_int8\.safetensors was changed"):
        router.route(ROW)


def test_a_version_under_another_name_is_refused(router, registry, models):
    first = publish(registry, 1)
    router.poll()
    (models / "versions" / first).rename(models / "versions" / "v5")
    (models / "next").symlink_to("versions/v5")
    (models / "next").rename(models / "current")
    assert router.poll() is False
    assert f"calls it {first!r}; expected 'v5'" in router.failure


@pytest.mark.parametrize("how", ["removed", "dangling", "a directory", "all gone"])
def test_a_current_that_is_none_leaves_the_old_one_serving(router, registry, models, how):
    version = publish(registry)
    router.poll()
    (models / "current").unlink()
    if how == "dangling":
        (models / "current").symlink_to("versions/v5")
    elif how == "a directory":
        (models / "current").mkdir()
    elif how == "all gone":
        models.rename(models.with_name("elsewhere"))
    assert router.poll() is False
    assert router.route(ROW).version == version


def test_what_cannot_be_read_just_now_is_tried_again(registry, models, caplog):
    first = publish(registry, 1)
    router = Router(models, poll_interval_s=None)
    second = publish(registry, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert router.poll() is False
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert router.version == first
    assert "Too many open files" in router.failure
    wait_for(router.poll)
    assert (router.version, router.failure) == (second, None)
    assert caplog.text.count("could not be read") == 1


def test_the_thread_follows_by_itself_and_stops_when_closed(registry, models):
    before = threading.active_count()
    with Router(models, poll_interval_s=0.001) as router:
        assert router.version is None
        for seed in range(5):
            version = publish(registry, seed)
            wait_for(lambda version=version: router.version == version)
    assert threading.active_count() == before
    publish(registry, 9)
    assert router.route(ROW).version == version
    router.close()


def test_a_router_that_is_dropped_is_collected_with_its_thread(registry, models):
    publish(registry)
    before = threading.active_count()
    router = Router(models, poll_interval_s=0.001)
    gone = weakref.ref(router)
    del router
    wait_for(lambda: gc.collect() is not None and gone() is None and threading.active_count() == before)


def test_it_does_not_grow(registry, models):
    router = Router(models, poll_interval_s=None)
    for seed in range(40):  # more than it counts for
        publish(registry, seed)
        router.poll()
    for seed in range(30):
        damage(models, publish(registry, seed))
        router.poll()
    assert len(router._follower._failures) == 30
    gc.collect()
    objects = len(gc.get_objects())
    for seed in range(30, 60):
        publish(registry, seed)
        router.poll()
    gc.collect()
    assert len(gc.get_objects()) - objects < 100


@pytest.mark.parametrize(
    "arguments",
    [
        {"threshold": 1.1},
        {"threshold": -0.1},
        {"max_uncertainty": 2},
        {"threshold": float("nan")},
        {"poll_interval_s": 0},
        {"poll_interval_s": -1},
        {"poll_interval_s": float("inf")},
    ],
)
def test_an_argument_out_of_range_is_named(models, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Router(models, **arguments)
