"""Which challenger goes to the gate, on validation samples made to order."""

from dataclasses import replace

import numpy as np
import pytest

from streamtrain.aftermath import LATELY_HALF_LIFE, recency
from streamtrain.choice import choose
from streamtrain.lessons import Lesson
from streamtrain.model.params import initialise
from streamtrain.train.challengers import Challenger, Recipe
from streamtrain.train.fit import Fit
from streamtrain.train.presets import TrainingConfig
from streamtrain.types import Arrays, FastGRNNConfig

CONFIG = FastGRNNConfig(input_dim=3, hidden_dim=4)
N = 320


def saying(name, logit):
    """A challenger that always answers the same."""
    start = initialise(CONFIG, 0)
    params = replace(start, w_output=np.zeros_like(start.w_output), b_output=np.full_like(start.b_output, logit))
    return Challenger(Recipe(name, start, TrainingConfig(), 0), Fit(params, (), 0, "epochs", 0), float("nan"))


def lesson(labels, lately=True, groups=None):
    ones = np.ones((N, 1), np.float32)
    arrays = Arrays(np.zeros((N, 1, 3), np.float32), labels.astype(np.float32)[:, None], ones)
    counts = [replace(arrays, weights=recency(N, *share)[:, None]) for share in ((), (LATELY_HALF_LIFE,))]
    groups = np.arange(N, dtype=np.uint64) if groups is None else groups
    return Lesson(arrays, counts[0], [], counts[1] if lately else None, groups)


YES, NO = saying("yes", 2.0), saying("no", -2.0)


def names(choice):
    return [one.recipe.name for one in choice.ranked]


def test_by_all_where_the_order_is_the_same():
    labels = np.arange(N) % 4 > 0
    given = lesson(labels)
    found = choose([NO, YES], given, CONFIG)
    assert (names(found), found.lately) == (["yes", "no"], False)
    assert found.validation is given.validation
    expected = np.average(np.log1p(np.exp(2.0)) - 2.0 * labels, weights=given.validation.weights[:, 0])
    assert found.ranked[0].validation_loss == pytest.approx(expected, rel=1e-5)


def test_by_the_last_where_the_order_has_turned():
    labels = np.arange(N) < N * 7 // 8
    given = lesson(labels)
    found = choose([YES, NO], given, CONFIG)
    assert (names(found), found.lately) == (["no", "yes"], True)
    assert found.validation is given.lately
    assert found.ranked[0].validation_loss < found.ranked[1].validation_loss


def test_by_all_where_nothing_serves_yet():
    found = choose([NO, YES], lesson(np.arange(N) < N * 7 // 8, lately=False), CONFIG)
    assert (names(found), found.lately) == (["yes", "no"], False)


def test_one_session_at_the_end_is_no_evidence():
    labels = np.arange(N) < N * 7 // 8
    groups = np.arange(N, dtype=np.uint64)
    groups[~labels] = N
    assert not choose([YES, NO], lesson(labels, groups=groups), CONFIG).lately


def test_those_that_diverged_come_last():
    broken = replace(NO, fit=None, validation_loss=float("inf"), failure="not finite")
    found = choose([broken, NO, YES], lesson(np.ones(N)), CONFIG)
    assert names(found) == ["yes", "no", "no"]
    assert found.ranked[-1].failure == "not finite"
    assert choose([broken], lesson(np.ones(N)), CONFIG).ranked == [broken]
