"""Hidden states of sessions: the scores of the plain cell over a sequence, bounds, threads, swaps."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from make_candidate import make_candidate
from reference import Objective, logits, sigmoid, tensors_of

from streamtrain.model.formats import INT8_FILE, read_int8, write_int8
from streamtrain.model.quantize import dequantize
from streamtrain.model.seal import MANIFEST_FILE, VersionError, digest, seal, unseal
from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.router.load import load
from streamtrain.router.router import Router
from streamtrain.router.sessions import Sessions

STEPS = 6


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def registry(models):
    with Registry(models, keep=4) as opened:
        yield opened


def publish(registry, seed=0, steps=STEPS, **shape):
    return registry.publish(registry.stage(build(make_candidate(seed, sequence_length=steps, **shape))))


def right_answers(candidate, raw):
    """By the float64 oracle, on the weights of the INT8 file; `raw` is (N, T, D)."""
    z = (raw - candidate.scaling.means) / candidate.scaling.stds
    objective = Objective(nu=candidate.config.nu, zeta=candidate.config.zeta)
    return sigmoid(logits(tensors_of(dequantize(candidate.quantized)), z, objective))


@pytest.mark.parametrize(
    "shape", [{}, {"input_dim": 1, "hidden_dim": 1}, {"input_dim": 40, "hidden_dim": 32}, {"nu": 0.4, "zeta": 1.9}]
)
def test_a_session_scores_as_the_cell_over_the_sequence(registry, models, shape):
    publish(registry, 3, **shape)
    candidate = make_candidate(3, **shape)
    raw = np.random.default_rng(0).normal(0.5, 1, (40, STEPS, candidate.config.input_dim))
    expected = right_answers(candidate, raw)
    router = Router(models, poll_interval_s=None)
    # All sessions at once, each at its own step: nothing of one may get into another.
    found = np.empty((40, STEPS))
    for t in range(STEPS):
        for n in np.random.default_rng(t).permutation(40):
            found[n, t] = router.route(raw[n, t].tolist(), session=f"s{n}").confidence
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(router.model.score_sequences(raw), expected, rtol=0, atol=1e-9)
    assert np.abs(found[:, 1:] - right_answers(candidate, raw.reshape(-1, 1, raw.shape[2])).reshape(40, STEPS)[:, 1:]
                  ).max() > 1e-3  # fmt: skip


def test_without_a_session_it_is_one_step_from_an_empty_state(registry, models):
    publish(registry)
    router = Router(models, poll_interval_s=None)
    raw = np.random.default_rng(0).normal(0.5, 1, (30, 5))
    expected = right_answers(make_candidate(0), raw[:, None])[:, 0]
    np.testing.assert_allclose([router.route(row).confidence for row in raw], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(router.score_batch(raw), expected, rtol=0, atol=1e-9)


def test_a_session_starts_anew_after_as_many_steps_as_were_trained(registry, models):
    publish(registry)
    router = Router(models, poll_interval_s=None)
    raw = np.random.default_rng(0).normal(0.5, 1, (3 * STEPS, 5))
    found = [router.route(row, session=1).confidence for row in raw]
    expected = right_answers(make_candidate(0), raw.reshape(3, STEPS, 5)).ravel()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_a_model_of_one_step_takes_no_notice_of_sessions(registry, models):
    publish(registry, steps=1)
    router = Router(models, poll_interval_s=None)
    row = [0.1, 0.9, 0.3, 0.7, 0.5]
    assert len({router.route(row, session="s").confidence for _ in range(5)} | {router.score(row)}) == 1
    router.end_session("s")
    with pytest.raises(ValueError, match=r"with T in 1\.\.1"):
        router.model.score_sequences(np.zeros((2, 2, 5)))
    np.testing.assert_array_equal(
        router.model.score_sequences(np.ones((2, 1, 5))), router.score_batch(np.ones((2, 5)))[:, None]
    )


def test_states_are_dropped_at_a_swap_and_when_told(registry, models):
    first = publish(registry, 1)
    router = Router(models, poll_interval_s=None)
    rows = np.random.default_rng(0).normal(0.5, 1, (4, 5)).tolist()
    fresh = [router.score(row) for row in rows]
    assert router.route(rows[0], session="s").confidence == pytest.approx(fresh[0], abs=1e-12)
    assert abs(router.route(rows[1], session="s").confidence - fresh[1]) > 1e-4
    router.end_session("s")
    assert router.route(rows[2], session="s").confidence == pytest.approx(fresh[2], abs=1e-12)
    # Even back at the version whose states they were.
    for seed in (2, None):
        if seed is None:
            registry.promote(first)
        else:
            publish(registry, seed)
        assert router.poll()
        after = router.route(rows[3], session="s")
        assert after.confidence == pytest.approx(router.score(rows[3]), abs=1e-12)
        router.route(rows[1], session="s")


def test_features_that_are_refused_leave_the_session_as_it_was(registry, models):
    publish(registry)
    router = Router(models, poll_interval_s=None)
    rows = np.random.default_rng(0).normal(0.5, 1, (2, 5)).tolist()
    router.route(rows[0], session="s")
    for wrong in ([1.0] * 4, [float("nan")] * 5, ["x"] * 5, None, [10**400] * 5, [1e39] * 5):
        with pytest.raises((ValueError, TypeError)):
            router.route(wrong, session="s")
    expected = right_answers(make_candidate(0), np.array(rows)[None])[0, 1]
    assert router.route(rows[1], session="s").confidence == pytest.approx(expected, abs=1e-9)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def table(registry, models):
    publish(registry)
    clock = Clock()
    return Sessions(load(models), 100, 60.0, clock), clock


def test_the_least_recently_used_states_go_first(table):
    sessions, _ = table
    row = [0.1, 0.9, 0.3, 0.7, 0.5]
    first = sessions.score(row, 0)
    second = sessions.score(row, 0)
    assert first != second
    for name in range(1, 100):
        sessions.score(row, name)
    assert sessions.score(row, 0) not in (first, second)  # its third step, and now the most recent
    for name in range(100, 150):
        assert sessions.score(row, name) == first
        assert len(sessions) == 100
    assert sessions.score(row, 99) == second
    assert sessions.score(row, 50) == first  # dropped before


def test_silent_sessions_start_anew_and_are_dropped(table):
    sessions, clock = table
    row = [0.1, 0.9, 0.3, 0.7, 0.5]
    first, second = sessions.score(row, "a"), sessions.score(row, "a")
    for name in range(50):
        sessions.score(row, name)
    clock.now += 60.0
    assert sessions.score(row, 0) == second  # just in time
    clock.now += 0.5
    assert sessions.score(row, "a") == first
    for name in range(1000, 1025):
        sessions.score(row, name)
    # Two of the silent ones went with each call; what is left was heard of within the time.
    assert len(sessions) == 27


def test_many_threads_on_the_same_and_on_other_sessions(registry, models):
    publish(registry, steps=1000)
    row = [0.1, 0.9, 0.3, 0.7, 0.5]
    router = Router(models, poll_interval_s=None)
    expected = [router.route(row, session="alone").confidence for _ in range(800)]
    start = threading.Barrier(8)

    def serve(worker):
        start.wait()
        own = [router.route(row, session=f"own{worker}").confidence for _ in range(100)]
        return own, [router.route(row, session="shared").confidence for _ in range(100)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(serve, range(8)))
    assert all(own == expected[:100] for own, _ in answers)
    # Each step of the shared one was taken once, by whichever thread.
    assert sorted(score for _, shared in answers for score in shared) == sorted(expected)


@pytest.mark.parametrize("weights", ["w_reset", "w_recurrent"])
def test_weights_that_only_sessions_use_are_covered_by_the_golden_vectors(tmp_path, weights):
    for name, data in build(make_candidate(1, sequence_length=STEPS)).items():
        (tmp_path / name).write_bytes(data)
    load(tmp_path)
    content = read_int8((tmp_path / INT8_FILE).read_bytes())
    content.quantized.weights[weights][:] = -content.quantized.weights[weights]
    (tmp_path / INT8_FILE).write_bytes(write_int8(content))
    manifest = unseal((tmp_path / MANIFEST_FILE).read_bytes())
    del manifest["manifest_sha256"]
    manifest["files"][INT8_FILE] = digest((tmp_path / INT8_FILE).read_bytes())
    (tmp_path / MANIFEST_FILE).write_bytes(seal(manifest))
    with pytest.raises(VersionError, match="golden vectors come out differently"):
        load(tmp_path)
    del manifest["golden"]["session_confidences"]
    (tmp_path / MANIFEST_FILE).write_bytes(seal(manifest))
    with pytest.raises(VersionError, match="golden vectors are missing"):
        load(tmp_path)


def test_sequences_of_another_shape_are_refused(registry, models):
    publish(registry)
    model = load(models)
    for shape in ((2, 5), (2, STEPS + 1, 5), (2, 0, 5), (2, 2, 4)):
        with pytest.raises(ValueError, match=rf"shape \({shape[0]}.*expected \(N, T, 5\) with T in 1\.\.{STEPS}"):
            model.score_sequences(np.zeros(shape))
    spoilt = np.zeros((3, 2, 5))
    spoilt[1, 1, 3] = np.nan
    with pytest.raises(ValueError, match="'feature_3' is nan"):
        model.score_sequences(spoilt)
    assert model.score_sequences(np.zeros((0, 2, 5))).shape == (0, 2)
    many = np.random.default_rng(0).normal(size=(4100, 2, 5))
    np.testing.assert_allclose(
        model.score_sequences(many)[4090:], model.score_sequences(many[4090:]), rtol=0, atol=1e-14
    )
