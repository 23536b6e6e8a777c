"""What other log trackers are known to have got wrong: each of it once more, here, with exact results."""

import gzip
import os
import resource
import shutil

import pytest
import trajectories
import zstandard
from log_yard import Yard, line, lines, once

from streamtrain.dataset.errors import StoreDamagedError
from streamtrain.dataset.rescue import rebuild
from streamtrain.ingest.ingestor import IngestOptions, Ingestor
from streamtrain.ingest.schema import Schema
from streamtrain.ingest.tail import BLOCK_BYTES

RESTARTS = pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])


def again(yard, restart=False):
    if restart:
        yard.restart()
    report = yard.run()
    assert (report.duplicates, report.quarantined) == (0, 0)
    return report


@RESTARTS
@pytest.mark.parametrize("same_head", [False, True])
def test_an_inode_given_out_again(yard, restart, same_head):
    """The next file has the number of the one before, and perhaps its first lines too; more of it or less."""
    path = yard.logs / "app.log"
    # So long that the head, which is hashed, is the same in all of them.
    head = lines(range(1000, 1010)) if same_head else b""
    number = n_reused = 0
    inode = None
    for turn in range(12):
        count = 40 + 10 * (turn % 3)
        path.write_bytes(head + lines(range(number, number + count)))
        number += count
        n_reused += path.stat().st_ino == inode
        inode = path.stat().st_ino
        again(yard, restart)
        yard.now = None if not same_head else path.stat().st_ctime + 11
        again(yard, restart)
        path.unlink()
        yard.now = None
    seen = yard.seen()
    assert {number: times for number, times in seen.items() if number < 1000} == once(range(number))
    assert yard.store.counts().lost_bytes == 0
    if not n_reused:
        pytest.skip("this file system does not give inodes out again at once")


@RESTARTS
@pytest.mark.parametrize("late_s", [0.01, 0.2])
def test_what_may_be_a_copy_is_looked_at_again(yard, restart, late_s):
    """Also by the next process, and however long after its last change it was first looked at."""
    head = lines(range(1000, 1010))
    path = yard.write("app.log", head + lines(range(60)))
    again(yard, restart)
    path.unlink()
    path.write_bytes(head + lines(range(60, 100)))  # as a copy of the other would begin
    yard.now = path.stat().st_ctime + late_s
    assert again(yard, restart).samples == 0
    yard.now = path.stat().st_ctime + 11
    assert again(yard, restart).samples == 50
    assert {number: times for number, times in yard.seen().items() if number < 1000} == once(range(100))


