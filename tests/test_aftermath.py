"""What chooses and judges after a change: only what came after it, once that is enough."""

import numpy as np
import pytest
from two_versions import samples

from streamtrain.aftermath import HALF_LIFE, LATELY_HALF_LIFE, MIN_VALIDATION, after, recency, worse_since
from streamtrain.intake import Splits
from streamtrain.train.recent import MANY, MIN_ROWS, parts


def made(n, first=0, groups=None):
    rng = np.random.default_rng(first)
    return samples(rng.random((n, 2)), rng.random(n) < 0.5, first, groups)


def splits(n_train=4000, n_validation=400, n_holdout=1000):
    return Splits(made(n_train), made(n_validation), made(n_holdout))


def test_both_splits_are_cut_and_training_keeps_everything():
    whole = splits()
    since = whole.holdout.timestamps[300]
    cut = after(whole, since, 500, 1)
    assert cut.train is whole.train
    assert cut.holdout.timestamps.min() == since
    assert (len(cut.holdout.labels), len(cut.validation.labels)) == (700, 100)


@pytest.mark.parametrize(("place", "min_holdout"), [(701, 300), (400 - MIN_VALIDATION + 1, 1)])
def test_too_little_to_judge_by_is_left_whole(place, min_holdout):
    whole = splits()
    assert after(whole, whole.holdout.timestamps[place], min_holdout, 1) is None


def test_one_class_after_the_change_judges_nothing():
    whole = splits()
    labels = whole.holdout.labels.copy()
    labels[300:] = 1
    one = Splits(whole.train, whole.validation, samples(whole.holdout.features, labels, 0))
    assert after(one, whole.holdout.timestamps[300], 100, 1) is None


def test_sessions_that_began_before_the_change_are_left_out_whole():
    groups = np.arange(1000, dtype=np.uint64) // np.uint64(7)
    held = made(1000, groups=groups)
    whole = Splits(held, held, held)
    cut = after(whole, held.timestamps[500], 100, 3)
    assert cut.holdout.groups.min() == groups[500] + 1
    assert after(whole, held.timestamps[500], 100, 1).holdout.groups.min() == groups[500]


@pytest.mark.parametrize(
    ("half_life", "part", "share", "effective"), [(HALF_LIFE, 800, 0.8, 0.6), (LATELY_HALF_LIFE, 200, 0.75, 0.18)]
)
def test_recent_samples_choose_for_more(half_life, part, share, effective):
    """By what is said of it."""
    weights = recency(1600, half_life)
    assert weights.mean() == pytest.approx(1, abs=1e-6)
    assert weights[-1] / weights[-1 - round(1600 * half_life)] == pytest.approx(2, rel=1e-5)
    assert weights[-part:].sum() / weights.sum() == pytest.approx(share, abs=0.01)
    assert weights.sum() ** 2 / (weights**2).sum() > effective * 1600
    assert recency(0).shape == (0,)


def test_recent_parts_are_those_with_rows_enough():
    times = np.arange(4000, dtype=np.float64)
    rows = np.arange(4000)
    named = [(one.name, one.first_row, one.fresh) for one in parts(rows, times, None)]
    assert named == [
        ("recent-1/2", 2000, False),
        ("recent-1/4", 3000, False),
        ("recent-1/8", 3500, False),
        ("recent-1/2", 2000, True),
        ("recent-1/4", 3000, True),
    ]
    assert {one.first_row for one in parts(rows[:1000], times[:1000], None)} == {500}
    since = parts(rows, times, 3100.5)[5:]
    assert [(one.first_row, one.fresh, one.bold) for one in since] == [
        (3101, False, False),
        (3101, True, False),
        (3101, True, True),
    ]
    assert len(parts(rows, times, 4000 - MIN_ROWS + 1)) == 5
    assert len(parts(rows, times, -1.0)) == 5  # everything is from after it
    many = np.arange(MANY + 1)
    assert not any(one.fresh for one in parts(many, many.astype(np.float64), None))


def test_parts_of_sequences_begin_with_the_first_row_that_lies_in_them():
    first_places = np.array([0, 4, 8, 12, *range(13, 700)])
    times = np.arange(700, dtype=np.float64)
    (one, *_) = [part for part in parts(first_places, times, 6.0) if part.name == "since"]
    assert one.first_row == 2


def losses(n, rise, at, seed):
    rng = np.random.default_rng(seed)
    return rng.gamma(2.0, 0.25, n) + np.where(np.arange(n) >= at, rise, 0.0)


def test_where_a_model_has_visibly_done_worse_is_found():
    held = made(800)
    found = [worse_since(losses(800, 0.3, 400, seed), held) for seed in range(20)]
    places = [int(one - held.timestamps[0]) for one in found if one is not None]
    assert len(places) == 20
    assert np.median(places) == 400


def test_that_is_rarely_so_by_chance_and_never_of_what_gets_better():
    held = made(800)
    assert sum(worse_since(losses(800, 0.0, 0, seed), held) is not None for seed in range(300)) <= 18
    assert not any(worse_since(losses(800, -0.3, 400, seed), held) for seed in range(20))
    assert worse_since(losses(90, 1.0, 45, 0), made(90)) is None


def test_few_sessions_show_less():
    """Four hundred requests of twenty sessions are no more than twenty."""
    rng = np.random.default_rng(2)
    each = np.repeat(rng.gamma(2.0, 0.25, 40), 20) + np.where(np.arange(800) >= 400, 0.12, 0.0)
    alone = worse_since(each, made(800))
    assert alone is not None
    assert worse_since(each, made(800, groups=np.repeat(np.arange(40, dtype=np.uint64), 20))) is None
