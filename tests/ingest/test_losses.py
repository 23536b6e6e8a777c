"""`lost_bytes` says what was seen and destroyed before it was read: all of it, and nothing that is still there."""

import gzip
import os
import shutil

import pytest
from log_yard import line, lines, once

from streamtrain.dataset import ledger
from streamtrain.dataset.select import empty
from streamtrain.dataset.store import Store
from streamtrain.reading import Batch, Source

RESTARTS = pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])


def again(yard, restart):
    if restart:
        yard.restart()
    report = yard.run()
    assert yard.store.counts().lost_bytes == report.lost_bytes
    return report.lost_bytes


def put(yard, way, data):
    """The file `app.log`, whole now, is found elsewhere."""
    (yard.logs / "app.log").unlink()
    yard.write(f"app.log.1{way}", gzip.compress(data) if way == ".gz" else data)


@RESTARTS
@pytest.mark.parametrize("way", [".gz", ""])
@pytest.mark.parametrize("n_seen", [1, 10, 63, 64, 120])
def test_only_the_beginning_of_the_first_line_was_seen_before_it_was_rotated(yard, restart, way, n_seen):
    """However short it was: the rest came unseen, and then the file went under another name as another file."""
    data = lines(range(20))
    yard.write("app.log", data[:n_seen])
    yard.run()
    put(yard, way, data)
    yard.write("app.log", lines(range(20, 22)))
    assert again(yard, restart) == 0
    assert yard.seen() == once(range(22))
    assert again(yard, restart) == 0


@RESTARTS
@pytest.mark.parametrize("way", [".gz", ""])
@pytest.mark.parametrize("n_seen", [1, 51, 63, 64, 120])
def test_only_the_beginning_was_seen_before_it_was_copied_and_truncated(yard, restart, way, n_seen):
    """The file itself is still there, with other lines in it; the copy is older, and looked at first."""
    data = lines(range(20))
    live = yard.write("app.log", data[:n_seen])
    yard.run()
    yard.write(f"app.log.1{way}", gzip.compress(data) if way else data)
    live.write_bytes(lines(range(20, 22)))
    os.utime(yard.logs / f"app.log.1{way}", (0, 0))
    assert again(yard, restart) == 0
    assert yard.seen() == once(range(22))


@RESTARTS
@pytest.mark.parametrize("n_seen", [1, 10, 63, 64, 120])
def test_the_beginning_of_a_copy_is_known_to_be_one_later(yard, restart, n_seen):
    data = lines(range(100))
    yard.write("a.log", data)
    yard.run()
    for size in (n_seen, 3000, len(data)):
        yard.write("b.log", data[:size])
        assert again(yard, restart) == 0
    (yard.logs / "b.log").unlink()
    assert again(yard, restart) == 0
    (yard.logs / "a.log").unlink()
    assert again(yard, restart) == 0
    assert yard.seen() == once(range(100))


@RESTARTS
@pytest.mark.parametrize("n_read", [0, 3])
@pytest.mark.parametrize("how", ["truncate", "delete", "rewrite", "replace"])
def test_an_end_without_a_newline_is_lost_with_its_file(yard, restart, n_read, how):
    live = yard.write("app.log", lines(range(n_read)) + line(50)[:70])
    yard.run()
    if restart:
        yard.restart()
    if how == "truncate":
        os.truncate(live, 0)
    elif how == "delete":
        live.unlink()
    elif how == "rewrite":
        live.write_bytes(lines(range(10, 30)))
    else:
        (yard.root / "new").write_bytes(lines(range(10, 30)))
        (yard.root / "new").rename(live)
    for _ in range(3):
        assert again(yard, restart) == 70
    yard.append("app.log", line(30))
    assert again(yard, restart) == 70


def test_what_was_written_and_destroyed_between_two_looks_nobody_has_seen(yard):
    live = yard.write("app.log", lines(range(3)))
    yard.run()
    yard.append("app.log", lines(range(3, 10)))
    os.truncate(live, 0)
    assert yard.run().lost_bytes == 0


@RESTARTS
def test_a_copy_made_too_early_lacks_what_was_truncated(yard, restart):
    """The well-known gap of copytruncate: it is counted although a copy of the file is there."""
    live = yard.write("app.log", lines(range(10)))
    yard.run()
    shutil.copyfile(live, yard.logs / "app.log.1")
    yard.append("app.log", line(10)[:40])
    assert again(yard, restart) == 0
    os.truncate(live, 0)
    assert again(yard, restart) == 40
    (yard.logs / "app.log.1").unlink()
    assert again(yard, restart) == 40


@RESTARTS
def test_it_is_lost_with_the_last_file_that_has_it(yard, restart):
    live = yard.write("app.log", lines(range(10)) + line(10)[:40])
    yard.run()
    shutil.copyfile(live, yard.logs / "copy.log")
    (yard.logs / "link.log").hardlink_to(live)
    assert again(yard, restart) == 0
    live.unlink()
    assert again(yard, restart) == 0
    (yard.logs / "link.log").unlink()
    assert again(yard, restart) == 0
    (yard.logs / "copy.log").unlink()
    assert again(yard, restart) == 40


