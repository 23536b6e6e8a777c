"""Kill a commit that drops old samples at its Nth I/O call, for every N; what goes on from there gives the same window.

Runs under `faulty_io.so`. Argument: folder to work in. Prints JSON.
"""

import ctypes
import json
import os
import shutil
import signal
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
from sample_maker import make

from streamtrain.dataset.select import select
from streamtrain.dataset.store import Store
from streamtrain.dataset.window import take
from streamtrain.reading import Batch, Source
from streamtrain.types import InputRange, Samples

ALL, WRITE = 63, 4
BEFORE, IN_THE_MIDDLE = -1, -2
WINDOW, SIZE, SHARE = 40, 16, 0.4
library = ctypes.CDLL(None)
library.faulty_arm.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int]
SAMPLES = make(300)


def opened(path: Path) -> Store:
    return Store(path, "digest", max_samples=WINDOW, reservoir=SIZE, clock=lambda: 1.0)


def commit(store: Store, start: int, stop: int) -> None:
    """Commit samples, and how far they were read, as ingestion does."""
    ranges = (InputRange(f"{7:016x}", "a", start, stop),)
    store.commit(Batch(select(SAMPLES, slice(start, stop)), ranges, (Source(7, "a", b"", 0, offset=stop),), n_lines=1))


def state(path: Path) -> tuple[bytes, ...]:
    """Everything that a training would take."""
    with opened(path) as store:
        window = take(store, WINDOW, SHARE)
        ranges = json.dumps([str(one) for one in store.input_ranges()]).encode()
    columns = [getattr(window.weighted(), column.name).tobytes() for column in fields(Samples)]
    return (*columns, str(window.n_reservoir).encode(), ranges)


def killed(path: Path, n: int, how: int, kinds: int) -> bool:
    child = os.fork()
    if not child:
        library.faulty_watch(str(path.parent).encode())
        store = opened(path)
        library.faulty_arm(n, how, 0, kinds)
        commit(store, 200, 260)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return True
    assert status == 0, status
    return False


def go_on(path: Path) -> tuple[bytes, ...]:
    """Read on from where the state says that reading got to."""
    with opened(path) as store:
        (source,) = store.sources()
        for start in range(source.offset, 300, 20):
            commit(store, start, start + 20)
    return state(path)


def main() -> None:
    folder = Path(sys.argv[1])
    master = folder / "master.db"
    with opened(master) as store:
        for start in range(0, 200, 50):
            commit(store, start, start + 50)
    expected = go_on(shutil.copyfile(master, folder / "whole.db"))
    n_reservoir = int(expected[-2])
    assert SIZE - 4 <= n_reservoir <= SIZE  # sessions of three
    assert len(np.unique(np.frombuffer(expected[3], np.uint64))) == WINDOW - SIZE + n_reservoir
    found: Counter[str] = Counter()
    for how, kinds in ((BEFORE, ALL), (IN_THE_MIDDLE, WRITE)):
        n = 0
        while True:
            n += 1
            place = folder / "state"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            path = Path(shutil.copyfile(master, place / "state.db"))
            if not killed(path, n, how, kinds):
                break
            with opened(path) as store:
                found[str(store.sources()[0].offset)] += 1
            assert go_on(path) == expected, (how, n)
            found["killed"] += 1
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
