"""The state database: all or nothing, once only, and clear about what is wrong."""

import sqlite3
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from sample_maker import make

from streamtrain.dataset.errors import (
    StoreBusyError,
    StoreDamagedError,
    StoreError,
    StoreMissingError,
    StoreNewerError,
)
from streamtrain.dataset.select import concatenate, empty, select
from streamtrain.dataset.store import Store
from streamtrain.dataset.window import load
from streamtrain.reading import Batch, Quarantined, Source, SourceFile
from streamtrain.types import InputRange, Samples


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


@pytest.fixture
def store(path):
    with Store(path, "schema") as opened:
        yield opened


def same(left: Samples, right: Samples) -> bool:
    return all(
        np.array_equal(getattr(left, column.name), getattr(right, column.name), equal_nan=True)
        for column in fields(Samples)
    )


def test_samples_come_back_as_they_were(store):
    samples = make(100)
    committed = store.commit(Batch(samples))
    assert (committed.n_samples, committed.n_duplicates) == (100, 0)
    assert same(load(store, 1000), samples)


def test_the_usual_columns_take_no_room(store):
    samples = make(50)
    nothing = np.full(50, np.nan, np.float32)
    usual = replace(
        samples, groups=samples.keys, weights=np.ones(50, np.float32), teachers=nothing, propensities=nothing
    )
    store.commit(Batch(usual))
    row = store._db.execute("SELECT groups, weights, teachers, propensities FROM chunks").fetchone()
    assert row == (None, None, None, None)
    assert same(load(store, 50), usual)


def test_everything_else_comes_back_too(path):
    source = Source(2**63 - 1, "/logs/\udce9 \n.jsonl", b"h" * 16, 12, 34, b"t" * 16, 5, 2**32 - 1, True, 7)
    file = SourceFile(2**63 - 1, 2, 3, source.key, source.path, 5, 6, 7, True, True, True)
    bad = [Quarantined(source.key, source.path, offset, f"reason {offset}", bytes([offset])) for offset in range(5)]
    ranges = (InputRange(f"{source.key:016x}", source.path, 10, 34),)
    with Store(path, "schema") as store:
        store.commit(Batch(make(3), ranges, (source,), (file,), tuple(bad), 10, 6, 2))
        store.set("cycle", {"trained": 3, "names": ["é", None]})
    with Store(path, "schema") as store:
        assert store.sources() == [source]
        assert store.files() == [file]
        assert store.quarantine(2) == [bad[4], bad[3]]
        assert store.quarantine(2, 3) == [bad[1], bad[0]]
        assert store.input_ranges() == ranges
        assert store.get("cycle") == {"trained": 3, "names": ["é", None]}
        assert store.get("absent", 5) == 5
        counts = store.counts()
        assert (counts.n_samples, counts.n_total_ingested, counts.n_lines) == (3, 3, 10)
        assert (counts.n_quarantined, counts.n_recognised, counts.n_waiting) == (6, 2, 0)
        assert (counts.n_lost, counts.lost_bytes, counts.oldest, counts.newest) == (1, 7, 0.0, 2.0)


def test_duplicates_are_dropped_across_commits_and_restarts(path):
    with Store(path, "schema") as store:
        store.commit(Batch(make(10)))
    with Store(path, "schema") as store:
        twice = concatenate([make(6, first_key=7), make(3, first_key=11)], 3)
        committed = store.commit(Batch(twice, n_lines=9))
        assert (committed.n_samples, committed.n_duplicates) == (4, 5)
        assert sorted(load(store, 100).keys.tolist()) == list(range(14))
        counts = store.counts()
        assert (counts.n_total_ingested, counts.n_duplicates, counts.n_lines) == (14, 5, 9)


def test_a_failing_commit_changes_nothing_and_the_next_one_works(path):
    with Store(path, "schema") as store:
        store.commit(Batch(make(10), n_lines=10))
        before = store.counts()
        store._db.execute(f"PRAGMA max_page_count = {store._db.execute('PRAGMA page_count').fetchone()[0]}")
        source = Source(1, "a", b"", 0, 100)
        with pytest.raises(StoreError, match=r"commit what was read in .*full; nothing was changed; check free space"):
            store.commit(Batch(make(50_000, first_key=100), sources=(source,), n_lines=50_000))
        assert store.counts() == before
        assert store.sources() == []
        store._db.execute("PRAGMA max_page_count = 1000000")
        assert store.commit(Batch(make(50_000, first_key=100), sources=(source,))).n_samples == 50_000
        assert store.sources() == [source]