@RESTARTS
def test_an_end_that_was_cut_off(yard, restart):
    live = yard.write("app.log", lines(range(10)) + line(10)[:40])
    yard.run()
    os.truncate(live, live.stat().st_size - 15)
    assert again(yard, restart) == 15
    live.unlink()
    assert again(yard, restart) == 40


@RESTARTS
@pytest.mark.parametrize("n_read", [0, 3])
@pytest.mark.parametrize("n_seen", [1, 63])
def test_what_nobody_can_tell_is_not_counted(yard, restart, n_read, n_seen):
    """Of an end without a newline only the length is kept: what is written in its place may be the same.

    Where nothing was read before it, that holds for fewer than 64 bytes that come again, which tell nothing.
    """
    data = lines(range(n_read)) + line(50)[:n_seen]
    live = yard.write("app.log", data)
    yard.run()
    if restart:
        yard.restart()
    begun = b"" if n_read else data
    os.truncate(live, len(data) - n_seen)
    yard.append("app.log", begun + b" " + lines(range(60, 62)))
    assert again(yard, restart) == 0
    yard.append("app.log", line(70))
    assert again(yard, restart) == 0


@RESTARTS
def test_a_compressed_file_that_never_was_whole_counts_with_its_size(yard, restart):
    packed = gzip.compress(lines(range(500)))[:2000]
    path = yard.write("a.jsonl.gz", packed)
    yard.run()
    path.unlink()
    assert again(yard, restart) == len(packed)
    yard.write("b.jsonl.gz", gzip.compress(lines(range(500))))
    assert again(yard, restart) == 0
    assert yard.seen() == once(range(500))


@RESTARTS
def test_reading_that_was_stopped_before_the_first_block_loses_nothing(yard, restart):
    """The source is noted by then, and what was rotated away meanwhile is known again by how it begins."""
    yard.write("a.jsonl", lines(range(100, 102)))
    yard.write("app.log", lines(range(20)))
    asked = iter([False, False, False, True])
    yard.ingestor.run(should_stop=lambda: next(asked, True))
    data = (yard.logs / "app.log").read_bytes()
    put(yard, ".gz", data)
    assert again(yard, restart) == 0
    assert yard.seen() == once([*range(20), 100, 101])


def test_a_directory_that_was_away_for_a_while(yard):
    """Of the files in it nothing tells that they were moved but where they are."""
    inner = yard.write("inner/app.log", lines(range(10)) + line(10)[:40]).parent
    yard.write("inner/done.log", lines(range(20, 30)))
    yard.now = yard.clock() + 60
    yard.run()
    inner.rename(yard.root / "away")
    assert yard.run().lost_bytes == 40
    (yard.root / "away").rename(inner)
    assert yard.run().lost_bytes == 0
    assert yard.ingestor.lag() == (0, 0.0)
    inner.rename(yard.logs / "other")
    yard.run()
    assert yard.ingestor.lag() == (0, 0.0)
    assert yard.seen() == once([*range(10), *range(20, 30)])


def test_a_copy_of_a_file_whose_directory_was_moved_is_known(yard):
    data = lines(range(500))
    yard.write("inner/a.log", data)
    yard.run()
    yard.now = yard.clock() + 60
    yard.run()
    (yard.logs / "inner").rename(yard.logs / "other")
    yard.run()
    yard.write("copy.log", data[:20_000])
    assert yard.run().lines == 0
    # Long after the last byte came: it is the beginning of a file that is there.
    yard.now = yard.clock() + 120
    assert yard.run().lines == 0
    assert yard.seen() == once(range(500))


@RESTARTS
def test_of_two_hard_links_either_may_go(yard, restart):
    data = lines(range(500))
    live = yard.write("a.log", data)
    (yard.logs / "b.log").hardlink_to(live)
    yard.run()
    yard.now = yard.clock() + 60
    again(yard, restart)
    live.unlink()
    again(yard, restart)
    yard.write("copy.log", data[:20_000])
    again(yard, restart)
    yard.now += 120
    assert again(yard, restart) == 0
    assert yard.seen() == once(range(500))


def test_losses_are_kept_when_their_sources_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "_KEPT_SOURCES", 3)
    path = tmp_path / "state.db"
    for turn in range(3):
        with Store(path, "schema") as store:
            lost = (Source(100 * turn + n, "a", b"", 0, 10, lost_bytes=7) for n in range(1, 11))
            store.commit(Batch(empty(5), sources=tuple(lost)))
        # What is old is forgotten whenever another schema is used.
        with Store(path, "other"):
            pass
    with Store(path, "schema") as store:
        assert store.counts().lost_bytes == 210
        sources = store.sources()
        assert sum(source.lost_bytes for source in sources) == 210
        assert len(sources) == 4
