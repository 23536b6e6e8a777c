from __future__ import annotations

import numpy as np
import pytest

from streamtrain.judge.metrics import auc, log_loss
from streamtrain.judge.plain import plain_answers, plain_gain
from streamtrain.types import F32, F64


def world(n: int, d: int = 6, seed: int = 0) -> tuple[F32, F64, F64]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)).astype(np.float32)
    chances = 1 / (1 + np.exp(-(0.4 + x @ np.linspace(1.0, -1.0, d))))
    return x, (rng.random(n) < chances).astype(float), chances


def test_it_finds_a_linear_truth_nearly() -> None:
    x, y, chances = world(4000)
    answers = plain_answers(x, y, np.ones(4000), None, 4000)
    assert answers is not None
    assert log_loss(y, answers) < log_loss(y, chances) + 0.004


def test_it_has_not_seen_what_it_answers() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(400, 60)).astype(np.float32), (rng.random(400) < 0.6).astype(float)
    answers = plain_answers(x, y, np.ones(400), None, 400)
    assert answers is not None
    assert abs(auc(y, answers) - 0.5) < 0.12


def test_sessions_stay_whole() -> None:
    """Features that only tell sessions apart help nobody who has not seen the session."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(200, dtype=np.uint64), 5)
    y = np.repeat((rng.random(200) < 0.5).astype(float), 5)
    x = np.repeat(rng.normal(size=(200, 120)), 5, axis=0).astype(np.float32)
    alone, whole = plain_answers(x, y, np.ones(1000), None, 1000), plain_answers(x, y, np.ones(1000), groups, 1000)
    assert alone is not None
    assert whole is not None
    assert auc(y, alone) > 0.9
    assert auc(y, whole) < 0.65


def test_one_class_alone_has_no_plain_model() -> None:
    x, _, _ = world(100)
    assert plain_answers(x, np.ones(100), np.ones(100), None, 100) is None
    assert plain_gain(x, np.ones(100), np.ones(100), None, 100, np.ones(100), np.ones(100)) is None


def test_no_more_samples_are_fitted_than_the_candidate_had() -> None:
    x, y, chances = world(2000)
    few, many = (plain_answers(x, y, np.ones(2000), None, n) for n in (20, 2000))
    assert few is not None
    assert many is not None
    assert log_loss(y, few) > log_loss(y, many) + 0.01 > log_loss(y, chances)


def test_the_gain_is_held_against_half_of_the_plain_models() -> None:
    x, y, chances = world(3000)
    base = np.full(3000, np.log(2.0))
    as_good = plain_gain(x, y, np.ones(3000), None, 3000, base, -np.log(np.where(y == 1, chances, 1 - chances)))
    nothing = plain_gain(x, y, np.ones(3000), None, 3000, base, base)
    assert as_good is not None
    assert nothing is not None
    assert as_good.beyond.mean == pytest.approx(as_good.plain / 2, rel=0.1)
    assert nothing.beyond.mean == pytest.approx(-nothing.plain / 2)
    assert nothing.beyond.upper(0.95) < 0 < as_good.beyond.lower(0.95)


def test_constant_features_do_no_harm() -> None:
    x, y, _ = world(500)
    x[:, 0] = 3.0
    answers = plain_answers(x, y, np.ones(500), None, 500)
    assert answers is not None
    assert np.isfinite(answers).all()