@RESTARTS
def test_what_was_compressed_while_its_original_grew_on(yard, restart):
    """Too short for a whole head, and looked at once more: it is the beginning of what was read."""
    path = yard.write("app.log", lines(range(1)))
    again(yard, restart)
    packed = path.with_name("app.log.1.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    yard.now = packed.stat().st_ctime  # in the tick of its last change, so that no look is the last
    again(yard, restart)
    yard.append("app.log", lines(range(1, 2)))
    yard.now = None
    again(yard, restart)
    again(yard, restart)
    assert yard.seen() == once(range(2))


@RESTARTS
def test_five_rotations_between_two_looks(yard, restart):
    """Every name has another file by then, the last two of them compressed."""
    number = 0
    for _ in range(3):
        for _ in range(5):
            yard.append("app.log", lines(range(number, number + 7)))
            number += 7
            for older in range(6, 0, -1):
                for suffix in ("", ".gz"):
                    path = yard.logs / (f"app.log.{older - 1}{suffix}" if older > 1 else f"app.log{suffix}")
                    if path.exists():
                        path.rename(yard.logs / f"app.log.{older}{suffix}")
            for old in (5, 6):
                path = yard.logs / f"app.log.{old}"
                if path.exists():
                    yard.write(f"app.log.{old}.gz", gzip.compress(path.read_bytes()))
                    path.unlink()
        yard.append("app.log", lines(range(number, number + 2)) + line(number + 2)[:90])
        again(yard, restart)
        yard.append("app.log", line(number + 2)[90:])
        number += 3
    again(yard, restart)
    # Of each round one file fell off the end; what it held had been read in time but for the first.
    (yard.logs / "app.log").rename(yard.logs / "app.log.last")
    assert again(yard, restart).lost_bytes == 0
    assert set(yard.seen().values()) == {1}
    assert len(yard.seen()) == number


def while_reading(yard, act, at_call=1):
    """Do something when a pass has read its first block."""
    calls = iter(range(1 << 20))

    def progress():
        if next(calls) == at_call:
            act()

    return yard.ingestor.run(progress=progress)


N_LONG = 3 * BLOCK_BYTES // len(line(0))


@pytest.mark.parametrize("at_call", [0, 1, 2])
@pytest.mark.parametrize("how", ["nothing more", "a little more", "more than before"])
def test_copied_and_truncated_while_it_is_read(yard, how, at_call):
    """The reader holds the file open and is in the middle of it; what then stands there is another file's content."""
    live = yard.write("app.log", lines(range(N_LONG)))
    more = {"nothing more": 0, "a little more": 50, "more than before": N_LONG + 1000}[how]

    def rotate():
        shutil.copyfile(live, yard.logs / "app.log.1")
        os.truncate(live, 0)
        yard.append("app.log", lines(range(N_LONG, N_LONG + more)))

    while_reading(yard, rotate, at_call)
    for _ in range(2):
        report = again(yard)
    assert yard.seen() == once(range(N_LONG + more))
    assert report.lost_bytes == 0


@pytest.mark.parametrize("at_call", [0, 1, 2])
def test_truncated_while_it_is_read_without_a_copy(yard, at_call):
    live = yard.write("app.log", lines(range(N_LONG)))
    while_reading(yard, lambda: live.write_bytes(lines(range(N_LONG, 2 * N_LONG + 1000))), at_call)
    for _ in range(2):
        report = again(yard)
    seen = yard.seen()
    n_read = sum(number < N_LONG for number in seen)
    assert seen == once([*range(n_read), *range(N_LONG, 2 * N_LONG + 1000)])
    assert report.lost_bytes == len(lines(range(n_read, N_LONG)))


@pytest.mark.parametrize("how", ["rename", "delete", "compress"])
def test_taken_away_while_it_is_read(yard, how):
    live = yard.write("app.log", lines(range(N_LONG)))

    def take():
        if how == "rename":
            live.rename(yard.logs / "app.log.1")
            yard.append("app.log", lines(range(N_LONG, N_LONG + 10)))
        elif how == "compress":
            yard.write("app.log.1.zst", zstandard.ZstdCompressor().compress(live.read_bytes()))
            live.unlink()
        else:
            live.unlink()

    while_reading(yard, take)
    report = again(yard)
    assert yard.seen() == once(range(N_LONG + (10 if how == "rename" else 0)))
    assert report.lost_bytes == 0


@RESTARTS
def test_rewritten_to_exactly_the_same_size_and_time(yard, restart):
    live = yard.write("app.log", lines(range(10, 60)))
    yard.now = yard.clock() + 60
    again(yard, restart)
    status = live.stat()
    for start in (100, 200, 300):
        live.write_bytes(lines(range(start, start + 50))[: status.st_size])
        size = live.stat().st_size
        with live.open("ab") as file:
            file.write(b" " * (status.st_size - size))
        os.utime(live, ns=(status.st_atime_ns, status.st_mtime_ns))
        again(yard, restart)
    seen = yard.seen()
    assert all(seen[number] == 1 for start in (10, 100, 200, 300) for number in range(start, start + 40))
    assert max(seen.values()) == 1


@RESTARTS
@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_when_only_a_part_was_read(yard, restart, suffix):
    yard.restart(commit_bytes=1 << 16)
    live = yard.write("app.log", lines(range(N_LONG)))
    asked = iter([False, False, True])
    yard.ingestor.run(should_stop=lambda: next(asked, True))
    assert 0 < sum(yard.seen().values()) < N_LONG
    data = live.read_bytes() + lines(range(N_LONG, N_LONG + 5))
    packed = gzip.compress(data) if suffix == ".gz" else zstandard.ZstdCompressor().compress(data)
    yard.write(f"app.log.1{suffix}", packed)
    live.unlink()
    assert again(yard, restart).lost_bytes == 0
    assert yard.seen() == once(range(N_LONG + 5))


@RESTARTS
def test_rotated_into_another_directory_with_a_line_begun(yard, restart):
    yard.write("app.log", lines(range(10)) + line(10)[:90])
    again(yard, restart)
    (yard.logs / "old").mkdir()
    (yard.logs / "app.log").rename(yard.logs / "old" / "app.log")
    yard.write("app.log", lines(range(11, 20)))
    again(yard, restart)
    yard.append("old/app.log", line(10)[90:])
    assert again(yard, restart).lost_bytes == 0
    assert yard.seen() == once(range(20))


@RESTARTS
def test_a_directory_removed_and_made_again_with_the_same_names(yard, restart):
    for turn in range(4):
        yard.write("inner/app.log", lines(range(10 * turn, 10 * turn + 10)))
        yard.write("inner/app.log.1", lines(range(1000 + 10 * turn, 1010 + 10 * turn)))
        again(yard, restart)
        shutil.rmtree(yard.logs / "inner")
        if turn % 2:
            again(yard, restart)
    assert again(yard, restart).lost_bytes == 0
    assert yard.seen() == once([*range(40), *range(1000, 1040)])


def with_ids(numbers):
    return b"".join(line(number, id=f"record-{number}") for number in numbers)


def test_ids_count_once_within_the_window_also_after_a_restart_and_again_beyond_it(tmp_path):
    yard = Yard(tmp_path, Schema(id="id"))
    yard.write("a.jsonl", with_ids(range(100)))
    yard.run()
    yard.restart()
    yard.write("b.jsonl", with_ids(range(50, 150)))
    report = yard.run()
    assert (report.samples, report.duplicates) == (50, 50)
    assert yard.seen() == once(range(150))
    # The same line twice in one file, and in two commits of it.
    yard.restart(commit_bytes=1 << 10)
    yard.write("c.jsonl", with_ids([*range(150, 400), *range(150, 400)]))
    assert (yard.run().duplicates, sum(yard.seen().values())) == (250, 400)
    yard.store.prune(max_samples=100)
    held = set(yard.seen())
    assert 0 not in held
    yard.restart()
    yard.write("d.jsonl", with_ids([0, 399]))
    report = yard.run()
    assert (report.samples, report.duplicates) == (1, 1)
    assert yard.seen() == once(held | {0})
    yard.close()


def test_damage_with_halves_waiting_and_lines_in_quarantine(tmp_path):
    """Both come back from the logs that are still there, and halves still find each other."""
    schema = trajectories.schema()
    yard = Yard(tmp_path, schema)
    yard.write("a.jsonl", trajectories.decision(1) + trajectories.decision(2) + b"{no JSON\n")
    yard.write("b.jsonl", trajectories.outcome(1) + trajectories.outcome(3))
    report = yard.run()
    assert (report.samples, report.pending, report.quarantined) == (1, 2, 1)
    yard.store.sync()
    yard.close()
    state = tmp_path / "state.db"
    data = bytearray(state.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    state.write_bytes(bytes(data))
    damage = StoreDamagedError("commit: database disk image is malformed")
    with rebuild(state, schema.digest, damage, max_samples=1000) as store:
        ingestor = Ingestor(store, schema, IngestOptions(yard.logs))
        report = ingestor.run()
        assert (report.samples, report.pending, report.quarantined) == (1, 2, 1)
        yard.append("b.jsonl", trajectories.outcome(2))
        yard.append("a.jsonl", trajectories.decision(3, at=3.0))
        report = ingestor.run()
        assert (report.samples, report.duplicates, report.pending) == (2, 0, 0)
        assert [row.line for row in store.quarantine()] == [b"{no JSON"]
    assert list(tmp_path.glob("state.db.damaged-*"))


@pytest.mark.slow
def test_twenty_thousand_files_in_one_burst(yard):
    for number in range(20_000):
        (yard.logs / f"{number}.jsonl").write_bytes(line(number))
    assert yard.run().samples == 20_000
    assert yard.seen() == once(range(20_000))
    yard.restart()
    # After a restart a short new file is compared with those that begin like it, and not with all the others.
    yard.write("new.jsonl", line(20_000))
    assert yard.run().samples == 1


@pytest.mark.slow
def test_five_thousand_files_with_sixty_four_descriptors(yard):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        for number in range(5000):
            name = f"{number % 7}/{number}.jsonl"
            yard.write(name, lines([number]) + line(10_000 + number)[:90])
        report = yard.run()
        assert (report.samples, report.refused, report.pending) == (5000, (), 5000)
        yard.restart()
        for number in range(5000):
            yard.append(f"{number % 7}/{number}.jsonl", line(10_000 + number)[90:])
        report = yard.run()
        assert (report.samples, report.refused, report.pending) == (5000, (), 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert yard.seen() == once([*range(5000), *range(10_000, 15_000)])
