from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from streamtrain.publish.lock import Lock, LockedError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "lock"


def test_the_second_is_refused_with_the_holders_process(file):
    code = (
        "import sys; from pathlib import Path; from streamtrain.publish.lock import Lock;"
        f"lock = Lock(Path({str(file)!r}), 'busy'); lock.acquire(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=rf"{file.parent}: busy by process {holder.pid}; stop it first"):
            Lock(file, "busy").acquire()
        holder.kill()
        holder.wait()
        # The kernel has let go of it.
        Lock(file, "busy").acquire()


def test_two_objects_of_one_process_exclude_each_other(file):
    first, second = Lock(file, "busy"), Lock(file, "busy")
    first.acquire()
    first.acquire()
    assert first.held
    with pytest.raises(LockedError):
        second.acquire(wait_s=0.03)
    first.release()
    first.release()
    assert not first.held
    second.acquire()
    assert second.held


def test_who_waits_gets_it(file):
    first, second = Lock(file, "busy"), Lock(file, "busy")
    first.acquire()
    got = threading.Event()

    def wait():
        with second.holding(wait_s=60):
            got.set()

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    assert not got.is_set()
    first.release()
    thread.join()
    assert got.is_set()
    assert not second.held


def test_a_removed_file_is_not_held(file):
    lock = Lock(file, "busy")
    lock.acquire()
    file.unlink()
    assert not lock.held
    lock.acquire()
    assert lock.held
    with pytest.raises(LockedError):
        Lock(file, "busy").acquire()


def test_it_is_let_go_after_an_error(file):
    lock = Lock(file, "busy")

    def fail():
        with lock.holding(0.0):
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    Lock(file, "busy").acquire()
