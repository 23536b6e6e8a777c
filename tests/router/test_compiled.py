"""A router that scores by the compiled kernel, beside one that doesn't."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest
from make_candidate import make_candidate

from streamtrain import Router
from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.router.compiled import CompiledModel

ROWS = np.random.default_rng(0).normal(0.5, 1, (500, 5))


def publish(registry, seed, **shape):
    return registry.publish(registry.stage(build(make_candidate(seed, **shape))))


@pytest.fixture
def registry(tmp_path):
    with Registry(tmp_path / "models") as registry:
        publish(registry, 1)
        yield registry


def both(tmp_path):
    models = tmp_path / "models"
    return Router(models, poll_interval_s=None), Router(models, poll_interval_s=None, compiled=True)


def test_decisions_are_the_same_for_every_kind_of_row_and_shape_of_model(registry, tmp_path):
    plain, compiled = both(tmp_path)
    with plain, compiled:
        for seed, hidden_dim in enumerate((None, 1, 8, 33), start=1):
            if hidden_dim is not None:
                publish(registry, seed, hidden_dim=hidden_dim)
                assert plain.poll()
                assert compiled.poll()
            assert isinstance(compiled.model, CompiledModel)
            np.testing.assert_allclose(compiled.score_batch(ROWS), plain.score_batch(ROWS), rtol=0, atol=1e-14)
            for row in ROWS:
                expected = plain.route(row)
                for kind in (row, row.tolist(), tuple(row), row[::1].astype(object), np.repeat(row, 2)[::2]):
                    decision = compiled.route(kind)
                    assert abs(decision.confidence - expected.confidence) < 1e-14
                    assert decision[1] == expected[1]
                    assert decision.version == expected.version
        assert compiled.stats().keys() == plain.stats().keys()


def test_sessions_are_answered_as_without_it(tmp_path):
    with Registry(tmp_path / "models") as registry:
        registry.publish(registry.stage(build(make_candidate(4, sequence_length=4))))
    plain, compiled = both(tmp_path)
    with plain, compiled:
        for row in ROWS[:20]:
            assert compiled.route(row, session="a") == plain.route(row, session="a")


def test_threads_never_see_each_others_rows(registry, tmp_path):
    _, compiled = both(tmp_path)
    expected = compiled.score_batch(ROWS).tolist()
    rows, wrong = ROWS.tolist(), []

    def score(first):
        for _ in range(20):
            for i in range(first, len(rows), 4):
                if compiled.score(rows[i]) != pytest.approx(expected[i], abs=1e-14):
                    wrong.append(i)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=score, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []


def test_after_a_fork_both_go_on(registry, tmp_path):
    _, compiled = both(tmp_path)
    row = ROWS[0].tolist()
    expected = compiled.score(row)
    child = os.fork()
    if child == 0:
        os._exit(compiled.score(row) != expected)
    assert os.waitpid(child, 0)[1] == 0
    assert compiled.score(row) == expected


def test_a_failed_row_leaves_the_next_one_alone(registry, tmp_path):
    _, compiled = both(tmp_path)
    row = ROWS[0].tolist()
    expected = compiled.score(row)
    for bad in ([1.0, 2.0, "x", 0.0, 0.0], [np.nan] * 5, [1.0] * 4, None):
        with pytest.raises((ValueError, TypeError)):
            compiled.route(bad)
        assert compiled.score(row) == expected
