"""The reservoir: each sample of a class that left is as likely to be in it as any other, however it left."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_maker import make

from streamtrain.dataset import reservoir
from streamtrain.dataset.reservoir import Pool, choose, hold, no_limits
from streamtrain.dataset.retained import rows_of, together
from streamtrain.dataset.select import concatenate, select
from streamtrain.dataset.split import in_fraction
from streamtrain.dataset.store import Store
from streamtrain.dataset.window import load, take
from streamtrain.reading import Batch, Source
from streamtrain.types import InputRange, Samples

NOTHING = Pool(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.float32))
SAMPLES, SESSIONS = no_limits(False), no_limits(True)


def keys(n, seed):
    return np.random.default_rng(seed).integers(1, 2**64, n, np.uint64, endpoint=False)


def single(n, ones, seed):
    """`n` samples, each its own session, of which the first `ones` have label 1."""
    found = keys(n, seed)
    return Pool(found, found, (np.arange(n) < ones).astype(np.float32))


def chi_square(counts, expected):
    return float((((counts - expected) ** 2) / expected).sum())


def test_each_sample_of_a_class_is_in_it_with_probability_k_over_n():
    """Of 60 and 30 samples, halves of 10: 1/6 and 1/3 each, wherever it stands; exactly 10 of either, always."""
    n_draws = 4000
    counts = np.zeros(90)
    for seed in range(n_draws):
        pool = single(90, 60, seed)
        rows = choose(pool, 20).rows
        assert (rows[:60].sum(), rows[60:].sum()) == (10, 10)
        counts += rows
    for part, share in ((counts[:60], 1 / 6), (counts[60:], 1 / 3)):
        # Each is binomial, and their sum is fixed: scaled by 1 - share, the statistic has about len - 1 degrees.
        statistic = chi_square(part, n_draws * share) / (1 - share)
        degrees = len(part) - 1
        assert abs(statistic - degrees) < 4.5 * np.sqrt(2 * degrees), (share, statistic)
        assert np.abs(part / n_draws - share).max() < 4.5 * np.sqrt(share * (1 - share) / n_draws)


def test_pairs_are_chosen_as_if_drawn_without_replacement():
    n_draws, together_ = 4000, 0
    for seed in range(n_draws):
        rows = choose(single(12, 12, seed), 6).rows
        together_ += rows[0] and rows[11]
    expected = 6 / 12 * 5 / 11
    assert abs(together_ / n_draws - expected) < 4.5 * np.sqrt(expected * (1 - expected) / n_draws)


def test_sessions_of_one_size_are_equally_likely_and_whole():
    n_draws, counts = 1500, np.zeros(40)
    for seed in range(n_draws):
        groups = np.repeat(keys(40, seed), 5)
        labels = np.tile([1, 0, 1, 1, 0], 40).astype(np.float32)
        pool = Pool(groups, keys(200, seed + 10**6), labels)
        rows = choose(pool, 60, SESSIONS).rows.reshape(40, 5)
        assert (rows.all(axis=1) == rows.any(axis=1)).all()
        assert rows.sum() in (55, 60)
        counts += rows[:, 0]
    assert abs(chi_square(counts, counts.mean()) / (1 - 12 / 40) - 39) < 4.5 * np.sqrt(2 * 39)


def test_a_half_that_its_class_can_t_fill_is_lent():
    pool = single(1000, 3, 1)
    rows = choose(pool, 100).rows
    assert (rows[:3].sum(), rows.sum()) == (3, 100)
    assert choose(single(50, 20, 1), 100).rows.all()


def test_weights_give_unbiased_counts_of_what_left():
    """The sum of the weights of a class estimates how many of it there were, and so do those of any part of it."""
    n_draws = 3000
    whole, part, other = [], [], []
    for seed in range(n_draws):
        pool = single(500, 400, seed)
        choice = choose(pool, 60)
        weights = np.where(choice.rows, choice.weights, 0.0)
        whole.append(weights[:400].sum())
        part.append(weights[:50].sum())
        other.append(weights[400:].sum())
    for found, expected in ((whole, 400), (part, 50), (other, 100)):
        error = np.std(found) / np.sqrt(n_draws)
        assert abs(np.mean(found) - expected) < 4.5 * error
        assert error < 0.03 * expected


def parts_of(pool, edges):
    return [rows_of(pool, rows) for rows in np.split(np.arange(len(pool.keys)), edges)]


def kept_in_parts(parts, size, limits):
    kept = NOTHING
    for part in parts:
        pool = together([kept, part])
        rows, limits = hold(pool, size, limits)
        kept = rows_of(pool, rows)
    return kept, limits


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.lists(st.integers(0, 300), max_size=5), st.booleans())
def test_it_does_not_depend_on_the_batches_in_which_samples_leave(seed, size, edges, in_sessions):
    rng = np.random.default_rng(seed)
    pool = single(300, int(rng.integers(0, 301)), seed)
    pool = pool._replace(labels=rng.permutation(pool.labels))
    pool = pool._replace(groups=rng.choice(keys(60, seed), 300))
    fresh = SESSIONS if in_sessions else SAMPLES
    size += 60 * in_sessions  # so that a quarter of it holds any of these sessions
    kept, limits = kept_in_parts(parts_of(pool, sorted(edges)), size, fresh)
    at_once, later = choose(pool, size, fresh), choose(kept, size, limits)
    assert set(pool.keys[at_once.rows]) == set(kept.keys[later.rows])
    expected = dict(zip(pool.keys, at_once.weights, strict=True))
    assert all(
        expected[key] == weight for key, weight in zip(kept.keys[later.rows], later.weights[later.rows], strict=True)
    )
    assert len(kept.keys) <= 2 * (size + size // 2 + max(1, size // 4))


def test_a_very_long_session_is_left_out_and_nothing_else_with_it():
    pool = single(200, 100, 3)
    long = Pool(np.full(50, 7, np.uint64), keys(50, 9), np.ones(50, np.float32))
    rows = choose(together([long, pool]), 100, SESSIONS).rows
    assert not rows[:50].any()
    assert rows.sum() == 100


def test_a_larger_one_later_draws_only_from_what_was_never_let_go_of():
    pool = single(1000, 500, 5)
    rows, limits = hold(pool, 10, SAMPLES)
    more = single(1000, 500, 6)
    later = together([rows_of(pool, rows), more])
    choice = choose(later, 400, limits)
    n_first = int(rows.sum())
    # The limit lets in about 16 of 500: of either class, from the former and from the later as many.
    assert 2 <= choice.rows[:n_first].sum() <= n_first
    assert choice.rows[n_first:].sum() < 60
    assert (reservoir.mix(reservoir.mix(later.groups[choice.rows]) ^ reservoir._SALT) < np.uint64(max(limits))).all()


# The store.

DIM = 3


def stream(n, seed=0, rare=0.05, in_sessions=False):
    rng = np.random.default_rng(seed)
    samples = make(n, dim=DIM, seed=seed)
    own = keys(n, seed)
    groups = np.repeat(keys(n, seed + 1), 4)[:n] if in_sessions else own
    labels = (rng.random(n) >= rare).astype(np.float32)
    times = np.arange(n) + np.where(rng.random(n) < 0.1, rng.integers(-60, 60, n), 0)
    return replace(
        samples, keys=own, groups=groups, labels=labels, timestamps=times.astype(float), weights=np.ones(n, np.float32)
    )


def filled(path, samples, sizes, **options):
    with Store(path, "digest", **options) as store:
        start = 0
        while start < len(samples.keys):
            for size in sizes:
                part = select(samples, slice(start, start + size))
                if len(part.keys):
                    ranges = (InputRange(f"{7:016x}", "a", start, start + len(part.keys)),)
                    store.commit(Batch(part, ranges, (Source(7, "a", b"", 0, offset=start),)))
                start += size
    return path


def taken(path, count, share, **options):
    with Store(path, "digest", readonly=True) as store, store.snapshot():
        return take(store, count, share, **options)


def same(one, other):
    return all(
        getattr(one, column.name).tobytes() == getattr(other, column.name).tobytes() for column in fields(Samples)
    )


def test_all_is_the_window_until_it_is_full(tmp_path):
    samples = stream(1000)
    path = filled(tmp_path / "a.db", samples, [130], max_samples=1000, reservoir=100)
    window = taken(path, 1000, 0.1)
    assert window.n_reservoir == 0
    with Store(path, "digest") as store:
        assert same(window.samples, load(store, 1000))


@pytest.mark.parametrize("in_sessions", [False, True])
def test_the_window_is_the_newest_and_half_and_half_of_the_others(tmp_path, in_sessions):
    samples = stream(12_000, in_sessions=True)
    by = {"by_session": in_sessions}
    path = filled(tmp_path / "a.db", samples, [700], max_samples=1000, reservoir=200, **by)
    window = taken(path, 1000, 0.2, **by)
    order = np.argsort(samples.timestamps, kind="stable")
    old, recent = (
        select(window.weighted(), slice(window.n_reservoir)),
        select(window.samples, slice(window.n_reservoir, None)),
    )
    assert recent.keys.tolist() == samples.keys[order[-800:]].tolist()
    assert set(old.keys.tolist()) <= set(samples.keys[order[:-800]].tolist())
    assert old.timestamps.max() <= recent.timestamps[0]
    assert (np.diff(old.timestamps) >= 0).all()
    assert old.weights.mean() == pytest.approx(1.0, rel=1e-5)
    if not in_sessions:
        assert (window.n_reservoir, int((old.labels == 0).sum())) == (200, 100)
        # 5 % of what left has label 0: by the roots of the weights that would undo the balancing, 18.7 %.
        assert 0.16 < old.weights[old.labels == 0].sum() / old.weights.sum() < 0.21
    else:
        assert 196 <= window.n_reservoir <= 200
        assert (old.weights == 1).all()
        _, counts = np.unique(old.groups, return_counts=True)
        assert (counts == 4).mean() > 0.97  # but those at the edge of what is recent
    expected = {key: row for row, key in enumerate(samples.keys.tolist())}
    rows = [expected[key] for key in old.keys.tolist()]
    for name in ("features", "labels", "groups", "teachers", "propensities", "slices"):
        assert getattr(old, name).tobytes() == getattr(samples, name)[rows].tobytes(), name


@pytest.mark.parametrize("in_sessions", [False, True])
def test_it_is_the_same_for_any_batches_and_without_dropping_anything(tmp_path, in_sessions):
    samples = stream(6000, seed=3, rare=0.02, in_sessions=True)
    by = {"by_session": in_sessions}
    options = {"max_samples": 500, "reservoir": 100, **by}
    windows = [
        taken(filled(tmp_path / f"{number}.db", samples, sizes, **given), 500, 0.2, **by)
        for number, (sizes, given) in enumerate(
            [([97], options), ([1, 400, 13], options), ([2500], options), ([300], {}), ([6000], {})]
        )
    ]
    assert windows[0].n_reservoir > 90
    for window in windows[1:]:
        assert window.n_reservoir == windows[0].n_reservoir
        assert same(window.samples, windows[0].samples)


def test_each_sample_that_left_the_store_is_as_likely_as_any_other(tmp_path):
    """Through commits, prunes and loads: 440 samples left, 20 of each class are kept, the old as often as the newer."""
    n_draws, counts = 150, np.zeros((2, 11))
    for seed in range(n_draws):
        samples = stream(500, seed=seed, rare=0.5)
        samples = replace(samples, timestamps=np.arange(500.0))
        path = filled(tmp_path / f"{seed}.db", samples, [60], max_samples=100, reservoir=40)
        window = taken(path, 100, 0.4)
        assert window.n_reservoir == 40
        old = select(window.samples, slice(40))
        for label in (0, 1):
            of = old.timestamps[old.labels == label]
            assert len(of) == 20
            counts[label] += np.histogram(of, 11, (0, 440))[0]
    for part in counts:
        assert abs(chi_square(part, n_draws * 20 / 11) / (1 - 20 / 220) - 10) < 4.5 * np.sqrt(20)


def test_a_sample_that_is_kept_is_known_again_and_others_that_left_are_not_drawn_twice(tmp_path):
    samples = stream(3000, seed=4)
    path = filled(tmp_path / "a.db", samples, [500], max_samples=300, reservoir=60)
    before = taken(path, 300, 0.2)
    with Store(path, "digest", max_samples=300, reservoir=60) as store:
        kept = store.retained().chunk.keys
        assert store.commit(Batch(select(samples, np.isin(samples.keys, kept)))).n_samples == 0
        assert store.commit(Batch(select(samples, slice(0, 1500)))).n_samples > 1000  # a log that is read again
    after = taken(path, 300, 0.2)
    assert same(before.samples, after.samples)


def test_the_ranges_of_what_is_kept_stay_and_give_the_same_window(tmp_path):
    """A window can be made again from the bytes that it names, and these are not all that were ever read."""
    n = 60_000
    samples = stream(n, seed=5, rare=0.3)
    samples = replace(samples, timestamps=np.arange(float(n)))
    path = filled(tmp_path / "a.db", samples, [700], max_samples=500, reservoir=20)
    with Store(path, "digest", readonly=True) as store:
        ranges = store.input_ranges()
    named = np.zeros(n, np.bool_)
    for one in ranges:
        named[one.start : one.end] = True
    assert named[-500:].all()
    assert 0.2 < named.mean() < 0.8
    window = taken(path, 500, 0.04)
    again = taken(filled(tmp_path / "b.db", select(samples, named), [7000]), 500, 0.04)
    assert same(window.samples, again.samples)
    assert again.n_reservoir == window.n_reservoir == 20


def test_sessions_that_are_left_out_make_room_for_others(tmp_path):
    samples = stream(6000, seed=6, rare=0.3)
    path = filled(tmp_path / "a.db", samples, [500], max_samples=1000, reservoir=200)
    window = taken(path, 1000, 0.2, eligible=lambda groups: ~in_fraction(groups, 0.3, 0, "holdout"))
    assert window.n_reservoir == 200
    assert not in_fraction(window.samples.groups[:200], 0.3, 0, "holdout").any()
    assert in_fraction(window.samples.groups[200:], 0.3, 0, "holdout").any()


def test_what_is_too_old_is_left_out(tmp_path):
    samples = stream(6000, seed=7)
    path = filled(tmp_path / "a.db", samples, [500], max_samples=1000, reservoir=200)
    every, some = taken(path, 1000, 0.2), taken(path, 1000, 0.2, max_age_s=3000.0, now=6000.0)
    assert some.samples.timestamps.min() >= 3000.0
    assert set(some.samples.keys) < set(every.samples.keys)
    assert 0 < some.n_reservoir < every.n_reservoir
    with Store(path, "digest") as store, pytest.raises(ValueError, match="now is missing"):
        take(store, 1000, 0.2, max_age_s=1.0)


def test_of_another_kind_it_begins_anew(tmp_path):
    samples = stream(6000, seed=11, in_sessions=True)
    path = filled(tmp_path / "a.db", select(samples, slice(3000)), [500], max_samples=500, reservoir=100)
    with Store(path, "digest", readonly=True) as store:
        held = np.concatenate([chunk.keys for chunk in store.chunks()])
    assert not np.isin(taken(path, 500, 0.2).samples.keys, held).all()
    assert np.isin(taken(path, 500, 0.2, by_session=True).samples.keys, held).all()
    with Store(path, "digest", max_samples=500, reservoir=100, by_session=True) as store:
        for start in range(3000, 6000, 500):
            store.commit(Batch(select(samples, slice(start, start + 500))))
        window = take(store, 500, 0.2, by_session=True)
        assert 96 <= window.n_reservoir <= 100
        assert window.samples.timestamps.min() > 2000


def test_switched_off_it_is_let_go_of_with_its_ranges(tmp_path):
    samples = stream(6000, seed=8)
    path = filled(tmp_path / "a.db", select(samples, slice(4000)), [500], max_samples=500, reservoir=100)
    assert taken(path, 500, 0.2).n_reservoir == 100
    with Store(path, "digest", max_samples=500) as store:
        store.commit(Batch(select(samples, slice(4000, 6000))))
        assert store.retained().chunk is None
        assert store.retained().limits == SAMPLES
        assert all(one.end > 3000 for one in store.input_ranges())


def test_schemas_keep_apart(tmp_path):
    first, second = stream(2000, seed=9), stream(2000, seed=10)
    path = tmp_path / "a.db"
    for digest, samples in (("one", first), ("two", second), ("one", select(first, slice(0)))):
        with Store(path, digest, max_samples=200, reservoir=40) as store:
            for start in range(0, len(samples.keys), 100):
                store.commit(Batch(select(samples, slice(start, start + 100))))
            if digest == "one":
                window = take(store, 200, 0.2)
                assert set(window.samples.keys.tolist()) <= set(first.keys.tolist())
                assert window.n_reservoir == 40


def test_samples_without_features_or_nothing_at_all(tmp_path):
    with Store(tmp_path / "a.db", "digest", max_samples=10, reservoir=4) as store:
        window = take(store, 10, 0.4)
        assert (window.n_reservoir, len(window.samples.keys)) == (0, 0)
        store.commit(Batch(concatenate([stream(50)], DIM)))
        assert take(store, 10, 0.4).n_reservoir == 4
        assert take(store, 10, 0.0).n_reservoir == 0
        assert len(take(store, 10, 0.9).samples.keys) == 10
