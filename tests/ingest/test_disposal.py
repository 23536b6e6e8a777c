"""After reading: files are moved or deleted only when they are whole, left alone and committed; nothing is lost."""

import gzip
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from log_yard import line, lines, once

from streamtrain.dataset.store import Store
from streamtrain.ingest import disposal
from streamtrain.ingest.disposal import Disposal


class Shed:
    """A yard whose files are disposed of after each pass, an hour after they were last written."""

    def __init__(self, yard, archive):
        self.yard = yard
        self.archive = archive

    def run(self):
        self.yard.now = None
        report = self.yard.run()
        self.yard.now = self.yard.clock() + 3600
        report = self.yard.run()
        n = Disposal(self.yard.store, self.yard.logs, self.archive).dispose(self.yard.ingestor.finished())
        return report, n

    def there(self):
        return sorted(path.name for path in self.yard.logs.rglob("*") if path.is_file())


@pytest.fixture(params=["archive", "delete"])
def shed(request, yard, tmp_path):
    return Shed(yard, tmp_path / "old" / "logs" if request.param == "archive" else None)


def test_files_that_were_read_go_with_their_names(shed):
    shed.yard.write("a.jsonl", lines(range(3)))
    shed.yard.write("below/b.jsonl.gz", gzip.compress(lines(range(3, 6))))
    assert shed.run()[1] == 2
    assert shed.there() == []
    if shed.archive:
        assert (shed.archive / "a.jsonl").read_bytes() == lines(range(3))
        assert (shed.archive / "below" / "b.jsonl.gz").is_file()
    assert shed.yard.seen() == once(range(6))
    report, n = shed.run()
    assert (report.lines, report.lost_bytes, report.n_lost, n) == (0, 0, 0, 0)
    shed.yard.write("a.jsonl", lines(range(6, 9)))
    shed.run()
    assert shed.yard.seen() == once(range(9))
    if shed.archive:
        assert (shed.archive / "a.jsonl").read_bytes() == lines(range(3))
        assert (shed.archive / "a.jsonl.1").read_bytes() == lines(range(6, 9))


def test_what_is_not_read_to_its_end_stays(shed):
    yard = shed.yard
    yard.write("partial.jsonl", lines(range(3)) + b'{"timestamp":')
    yard.write("growing.jsonl.gz", gzip.compress(lines(range(500)))[:-20])
    yard.write("image.jsonl", b"PK\x03\x04" + bytes(100))
    yard.write("empty.jsonl", b"")
    yard.write("other.txt", lines(range(3)))
    assert shed.run()[1] == 0
    assert len(shed.there()) == 5


def test_a_file_that_changed_a_moment_ago_stays(shed):
    shed.yard.write("a.jsonl", lines(range(3)))
    shed.yard.run()
    assert shed.yard.ingestor.finished() == []
    finished = shed.run()
    assert finished[1] == 1


def test_a_file_that_changed_after_it_was_read_stays(shed):
    yard = shed.yard
    yard.write("a.jsonl", lines(range(3)))
    yard.run()
    yard.now = yard.clock() + 3600
    yard.run()
    finished = yard.ingestor.finished()
    yard.append("a.jsonl", line(3))
    assert Disposal(yard.store, yard.logs, shed.archive).dispose(finished) == 0
    shed.run()
    assert yard.seen() == once(range(4))


def test_a_file_that_someone_has_open_for_writing_stays(shed):
    with (shed.yard.logs / "a.jsonl").open("wb", buffering=0) as writer:
        writer.write(lines(range(3)))
        assert shed.run()[1] == 0
        writer.write(line(3))
    assert shed.run()[1] == 1
    assert shed.yard.seen() == once(range(4))


LATE_WRITER = """
import sys
from pathlib import Path
with open(sys.argv[1], "ab", buffering=0) as file:
    file.write(sys.argv[2].encode())
"""


@pytest.mark.parametrize("leases", [True, False])
def test_a_line_written_in_the_very_moment_is_not_lost(shed, monkeypatch, leases):
    shed.yard.write("a.jsonl", lines(range(3)))
    real, writers = disposal._changed, []

    def interrupted(log):
        # Whoever opened the file by its name just before it was moved has got it, wherever it is now.
        place = f"/proc/{os.getpid()}/fd/{log.descriptor}"
        writers.append(subprocess.Popen([sys.executable, "-c", LATE_WRITER, place, line(3).decode()]))
        if not leases:
            writers[-1].wait()
            return real(log)
        while not real(log):
            time.sleep(0.01)
        return True

    monkeypatch.setattr(disposal, "_changed", interrupted)
    if not leases:
        monkeypatch.setattr(disposal, "take_lease", lambda descriptor: None)
    assert shed.run()[1] == 0
    assert [writer.wait() for writer in writers] == [0]
    monkeypatch.undo()
    assert shed.run()[1] == 1
    assert shed.yard.seen() == once(range(4))


