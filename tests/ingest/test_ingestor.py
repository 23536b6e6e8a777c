"""Passes over a directory: what was written is in the dataset, each line once, and nothing that was not."""

import gzip
import json
import os
import resource
import shutil
import socket
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from log_yard import line, lines, once

from streamtrain.dataset.errors import StoreError
from streamtrain.dataset.store import Store
from streamtrain.dataset.window import load
from streamtrain.ingest import tail
from streamtrain.ingest.ingestor import IngestOptions, Ingestor
from streamtrain.ingest.schema import Schema, VectorField


def test_dropped_files_plain_and_gzip_are_read_whole(yard):
    yard.write("a.jsonl", lines(range(100)))
    yard.write("below/b.jsonl.gz", gzip.compress(lines(range(100, 300))))
    report = yard.run()
    assert (report.lines, report.samples, report.duplicates, report.quarantined, report.pending) == (300, 300, 0, 0, 0)
    assert yard.seen() == once(range(300))


def test_gzip_is_told_by_content_not_by_name(yard):
    yard.write("plain.jsonl.gz", lines(range(3)))
    yard.write("packed.jsonl", gzip.compress(lines(range(3, 6))))
    assert yard.run().samples == 6


def test_gzip_of_several_members_and_a_last_line_without_newline(yard):
    yard.write("a.jsonl.gz", gzip.compress(lines(range(5))) + gzip.compress(lines(range(5, 9)).rstrip()) + bytes(512))
    report = yard.run()
    assert (report.samples, report.pending) == (9, 0)


def test_appended_lines_are_read_once_they_have_an_end(yard):
    whole = lines(range(10))
    for cut in (1, 150, 170, 171, 500, len(whole)):
        yard.write("a.jsonl", whole[:cut])
        report = yard.run()
        assert yard.seen() == once(range(whole[:cut].count(b"\n")))
        assert report.pending == (cut != len(whole) and not whole[:cut].endswith(b"\n"))
    assert report.quarantined == 0


def test_restart_goes_on_where_it_stopped(yard):
    for start in range(0, 50, 10):
        yard.append("a.jsonl", lines(range(start, start + 10)) + line(start + 10)[:40])
        assert yard.run().samples == 10
        yard.restart()
        yard.append("a.jsonl", b"")
        (yard.logs / "a.jsonl").write_bytes((yard.logs / "a.jsonl").read_bytes()[:-40])
    assert yard.seen() == once(range(50))


def test_unchanged_files_are_not_opened(yard, monkeypatch):
    for name in "abc":
        path = yard.write(f"{name}.jsonl", lines([ord(name)]))
        os.utime(path, (1e9, 1e9))
    yard.now = path.stat().st_ctime + 1
    assert yard.run().samples == 3
    before = yard.store.counts()
    opened = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda *given, **more: opened.append(given[0]) or real(*given, **more))
    assert yard.run().lines == 0
    yard.restart()
    opened.clear()
    assert yard.run().lines == 0
    assert opened == [yard.logs]
    assert yard.store.counts() == before