def test_small_commits_are_merged_and_big_ones_left_alone(store):
    store.commit(Batch(make(10_000)))
    big = store.chunks()[0]
    for number in range(500):
        store.commit(Batch(make(2, first_key=10_000 + 2 * number), (InputRange("1", "a", number, number + 1),)))
        assert store.chunks()[0].id == big.id
        assert len(store.chunks()) <= 40
    store.commit(Batch(empty(3), sources=(Source(1, "a", b"", 0),)))
    window = load(store, 10**6)
    assert window.keys.tolist() == list(range(11_000))
    assert store.input_ranges() == (InputRange(f"{1:016x}", "a", 0, 500),)
    assert sum(chunk.n for chunk in store.chunks()) == 11_000


def test_prune_drops_whole_chunks_below_the_window(store):
    for number in range(10):
        store.commit(Batch(make(1000, first_key=1000 * number), (InputRange(f"{number + 1:x}", "a", 0, 9),)))
    assert store.prune(max_samples=2500) == 7000
    assert load(store, 2500).keys.tolist() == list(range(7500, 10_000))
    assert store._db.execute("SELECT count(*) FROM ranges").fetchone() == (3,)
    assert store.prune(max_samples=2500) == 0
    assert store.prune(older_than=8500.0) == 1000
    assert store.counts().n_samples == 2000
    assert store.n_total_ingested == 10_000
    # What was dropped is forgotten: the same key counts as new again.
    assert store.commit(Batch(make(5))).n_samples == 5


def test_prune_stays_bounded_when_times_are_mixed_or_all_alike(path):
    rng = np.random.default_rng(0)
    for name, times in (("mixed", rng.random(20_000) * 1e6), ("alike", np.zeros(20_000))):
        with Store(path.with_name(name), "schema", max_samples=1000) as store:
            for start in range(0, 20_000, 500):
                store.commit(Batch(make(500, first_key=start, timestamps=times[start : start + 500])))
                assert store.counts().n_samples <= 2000
            expected = np.sort(np.argsort(times, kind="stable")[-1000:])
            assert sorted(load(store, 1000).keys.tolist()) == expected.tolist()
            assert len(store._index) == store.counts().n_samples


def test_a_bounded_store_keeps_its_database_small(path):
    with Store(path, "schema", max_samples=2000) as store:
        for start in range(0, 100_000, 1000):
            store.commit(Batch(make(1000, first_key=start)))
        store.sync()
        assert path.stat().st_size < 1 << 20


def test_quarantine_is_bounded_but_the_count_goes_on(path):
    with Store(path, "schema", max_quarantined=10) as store:
        for number in range(7):
            bad = tuple(Quarantined(1, "a", 5 * number + place, "bad", b"") for place in range(5))
            store.commit(Batch(empty(3), quarantined=bad, n_lines=5, n_quarantined=5))
        assert [row.offset for row in store.quarantine()] == list(range(34, 24, -1))
        assert store.counts().n_quarantined == 35


def test_another_schema_begins_a_new_window_and_going_back_finds_the_old(path):
    source = Source(1, "a", b"", 0, 100)
    with Store(path, "first") as store:
        assert not store.new_window
        store.commit(Batch(make(10), sources=(source,)))
    with Store(path, "second") as store:
        assert store.new_window
        assert store.sources() == []
        assert store.commit(Batch(make(20, dim=7))).n_samples == 20
        assert load(store, 100).features.shape == (20, 7)
        assert store.n_total_ingested == 30
    with Store(path, "first") as store:
        assert store.new_window
        assert store.sources() == [source]
        assert load(store, 100).features.shape == (10, 3)
    with Store(path, readonly=True) as store:
        assert load(store, 100).features.shape == (10, 3)
    with Store(path, "second", readonly=True) as store:
        assert store.new_window
        assert load(store, 100).features.shape == (20, 7)


