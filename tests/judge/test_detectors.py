"""ADWIN and Page-Hinkley against River's own, value by value; PSI against its formula."""

import itertools
import json

import numpy as np
import pytest
from river import drift

from streamtrain.judge.adwin import Adwin
from streamtrain.judge.drift import Monitor, losses_of
from streamtrain.judge.page_hinkley import PageHinkley
from streamtrain.judge.shift import BLOCK, Reference, Shift

N = 4000


def _streams():
    rng = np.random.default_rng(7)
    i = np.arange(N)
    yield "abrupt", (rng.random(N) < np.where(i < N // 2, 0.2, 0.4)).astype(float)
    yield "better", (rng.random(N) < np.where(i < N // 2, 0.5, 0.2)).astype(float)
    yield "back and forth", rng.random(N) * np.where(i % 1700 < 800, 0.5, 1)
    yield "gradual", np.clip(rng.normal(0.3, 0.1, N) + i / N * 0.2, 0, 1)
    yield "the same", (rng.random(N) < 0.3).astype(float)
    yield "constant", np.full(N, 0.25)


STREAMS = list(_streams())


@pytest.mark.parametrize(("name", "values"), STREAMS, ids=[name for name, _ in STREAMS])
@pytest.mark.parametrize("delta", [0.3, 0.002, 1e-5])
def test_adwin_is_rivers_to_the_last_bit(name, values, delta):
    theirs, ours = drift.ADWIN(delta=delta), Adwin(delta)
    n_found = 0
    for value in values.tolist():
        theirs.update(value)
        rise = ours.add(value)
        n_found += rise != 0
        assert (rise != 0, ours.width) == (theirs.drift_detected, theirs.width)
        assert ours._total == theirs.total
        assert ours._variance == pytest.approx(theirs.variance, abs=1e-9)
    assert n_found > 0 or name in ("the same", "constant") or delta == 1e-5


@pytest.mark.parametrize(("name", "values"), STREAMS, ids=[name for name, _ in STREAMS])
@pytest.mark.parametrize(("threshold", "delta"), [(50, 0.005), (5, 0.02), (20, 0.05)])
@pytest.mark.parametrize("alpha", [1 - 1e-4, 1.0])
def test_page_hinkley_is_rivers_to_the_last_bit(name, values, threshold, delta, alpha):
    theirs = drift.PageHinkley(threshold=threshold, delta=delta, alpha=alpha, mode="up")
    ours = PageHinkley(threshold, delta, alpha=alpha)
    for value in values.tolist():
        theirs.update(value)
        assert ours.add(value) == theirs.drift_detected
        assert ours._sum == theirs._sum_increase


@pytest.mark.parametrize("seed", range(5))
def test_the_place_of_a_change_is_found(seed):
    rng = np.random.default_rng(seed)
    values = (rng.random(6000) < np.where(np.arange(6000) < 4000, 0.25, 0.55)).astype(float).tolist()
    detector = Adwin(1e-5)
    found = next(i for i, value in enumerate(values) if detector.add(value) > 0)
    assert 4000 <= found < 4300
    assert abs(found + 1 - detector.ago - 4000) < 100


def world(seed, change=3000, n=6000):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < np.where(np.arange(n) < change, 0.8, 0.45)).astype(np.float32)
    probabilities = np.clip(rng.normal(0.78, 0.05, n), 0, 1)
    return 1.0 - labels.astype(np.float64), losses_of(labels, probabilities)


@pytest.mark.parametrize("block", [1, 37, 6000])
def test_the_monitor_finds_the_same_in_blocks_of_any_size_and_after_every_restart(block):
    errors, losses = world(3)
    whole = Monitor(1e-5, 40.0)
    expected = [(one.at, one.ago, one.text) for one in whole.add(errors, losses)]
    assert len(expected) == 1
    assert 3000 <= expected[0][0] < 3300
    kept, found = Monitor(1e-5, 40.0).state(), []
    for start in range(0, len(errors), block):
        again = Monitor(1e-5, 40.0).resume(json.loads(json.dumps(kept)))
        part = again.add(errors[start : start + block], losses[start : start + block])
        found += [(start + one.at, one.ago, one.text) for one in part]
        kept = again.state()
    assert found == expected
    assert kept == whole.state()


def test_getting_better_is_no_alarm():
    errors, losses = world(3, change=0, n=3000)
    after = world(4, change=3000, n=3000)
    monitor = Monitor(1e-5, 40.0)
    assert monitor.add(np.concatenate((errors, after[0])), np.concatenate((losses, after[1]))) == []
    # And what gets worse again after that is one at once: the time before the better one is forgotten.
    assert len(monitor.add(errors, losses)) == 1


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_no_alarm_while_nothing_changes(rate):
    """`make bench-drift` counts over millions."""
    rng = np.random.default_rng(11)
    labels = (rng.random(60_000) >= rate).astype(np.float32)
    losses = losses_of(labels, np.full(60_000, 1 - rate))
    assert Monitor(1e-5, 40.0).add(1.0 - labels, losses) == []


def features(n, seed=0, moved=0.0):
    rng = np.random.default_rng(seed)
    columns = (rng.normal(moved, 1, n), rng.integers(0, 3, n), np.full(n, 2.0), rng.random(n))
    return np.column_stack(columns).astype(np.float32)


def test_psi_is_its_formula():
    reference = Reference.of(features(20_000))
    assert [len(one) for one in reference.shares] == [10, 3, 3, 10]
    now = features(BLOCK, 1, moved=0.7)
    shift = Shift(reference, 0.25)
    assert shift.add(now, np.arange(BLOCK, dtype=np.uint64))
    for d, psi in enumerate(shift.psi):
        inner = np.array([-np.inf, *reference.edges[d], np.inf])
        p = np.array([np.mean((now[:, d] >= a) & (now[:, d] < b)) for a, b in itertools.pairwise(inner)])
        p, q = np.maximum(p, 1e-3), np.maximum(reference.shares[d], 1e-3)
        assert psi == pytest.approx(np.sum((p - q) * np.log(p / q)), rel=1e-9)
    assert shift.psi[0] > 0.25 > shift.psi[1:].max()


def test_a_shift_is_one_alarm_and_survives_restarts():
    reference = Reference.from_json(json.loads(json.dumps(Reference.of(features(20_000)).to_json())), 4)
    assert reference is not None
    rows = np.concatenate((features(3000, 2), features(3000, 3, moved=1.0)))
    kept, alarms, start = None, [], 0
    while start < len(rows):
        shift = Shift(reference, 0.25)
        if kept is not None:
            shift.resume(json.loads(json.dumps(kept)))
        stop = min(len(rows), start + min(shift.room, 170))
        if shift.add(rows[start:stop], np.arange(start, stop, dtype=np.uint64)):
            alarms.append(stop)
        kept, start = shift.state(), stop
    assert alarms == [4000]


def test_few_sessions_prove_less():
    """A thousand requests of thirty sessions look unlike the training samples by chance alone."""
    reference = Reference.of(features(20_000))
    rng = np.random.default_rng(5)
    alike = np.repeat(features(30, 6), 34, axis=0)[:BLOCK]
    shift = Shift(reference, 0.25)
    assert not shift.add(alike, np.repeat(np.arange(30, dtype=np.uint64), 34)[:BLOCK])
    assert shift.psi.max() > 0.25
    each = Shift(reference, 0.25)
    assert each.add(alike, rng.permutation(BLOCK).astype(np.uint64))


@pytest.mark.parametrize("sort", ["constant", "rare flag", "frequent flag"])
def test_a_feature_of_one_or_two_values_shifts_too(sort):
    rng = np.random.default_rng(7)
    flag = {"constant": 0.0, "rare flag": 0.05, "frequent flag": 0.95}[sort]
    before = (rng.random((4000, 1)) < flag).astype(np.float32)
    shift = Shift(Reference.of(before), 0.25)
    sessions = np.arange(BLOCK, dtype=np.uint64)
    same = (rng.random((BLOCK, 1)) < flag).astype(np.float32)
    assert not shift.add(same, sessions)
    other = same + rng.normal(0, 5, same.shape).astype(np.float32) if sort == "constant" else 1 - same
    assert shift.add(other, sessions)
    assert shift.psi[0] > 1
