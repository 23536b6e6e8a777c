"""Let the Nth I/O call of a pass fail, for every N, each time with a fresh state; then a clean pass must set all right.

Runs under `faulty_io.so`. Arguments: folder to work in, name of the fault, "once" or "on", every which N. Prints JSON.
"""

import ctypes
import errno
import gzip
import json
import os
import shutil
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from log_yard import Yard, line, lines, once

from streamtrain.dataset.errors import StoreError
from streamtrain.ingest.schema import Schema

OPEN, READ, WRITE, SYNC, REMOVE, STAT = 1, 2, 4, 8, 16, 32
KINDS = {
    "ENOSPC": OPEN | WRITE | SYNC,
    "EIO": OPEN | READ | WRITE | SYNC | REMOVE | STAT,
    "EACCES": OPEN | WRITE | REMOVE,
    "EMFILE": OPEN,
}
library = ctypes.CDLL(None)
library.faulty_arm.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int]
library.faulty_count.restype = ctypes.c_long
N_FIRST, N_ALL = 60, 160


SCHEMA = Schema()


class Life(Yard):
    """A process's life on logs and a state that are there already."""

    def __init__(self, root: Path, **options: object) -> None:
        # A minute on: what changed a moment ago is opened once more, and how often that is would depend on the time.
        self.root, self.logs, self.now, self.store = root, root / "logs", time.time() + 60, None
        self.schema, self.options = SCHEMA, options
        try:
            self.restart()
        except StoreError:
            self.close()
            raise


def begin(root: Path) -> None:
    """A state that holds something, and then more logs than one commit takes: appended, rotated, gzip, damaged."""
    yard = Yard(root)
    yard.write("app.log", lines(range(30)) + line(30)[:40])
    yard.write("old.jsonl.gz", gzip.compress(lines(range(31, N_FIRST)), mtime=0))
    yard.run()
    yard.append("app.log", line(30)[40:] + lines(range(N_FIRST, 100)))
    (yard.logs / "app.log").rename(yard.logs / "app.log.1")
    yard.write("app.log", lines(range(100, 130)) + b"{no JSON\n")
    yard.write("sub/more.jsonl.gz", gzip.compress(lines(range(130, N_ALL)), mtime=0))
    yard.close()


def copy(master: Path, root: Path) -> None:
    """The same files again; hard links for the logs, which nothing writes to, so that they are the files known."""
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(master, root, copy_function=os.link)
    for path in root.glob("state.db*"):
        path.unlink()
        shutil.copyfile(master / path.name, path)


def attempt(root: Path, n: int, number: int, sticky: bool, go_on: bool) -> tuple[str, int]:
    """A life in which a fault comes; if it goes on, the fault passes and the same objects are used again."""
    library.faulty_watch(str(root).encode())
    outcome, life = "nothing", None
    library.faulty_arm(n, number, sticky, KINDS[errno.errorcode[number]])
    try:
        life = Life(root, commit_bytes=1 << 12)
        for _ in range(2):
            outcome = "left alone" if life.run().refused else outcome
    except StoreError as error:
        outcome = type(error).__name__ if str(root) in str(error) else "said without saying where"
    finally:
        count, fired = library.faulty_count(), library.faulty_fired()
        if go_on:
            library.faulty_arm(0, 0, 0, 0)
        if life is not None:
            if go_on:
                check(life)
            life.close()
        library.faulty_arm(0, 0, 0, 0)
        library.faulty_watch(b"")
    assert fired or not n, "the fault never came"
    return outcome, count


def check(life: Life) -> None:
    """After a clean pass, exactly every line is there once."""
    life.run()
    wrong = {number: times for number, times in life.seen().items() if times != 1}
    assert life.seen() == once(range(N_ALL)), wrong
    counts = life.store.counts()
    assert (counts.n_total_ingested, counts.n_duplicates, counts.n_quarantined) == (N_ALL, 0, 1), counts
    assert counts.lost_bytes == 0


def main() -> None:
    folder, number, sticky, step = Path(sys.argv[1]), getattr(errno, sys.argv[2]), sys.argv[3] == "on", int(sys.argv[4])
    master, root = folder / "master", folder / "root"
    master.mkdir()
    begin(master)
    copy(master, root)
    # Counted with every kind of call that this fault can come from.
    _, total = attempt(root, 0, number, False, False)
    outcomes: Counter[str] = Counter()
    for n in range(1, total + 1, step):
        for go_on in (False, True):
            copy(master, root)
            try:
                outcome, _ = attempt(root, n, number, sticky, go_on)
                life = Life(root)
                check(life)
                life.close()
                with closing(sqlite3.connect(root / "state.db")) as database:
                    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            except Exception as error:
                error.add_note(f"{sys.argv[2]} {sys.argv[3]} at call {n} of {total}, same process: {go_on}")
                raise
            outcomes[outcome] += 1
    json.dump({"total": total, "outcomes": outcomes}, sys.stdout)


if __name__ == "__main__":
    main()