def test_one_writer_at_a_time_and_any_number_of_readers(path, store):
    store.commit(Batch(make(10)))
    with pytest.raises(StoreBusyError, match="another process has it open"):
        Store(path, "schema")
    with Store(path, readonly=True) as reader:
        assert len(load(reader, 100).keys) == 10
        store.commit(Batch(make(10, first_key=10)))
        assert len(load(reader, 100).keys) == 20
        assert reader.counts().n_samples == 20
        with pytest.raises(StoreError, match="opened for reading only"):
            reader.commit(Batch(make(1)))
        with pytest.raises(StoreError, match="opened for reading only"):
            reader.set("a", 1)


def test_a_reader_sees_one_moment_while_chunks_are_merged_and_pruned(path, store):
    store.commit(Batch(make(1000)))
    with Store(path, readonly=True) as reader, reader.snapshot():
        before = reader.chunks()
        for number in range(20):
            store.commit(Batch(make(1, first_key=1000 + number)))
        store.prune(max_samples=5)
        assert same(reader.read(before[0]), make(1000))


def test_the_lock_goes_with_the_process(path):
    script = "import sys; from pathlib import Path; from streamtrain.dataset.store import Store;"
    script += "store = Store(Path(sys.argv[1])); sys.stdout.write('open\\n'); sys.stdout.flush(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(StoreBusyError):
            Store(path)
        child.kill()
        child.wait()
    Store(path).close()


def test_what_can_be_wrong_with_the_file(path, tmp_path):
    with pytest.raises(StoreMissingError, match="no state database yet"):
        Store(path, readonly=True)
    path.write_bytes(b"not a database at all, but long enough to look at" * 100)
    with pytest.raises(StoreDamagedError, match="not a database; move the file aside"):
        Store(path)
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 1")
    other.close()
    with pytest.raises(StoreDamagedError, match="another program"):
        Store(path)
    path.unlink()
    Store(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StoreNewerError, match=r"version 99, written by .*upgrade"):
        Store(path)
    with pytest.raises(StoreError, match="create its directory"):
        Store(tmp_path / "absent" / "state.db")


def test_damage_found_while_running_is_told(path):
    with Store(path, "schema") as store:
        store.commit(Batch(make(5000)))
        store.sync()
        (page_bytes,) = store._db.execute("PRAGMA page_size").fetchone()
        with path.open("r+b") as file:
            file.seek(page_bytes)
            file.write(b"\xff" * page_bytes * 20)
        store._db.execute("PRAGMA shrink_memory")
        with pytest.raises(StoreDamagedError, match=r"malformed; .*move the file aside"):
            store.refresh()


def test_a_failed_open_releases_the_lock(path):
    path.write_bytes(b"rubbish" * 1000)
    for _ in range(2):
        with pytest.raises(StoreDamagedError):
            Store(path)
    path.unlink()
    Store(path).close()


def test_window_by_count_and_age_in_order_of_time(store):
    times = np.array([5.0, 1.0, 9.0, 5.0, 7.0, 3.0])
    for start in (0, 3):
        store.commit(Batch(make(3, first_key=start, timestamps=times[start : start + 3])))
    assert load(store, 10).keys.tolist() == [1, 5, 0, 3, 4, 2]
    assert load(store, 3).keys.tolist() == [3, 4, 2]
    assert load(store, 4).keys.tolist() == [0, 3, 4, 2]
    assert load(store, 10, max_age_s=4.0, now=9.0).keys.tolist() == [0, 3, 4, 2]
    assert load(store, 2, max_age_s=4.0, now=9.0).keys.tolist() == [4, 2]
    assert load(store, 10, max_age_s=1.0, now=99.0).keys.tolist() == []
    with pytest.raises(ValueError, match="now is missing"):
        load(store, 10, max_age_s=4.0)


def test_an_empty_window(store):
    assert load(store, 10).keys.tolist() == []


def test_select_and_concatenate():
    samples = make(10)
    assert select(samples, samples.keys > 6).keys.tolist() == [7, 8, 9]
    assert select(samples, np.array([3, 1])).features.tolist() == samples.features[[3, 1]].tolist()
    assert same(concatenate([select(samples, slice(0, 4)), select(samples, slice(4, None))], 3), samples)
    assert concatenate([], 4).features.shape == (0, 4)