def test_a_change_within_the_same_tick_of_the_clock_is_seen(yard):
    path = yard.write("a.jsonl", lines(range(10)))
    yard.run()
    status = path.stat()
    path.write_bytes(lines(range(20, 30)).replace(b"\n", b" \n")[: status.st_size - 1] + b"\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    yard.run()
    assert yard.seen()[20] == 1


def test_bad_lines_are_quarantined_with_place_and_reason(yard):
    good = lines(range(3))
    bad = [
        (b"not json\n", "not JSON"),
        (line(1, similarity_score="high"), "similarity_score"),
        (line(1).replace(b"0.125", b"NaN"), "NaN"),
        (line(1, lightweight_successful=1.5), "1.5, expected true, false or a number in 0..1"),
        (json.dumps({"similarity_score": 1}).encode() + b"\n", "missing required field 'recency_score'"),
    ]
    data = good
    places = []
    for text, _ in bad:
        places.append(len(data))
        data += text + line(len(places) + 100)
    path = yard.write("a.jsonl", data)
    report = yard.run()
    assert (report.lines, report.samples, report.quarantined) == (13, 8, 5)
    rows = yard.store.quarantine()
    assert [row.offset for row in reversed(rows)] == places
    assert [row.line for row in reversed(rows)] == [text.rstrip(b"\n") for text, _ in bad]
    assert {row.path for row in rows} == {str(path)}
    for row, (_, reason) in zip(reversed(rows), bad, strict=True):
        assert reason in row.reason
    assert yard.seen() == once([0, 1, 2, 101, 102, 103, 104, 105])


def test_oversized_line_is_quarantined_once_and_reading_goes_on(yard):
    yard.restart(max_line_bytes=1 << 10)
    long = line(1, note="x" * 5000)
    yard.write("a.jsonl", line(0) + long + line(2) + long[:3000])
    report = yard.run()
    assert (report.lines, report.samples, report.quarantined) == (4, 2, 2)
    yard.restart()
    yard.append("a.jsonl", long[3000:5000])
    assert yard.run().lines == 0
    yard.append("a.jsonl", long[5000:] + line(3))
    assert (report := yard.run()).samples == 1
    assert report.quarantined == 0
    assert yard.seen() == once([0, 2, 3])
    assert [len(row.line) for row in yard.store.quarantine()] == [3000, 4096]


def test_a_huge_file_without_a_newline_takes_no_memory(yard):
    with (yard.logs / "sparse.jsonl").open("wb") as file:
        file.truncate(300 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yard.write("good.jsonl", lines(range(10)))
    report = yard.run()
    assert (report.samples, report.quarantined) == (10, 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 << 10


def test_ids_count_once_across_files_and_restarts(yard):
    yard.write("a.jsonl", b"".join(line(i, id=f"r{i}") for i in range(50)))
    yard.write("b.jsonl", b"".join(line(i, id=f"r{i}") for i in range(40, 90)))
    report = yard.run()
    assert (report.lines, report.samples, report.duplicates) == (100, 90, 10)
    yard.restart()
    yard.write("c.jsonl", b"".join(line(i, id=f"r{i}") for i in range(90, 95)) + line(5, id="r5"))
    report = yard.run()
    assert (report.lines, report.samples, report.duplicates) == (6, 5, 1)
    assert yard.seen() == once(range(95))


def test_last_line_without_newline_is_taken_after_the_idle_timeout(yard):
    yard.write("a.jsonl", lines(range(3)).rstrip())
    yard.write("b.jsonl", lines(range(10, 13))[:-20])
    assert (report := yard.run()).samples == 4
    assert report.pending == 2
    for restarted in (False, True):
        if restarted:
            yard.restart()
        yard.now = (yard.logs / "a.jsonl").stat().st_mtime + 11
        report = yard.run()
        assert (report.samples, report.pending) == ((1, 1) if not restarted else (0, 1))
    yard.append("a.jsonl", b"\n" + line(3))
    yard.now = None
    assert yard.run().samples == 1
    assert yard.seen() == once([0, 1, 2, 3, 10, 11])


def test_what_is_no_regular_file_never_blocks_and_is_never_read(yard, tmp_path):
    secret = tmp_path / "secret.jsonl"
    secret.write_bytes(line(666))
    os.mkfifo(yard.logs / "fifo.jsonl")
    (yard.logs / "link.jsonl").symlink_to(secret)
    (yard.logs / "loop").symlink_to(yard.logs)
    (yard.logs / "dir.jsonl").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(yard.logs / "socket.jsonl"))
        yard.write("good.jsonl", lines(range(5)))
        report = yard.run()
    assert yard.seen() == once(range(5))
    assert {Path(path).name for path, _ in report.refused} == {"fifo.jsonl", "link.jsonl", "socket.jsonl"}


def test_what_is_put_in_a_files_place_after_the_scan_is_not_read(yard, tmp_path):
    """Not even through a link in a directory's place; what is rightly there is read by the next pass."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.jsonl").write_bytes(line(666))
    yard.write("inner/a.jsonl", line(0))
    yard.write("b.jsonl", line(1))

    def swap():
        if not (yard.logs / "inner").is_symlink():
            shutil.rmtree(yard.logs / "inner")
            (yard.logs / "inner").symlink_to(tmp_path / "outside")
        return False

    yard.ingestor.run(should_stop=swap)
    yard.run()
    assert yard.seen() == once([1])


def test_foreign_formats_and_damaged_gzip_are_one_finding_each(yard):
    yard.write("a.jsonl.zst", b"\x28\xb5\x2f\xfd" + b"\xff" * 100)
    damaged = bytearray(gzip.compress(lines(range(1000)), mtime=0))
    damaged[len(damaged) // 2] ^= 0xFF
    yard.write("b.jsonl.gz", bytes(damaged))
    report = yard.run()
    assert report.quarantined >= 2
    reasons = [row.reason for row in yard.store.quarantine() if not row.line]
    assert len(reasons) == 2
    assert any("zstd" in reason for reason in reasons)
    assert any("gzip is damaged" in reason for reason in reasons)
    yard.now = (yard.logs / "b.jsonl.gz").stat().st_ctime + 1
    yard.run()
    assert yard.run().lines == 0


def test_a_growing_gzip_is_read_as_far_as_it_goes(yard):
    packed = gzip.compress(lines(range(3000)), mtime=0)
    for share in (0.001, 0.2, 0.7, 1.0):
        yard.write("a.jsonl.gz", packed[: int(len(packed) * share)])
        report = yard.run()
        assert report.pending == (share == 0.2 or share == 0.7)
        yard.restart()
    assert yard.seen() == once(range(3000))
    assert yard.store.counts().n_quarantined == 0


def test_stopping_between_blocks_loses_nothing(yard, monkeypatch):
    monkeypatch.setattr(tail, "BLOCK_BYTES", 1 << 19)
    yard.write("a.jsonl", lines(range(20_000)))
    stops = 0
    while sum(yard.seen().values()) < 20_000:
        yard.ingestor.run(should_stop=iter([False, False, True, True, True]).__next__)
        stops += 1
        yard.restart()
    assert stops >= 3
    assert yard.seen() == once(range(20_000))


def test_a_full_disk_changes_nothing_and_reading_goes_on_when_there_is_room(yard, monkeypatch):
    monkeypatch.setattr(tail, "BLOCK_BYTES", 1 << 19)
    yard.restart(commit_bytes=1 << 16)
    yard.write("a.jsonl", lines(range(5000)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        with pytest.raises(StoreError, match=r"commit what was read in .*state\.db.*nothing was changed"):
            yard.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = sum(yard.seen().values())
    assert 0 < kept < 5000
    assert yard.run().samples == 5000 - kept
    assert yard.seen() == once(range(5000))


def test_lag_counts_what_is_not_read(yard):
    assert yard.ingestor.lag() == (0, 0.0)
    path = yard.write("a.jsonl", lines(range(10)))
    size = path.stat().st_size
    n_bytes, seconds = yard.ingestor.lag()
    assert n_bytes == size
    assert seconds >= 0
    yard.run()
    assert yard.ingestor.lag()[0] == 0
    yard.append("a.jsonl", line(10))
    yard.now = path.stat().st_mtime + 42
    n_bytes, seconds = yard.ingestor.lag()
    assert n_bytes == len(line(10))
    assert seconds == pytest.approx(42)
    with Store(yard.root / "state.db", readonly=True) as looking:
        other = Ingestor(looking, yard.schema, IngestOptions(yard.logs))
        assert other.lag()[0] == len(line(10))


def test_two_ingestors_of_one_store_leave_each_others_files_alone(yard):
    yard.write("a.jsonl", lines(range(3)))
    yard.write("b.jsonl", lines(range(10, 13)) + b"{")
    yard.run()
    only = Ingestor(yard.store, yard.schema, IngestOptions(yard.logs, include=("/a.jsonl",)))
    assert only.run().lost_bytes == 0
    assert Counter(file.gone for file in yard.store.files()) == {False: 2}


@pytest.mark.needs_data
@pytest.mark.parametrize("name", ["routellm_mixtral", "llmrouter_llama8b", "mtbench_conversations", "classic_sea4"])
def test_real_routing_outcomes_are_all_samples(name, shared_data, tmp_path):
    meta = json.loads((shared_data / f"{name}.meta.json").read_text())
    session = None if name.startswith("classic") else "session_id"
    schema = Schema(features=VectorField("features", len(meta["feature_names"])), session=session)
    records = [
        json.loads(text) for text in gzip.decompress((shared_data / f"{name}.jsonl.gz").read_bytes()).splitlines()
    ]
    with Store(tmp_path / "state.db", schema.digest) as store:
        report = Ingestor(store, schema, IngestOptions(shared_data, include=(f"{name}.jsonl.gz",))).run()
        assert (report.lines, report.samples, report.quarantined, report.pending) == (meta["rows"], meta["rows"], 0, 0)
        window = load(store, meta["rows"])
    np.testing.assert_array_equal(window.features, np.array([record["features"] for record in records], np.float32))
    assert window.labels.tolist() == [record["lightweight_successful"] for record in records]
    if session:
        assert len(set(window.groups.tolist())) == len({record["session_id"] for record in records})
