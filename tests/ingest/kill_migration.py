"""Kill a migration at its Nth I/O call, for every N; the next start must find the older or the newer state, whole.

Runs under `faulty_io.so`. Arguments: folder to work in, version to begin with. Prints JSON.
"""

import ctypes
import json
import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

from older_state import backups, rows_of, version_of, write_older

from streamtrain.dataset.migration import VERSION
from streamtrain.dataset.store import Store

ALL, WRITE = 63, 4
BEFORE, IN_THE_MIDDLE = -1, -2
library = ctypes.CDLL(None)
library.faulty_arm.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int]
library.faulty_count.restype = ctypes.c_long


def killed(path: Path, n: int, how: int, kinds: int) -> bool:
    """Migrate in a process of its own, which is killed at its Nth call; False if it has not as many."""
    child = os.fork()
    if not child:
        library.faulty_watch(str(path.parent).encode())
        library.faulty_arm(n, how, 0, kinds)
        Store(path).close()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return True
    assert status == 0, status
    return False


def main() -> None:
    folder, version = Path(sys.argv[1]), int(sys.argv[2])
    master = folder / "master.db"
    write_older(master, version)
    older = rows_of(master)
    whole = folder / "whole"
    whole.mkdir()
    shutil.copyfile(master, whole / "state.db")
    Store(whole / "state.db").close()
    newer = rows_of(whole / "state.db")
    newer.pop("facts")
    found: Counter[str] = Counter()
    for how, kinds in ((BEFORE, ALL), (IN_THE_MIDDLE, WRITE)):
        n = 0
        while True:
            n += 1
            place = folder / "state"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            path = place / "state.db"
            shutil.copyfile(master, path)
            if not killed(path, n, how, kinds):
                break
            left = version_of(path)
            found[f"version {left}"] += 1
            kept = backups(path)
            if left == version:
                assert rows_of(path) == older, (how, n)
            else:
                assert left == VERSION, (how, n, left)
                assert kept, (how, n)
            for backup in kept:
                # A backup that has its name is complete at every moment.
                assert (version_of(backup), rows_of(backup)) == (version, older), (how, n)
            Store(path).close()
            rows = rows_of(path)
            rows.pop("facts")
            assert (version_of(path), rows) == (VERSION, newer), (how, n)
            (backup,) = backups(path)
            assert rows_of(backup) == older, (how, n)
            assert not [one for one in place.iterdir() if one.name.startswith(".new-")], (how, n)
            found["killed"] += 1
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
