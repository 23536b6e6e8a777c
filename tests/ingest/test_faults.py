"""The Nth I/O call fails, for every N, and the power goes at every write: afterwards every line is there exactly once.

Below SQLite and Python, in a library preloaded into a process of its own: real files, a real database, real calls.
"""

import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from simulated_logs import lines, rows, write_config

from streamtrain.dataset.errors import StoreDamagedError
from streamtrain.dataset.rescue import rebuild

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("lasting", ["once", pytest.param("on", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "fault", ["EMFILE", *(pytest.param(fault, marks=pytest.mark.slow) for fault in ("ENOSPC", "EIO", "EACCES"))]
)
def test_every_call_fails_in_turn(run_beside, tmp_path, fault, lasting):
    """Each in two ways: the process ends and another begins, or it goes on with what it has."""
    report = run_beside("fail_every_io.py", tmp_path, fault, lasting, 1)
    sys.stdout.write(f"{fault} {lasting}: {report}\n")
    assert report["total"] >= (12 if fault == "EMFILE" else 70)
    assert sum(report["outcomes"].values()) == 2 * report["total"]
    # It is said when the database can't be used, and when a log can't be read.
    assert report["outcomes"]["StoreError"] >= 10
    assert report["outcomes"]["left alone"] >= 10


@pytest.mark.slow
def test_the_power_goes_at_every_write(run_beside, tmp_path):
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    report = run_beside("cut_power.py", tmp_path, seed, 2)
    sys.stdout.write(f"{report}\n")
    assert report["cuts"] >= 300
    assert report["behind"] >= 100


def test_a_read_error_that_passed_is_not_taken_for_damage(yard):
    """SQLite says of both that the database is malformed."""
    yard.write("a.jsonl", lines(rows(30)))
    yard.run()
    yard.close()
    damage = StoreDamagedError("commit: database disk image is malformed")
    with rebuild(yard.root / "state.db", yard.schema.digest, damage, max_samples=1000) as store:
        assert store.counts().n_samples == 30
    assert not list(yard.root.glob("*.damaged-*"))


@pytest.mark.slow
def test_the_daemon_outlives_a_full_disk(tmp_path):
    """It says so, goes on, and reads everything once there is room: no crash, and so no crash loop."""
    config = write_config(tmp_path, "trigger: {min_samples: 100000}\n")
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(100)))
    with (tmp_path / "err").open("wb") as err:
        command = [sys.executable, "-m", "streamtrain", "run", "--config", str(config)]
        process = subprocess.Popen(command, stderr=err, cwd=REPOSITORY)
    try:
        until(lambda: n_ingested(tmp_path) == 100)
        until(lambda: b"ready" in (tmp_path / "err").read_bytes())
        limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        largest = max(path.stat().st_size for path in tmp_path.rglob("state.db*"))
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (largest + 4096, limits[1]))
        (tmp_path / "logs" / "b.jsonl").write_bytes(lines(rows(50_000, first_id=100)))
        until(lambda: b"nothing can be kept" in (tmp_path / "err").read_bytes())
        assert n_ingested(tmp_path) < 50_100
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
        until(lambda: n_ingested(tmp_path) == 50_100)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
    assert b"Traceback" not in (tmp_path / "err").read_bytes()


def until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def n_ingested(folder):
    if not (folder / "state" / "state.db").exists():
        return 0
    with closing(sqlite3.connect(f"file:{folder}/state/state.db?mode=ro", uri=True)) as database:
        try:
            return database.execute("SELECT sum(n_samples) FROM totals").fetchone()[0] or 0
        except sqlite3.OperationalError:
            return 0  # it is just being made
