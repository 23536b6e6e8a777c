"""Rotation in every way that log writers know: each line is in the dataset once, and what was lost is counted."""

import gzip
import os
import shutil

import pytest
from log_yard import line, lines, once

from streamtrain.ingest import recognise, tail

RESTARTS = pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])


def again(yard, restart):
    if restart:
        yard.restart()
    return yard.run()


@RESTARTS
def test_numbered_rotation_by_rename(yard, restart):
    number = 0
    for _ in range(6):
        for name, to in (("app.log.2", "app.log.3"), ("app.log.1", "app.log.2"), ("app.log", "app.log.1")):
            if (yard.logs / name).exists():
                (yard.logs / name).rename(yard.logs / to)
        # The writer still has the old file open, and ends a line there.
        yard.append("app.log", lines(range(number, number + 20)) + line(number + 20)[:50])
        number += 20
        again(yard, restart)
        with (yard.logs / "app.log").open("ab") as file:
            (yard.logs / "app.log").rename(yard.logs / "app.log.moving")
            (yard.logs / "app.log.moving").rename(yard.logs / "app.log")
            file.write(line(number)[50:] + line(number + 1))
        number += 2
    report = again(yard, restart)
    assert yard.seen() == once(range(number))
    assert (report.quarantined, report.lost_bytes) == (0, 0)


@RESTARTS
@pytest.mark.parametrize("copy_first", [False, True], ids=["read before", "read between"])
def test_copytruncate(yard, restart, copy_first):
    """The copy has lines that were never read where they were written; they are read from the copy."""
    live = yard.write("app.log", lines(range(10)))
    yard.run()
    yard.append("app.log", lines(range(10, 15)))
    shutil.copyfile(live, yard.logs / "app.log.1")
    if copy_first:
        again(yard, restart)
    os.truncate(live, 0)
    again(yard, restart)
    yard.append("app.log", lines(range(15, 18)))
    again(yard, restart)
    shutil.copyfile(live, yard.logs / "app.log.1")
    os.truncate(live, 0)
    yard.append("app.log", lines(range(18, 50)))
    report = again(yard, restart)
    assert yard.seen() == once(range(50))
    assert report.lost_bytes == 0


def test_truncated_and_rewritten_to_more_than_before(yard):
    live = yard.write("app.log", lines(range(10)))
    yard.run()
    live.write_bytes(lines(range(100, 130)))
    yard.run()
    assert yard.seen() == once([*range(10), *range(100, 130)])


def test_what_was_truncated_unread_is_counted(yard):
    live = yard.write("app.log", lines(range(10)) + line(10)[:30])
    yard.run()
    os.truncate(live, 0)
    report = yard.run()
    assert (report.n_lost, report.lost_bytes) == (1, 30)
    assert yard.store.counts().lost_bytes == 30


def test_deleted_before_it_was_read_to_its_end_is_counted(yard, monkeypatch):
    monkeypatch.setattr(tail, "BLOCK_BYTES", 1 << 19)
    live = yard.write("app.log", lines(range(20_000)))
    yard.restart(commit_bytes=1 << 16)
    yard.ingestor.run(should_stop=iter([False, False, True, True]).__next__)
    held = sum(yard.seen().values())
    assert 0 < held < 20_000
    live.unlink()
    report = yard.run()
    assert (report.n_lost, report.lost_bytes) == (1, len(lines(range(held, 20_000))))


def test_a_loss_is_taken_back_when_the_file_turns_up_again(yard):
    live = yard.write("app.log", lines(range(10)) + line(10)[:30])
    yard.run()
    away = yard.root / "away"
    live.rename(away)
    assert yard.run().lost_bytes == 30
    away.rename(yard.logs / "app.log.1")
    with (yard.logs / "app.log.1").open("ab") as file:
        file.write(line(10)[30:])
    report = yard.run()
    assert (report.samples, report.lost_bytes) == (1, 0)


def test_replaced_by_rename(yard):
    yard.write("app.log", lines(range(10)))
    yard.run()
    (yard.root / "new").write_bytes(lines(range(10, 40)))
    (yard.root / "new").rename(yard.logs / "app.log")
    yard.run()
    assert yard.seen() == once(range(40))


def test_replaced_by_rename_with_more_of_the_same(yard):
    """What an editor does on saving."""
    yard.write("app.log", lines(range(10)))
    yard.run()
    (yard.root / "new").write_bytes(lines(range(25)))
    (yard.root / "new").rename(yard.logs / "app.log")
    yard.run()
    assert yard.seen() == once(range(25))


@RESTARTS
def test_compressed_after_rotation(yard, restart):
    """As logrotate's delaycompress does: the `.gz` holds everything, also what was written after the last read."""
    yard.write("app.log", lines(range(100)))
    yard.run()
    yard.append("app.log", lines(range(100, 120)))
    (yard.logs / "app.log").rename(yard.logs / "app.log.1")
    packed = gzip.compress((yard.logs / "app.log.1").read_bytes(), mtime=0)
    yard.write("app.log", lines(range(120, 130)))
    for size in (10, 100, len(packed)):
        yard.write("app.log.1.gz", packed[:size])
        again(yard, restart)
    (yard.logs / "app.log.1").unlink()
    report = again(yard, restart)
    assert yard.seen() == once(range(130))
    assert report.lost_bytes == 0
    assert yard.store.counts().n_recognised == 1


