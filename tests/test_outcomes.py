"""What `make bench-learning` makes of answers."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "bench"))

from outcomes import Score, difference, median_score, score

Y = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0])


def test_the_holdout_is_the_last_rows_and_the_stream_only_what_was_answered_whole():
    answers = np.array([0.0, 1.0, 0.0, 1.0, 0.9, 0.8, 0.1, 0.4])
    whole, late = score(answers, Y, 4), score(answers[-4:], Y, 4)
    assert (whole.accuracy, whole.auc, whole.stream) == (0.75, 1.0, 3 / 8)
    assert late == Score(whole.accuracy, whole.auc, whole.log_loss, None)
    expected = -np.mean(np.log([0.9, 0.8, 0.9, 0.4]))
    assert whole.log_loss == pytest.approx(expected, abs=1e-9)


def test_a_constant_ranks_nothing():
    assert np.isnan(score(np.full(8, 0.6), Y, 4).auc)


def test_each_figure_has_its_own_median():
    scores = [Score(0.5, 0.9, 0.3), Score(0.7, 0.6, 0.2), Score(0.6, 0.8, 0.1)]
    assert median_score(scores) == Score(0.6, 0.8, 0.2)


def test_the_error_of_a_difference_is_the_spread_over_fresh_rows():
    rng = np.random.default_rng(0)
    gaps, auc_gaps, errors = [], [], []
    for _ in range(200):
        y = (rng.random(400) < 0.6).astype(float)
        one, other = (2 * y - 1 + noise * rng.normal(size=400) for noise in (1.0, 2.0))
        p, q = (1 / (1 + np.exp(-z)) for z in (one, other))
        a, b = score(p, y, 400), score(q, y, 400)
        gaps.append(a.accuracy - b.accuracy)
        auc_gaps.append(a.auc - b.auc)
        if len(errors) < 10:
            errors.append(difference([p], [q], y))
    accuracy_error, auc_error = np.mean(errors, axis=0)
    assert accuracy_error == pytest.approx(np.std(gaps), rel=0.2)
    assert auc_error == pytest.approx(np.std(auc_gaps), rel=0.2)


def test_of_the_same_answers_there_is_no_difference():
    rng = np.random.default_rng(1)
    p, y = rng.random(40), np.tile(Y, 5)
    assert difference([p, p], [p], y) == (0.0, 0.0)