def test_everything_is_on_the_disk_before_anything_goes(shed, monkeypatch):
    order = []
    real = Store.sync
    monkeypatch.setattr(Store, "sync", lambda store: order.append("sync") or real(store))
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda path, target: order.append("rename") or rename(path, target))
    shed.yard.write("a.jsonl", lines(range(3)))
    shed.run()
    assert order == ["sync", "rename"]


def test_sync_works_beside_a_reader(yard):
    yard.write("a.jsonl", lines(range(3)))
    yard.run()
    with Store(yard.root / "state.db", readonly=True) as looking, looking.snapshot():
        yard.write("b.jsonl", lines(range(3, 6)))
        yard.run()
        yard.store._db.execute("PRAGMA busy_timeout = 50")
        yard.store.sync()
    assert yard.store._db.execute("PRAGMA synchronous").fetchone() == (1,)


CHILD = """
import os, signal, sys
from pathlib import Path
from streamtrain.dataset.store import Store
from streamtrain.ingest.disposal import Disposal
from streamtrain.ingest.ingestor import IngestOptions, Ingestor
from streamtrain.ingest.schema import Schema
import time
state, logs, archive, step = sys.argv[1:]
store = Store(Path(state), Schema().digest)
clock = lambda: time.time() + 3600
ingestor = Ingestor(store, Schema(), IngestOptions(Path(logs)), clock=clock)
ingestor.run()
name, nth = step.split(":")
count = 0
def killing(real):
    def run(*args, **more):
        global count
        count += 1
        if count == int(nth):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **more)
    return run
owner = Store if name in ("sync", "set") else Path
setattr(owner, name, killing(getattr(owner, name)))
Disposal(store, Path(logs), Path(archive) if archive else None).dispose(ingestor.finished())
"""


@pytest.mark.parametrize("step", ["sync:1", "set:1", "set:2", "set:3", "rename:1", "rename:2", "unlink:1", "unlink:2"])
def test_killed_at_every_step_nothing_is_lost_or_read_twice(shed, step):
    yard = shed.yard
    yard.write("a.jsonl", lines(range(3)))
    yard.write("b.jsonl", lines(range(3, 6)))
    yard.close()
    words = [str(yard.root / "state.db"), str(yard.logs), str(shed.archive or ""), step]
    done = subprocess.run([sys.executable, "-c", CHILD, *words], check=False)
    assert done.returncode in (-signal.SIGKILL, 0)
    yard.restart()
    report, _ = shed.run()
    assert (report.duplicates, report.lost_bytes) == (0, 0)
    assert yard.seen() == once(range(6))
    shed.run()
    assert shed.there() == []
    if shed.archive:
        kept = b"".join(path.read_bytes() for path in sorted(shed.archive.iterdir()))
        assert kept == lines(range(6))


def test_what_can_not_be_put_back_keeps_nobody_from_starting(yard, monkeypatch, caplog):
    """A directory that may not be written to any more is no reason to end, and to begin and end again for ever."""
    source, target = yard.logs / "a.jsonl", yard.logs / ".a.jsonl.deleting~"
    target.write_bytes(lines(range(3)))
    ends = {"from": os.fsencode(source).hex(), "to": os.fsencode(target).hex()}
    yard.store.set("moving", ends)
    real = Path.rename

    def refused(path, to):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "rename", refused)
    Disposal(yard.store, yard.logs, None)
    assert "can't be put back" in caplog.text
    monkeypatch.setattr(Path, "rename", real)
    Disposal(yard.store, yard.logs, None)
    assert yard.run().samples == 3
    assert yard.store.get("moving") is None


def test_to_another_file_system(yard, tmp_path):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == yard.logs.stat().st_dev:
        pytest.skip("no second file system to write to")
    archive = other / f"streamtrain-test-{os.getpid()}"
    try:
        yard.write("below/a.jsonl", lines(range(3)))
        assert Shed(yard, archive).run()[1] == 1
        assert (archive / "below" / "a.jsonl").read_bytes() == lines(range(3))
        assert [path.name for path in (archive / "below").iterdir()] == ["a.jsonl"]
        assert not (yard.logs / "below" / "a.jsonl").exists()
    finally:
        shutil.rmtree(archive, ignore_errors=True)


def test_an_archive_that_cannot_be_written_leaves_the_log_where_it_is(yard, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    yard.write("a.jsonl", lines(range(3)))
    shed = Shed(yard, tmp_path / "file" / "below")
    assert shed.run()[1] == 0
    assert shed.there() == ["a.jsonl"]
    assert "can't be archived" in caplog.text