@RESTARTS
def test_compressed_while_not_looking(yard, restart):
    yard.write("app.log", lines(range(100)))
    yard.run()
    yard.append("app.log", lines(range(100, 2000)))
    data = (yard.logs / "app.log").read_bytes()
    (yard.logs / "app.log").unlink()
    yard.write("app.log.1.gz", gzip.compress(data))
    yard.write("app.log", lines(range(2000, 2010)))
    report = again(yard, restart)
    assert yard.seen() == once(range(2010))
    assert report.lost_bytes == 0


@RESTARTS
def test_the_same_content_under_other_names_is_not_read_again(yard, restart):
    data = lines(range(200))
    yard.write("a.jsonl", data)
    yard.run()
    yard.write("b.jsonl", data)
    yard.write("c.jsonl.gz", gzip.compress(data))
    (yard.logs / "d.jsonl").hardlink_to(yard.logs / "a.jsonl")
    yard.write("e/a.jsonl", data)
    report = again(yard, restart)
    assert (report.lines, report.recognised) == (0, 3)
    assert yard.seen() == once(range(200))


def test_dropped_again_after_it_was_deleted(yard):
    yard.write("a.jsonl", lines(range(200)))
    yard.run()
    (yard.logs / "a.jsonl").unlink()
    yard.run()
    yard.restart()
    yard.write("b.jsonl", lines(range(210)))
    report = yard.run()
    assert (report.lines, report.recognised) == (10, 1)
    assert yard.seen() == once(range(210))


@RESTARTS
def test_a_copy_in_the_making_is_not_read_twice(yard, restart):
    data = lines(range(500))
    yard.write("a.jsonl", data)
    yard.run()
    for size in (2_000, 20_000, 60_000, len(data)):
        yard.write("b.jsonl", data[:size])
        again(yard, restart)
    assert yard.seen() == once(range(500))


def test_two_files_that_begin_alike_are_both_read(yard):
    head = lines(range(10))
    yard.write("a.jsonl", head + lines(range(100, 200)))
    yard.run()
    yard.write("b.jsonl", head + lines(range(300, 320)))
    yard.run()
    yard.append("b.jsonl", lines(range(320, 500)))
    yard.run()
    seen = yard.seen()
    assert {number: seen[number] for number in range(10)} == dict.fromkeys(range(10), 2)
    assert all(seen[number] == 1 for number in [*range(100, 200), *range(300, 500)])


def test_a_file_that_begins_like_a_deleted_longer_one_is_read_once_it_is_quiet(yard):
    head = lines(range(10))
    path = yard.write("a.jsonl", head + lines(range(100, 200)))
    yard.run()
    path.unlink()
    path = yard.write("b.jsonl", head + lines(range(300, 320)))
    assert yard.run().samples == 0
    yard.now = path.stat().st_mtime + 11
    assert yard.run().samples == 30


def test_rewritten_in_place_with_the_same_beginning_is_read_once_it_is_quiet(yard):
    head = lines(range(10))
    path = yard.write("a.jsonl", head + lines(range(100, 200)))
    yard.run()
    path.write_bytes(head + lines(range(300, 320)))
    assert yard.run().samples == 0
    yard.append("a.jsonl", lines(range(320, 330)))
    yard.now = path.stat().st_mtime + 11
    assert yard.run().samples == 40
    assert yard.run().samples == 0


def test_a_growing_file_that_begins_like_a_deleted_one_does_not_wait_for_ever(yard, monkeypatch):
    head = lines(range(10))
    yard.write("a.jsonl", head + lines(range(1000, 3000)))
    yard.run()
    (yard.logs / "a.jsonl").unlink()
    yard.write("b.jsonl", head + line(10))
    assert yard.run().samples == 0
    monkeypatch.setattr(recognise, "LONGEST_S", 0.0)
    yard.append("b.jsonl", line(11))
    assert yard.run().samples == 12


def test_the_damaged_copy_of_a_read_file_is_one_finding(yard):
    data = lines(range(3000))
    yard.write("a.jsonl", data)
    yard.run()
    packed = bytearray(gzip.compress(data))
    packed[len(packed) // 2] ^= 0x55
    yard.write("a.jsonl.gz", bytes(packed))
    yard.run()
    assert all(count <= 2 for count in yard.seen().values())
    assert "gzip is damaged" in yard.store.quarantine(1)[0].reason


def test_a_burst_of_files(yard):
    for number in range(2000):
        (yard.logs / f"{number}.jsonl").write_bytes(line(number))
    yard.run()
    assert yard.seen() == once(range(2000))
    assert len(yard.store.chunks()) == 1


def test_directories_that_come_and_go(yard):
    yard.write("x/y/a.jsonl", lines(range(10)))
    yard.run()
    shutil.rmtree(yard.logs)
    report = yard.run()
    assert [reason for _, reason in report.refused] == ["No such file or directory"]
    yard.logs.mkdir()
    yard.write("z/b.jsonl", lines(range(10, 20)))
    yard.run()
    assert yard.seen() == once(range(20))


@RESTARTS
def test_a_short_copy_is_known_where_the_original_was_renamed_just_now(yard, restart):
    """The copy is looked at first, and the original began with less than what tells files apart."""
    live = yard.write("app.log", line(0)[:40])
    again(yard, restart)
    yard.append("app.log", line(0)[40:])
    yard.write("app.log.1.gz", gzip.compress(live.read_bytes()))
    again(yard, restart)
    yard.append("app.log", line(1))
    again(yard, restart)
    live.rename(yard.logs / "app.log.2")
    for _ in range(3):
        report = again(yard, restart)
    assert yard.seen() == once(range(2))
    assert (report.quarantined, report.lost_bytes) == (0, 0)
