"""Kill an ingesting process over and over while its logs are written and rotated; a last clean pass must be exact.

Three ways by turns: at a random moment, at a named point of the commit path, and at the Nth I/O call (this one where
`faulty_io.so` is preloaded). Each life is a fork, so that it begins at once. Arguments: folder, seed, number of kills.
Prints JSON. Without Numba.
"""

import ctypes
import gzip
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import zstandard
from kill_points import POINTS, kill_at
from log_yard import Yard, lines, once

from streamtrain.dataset.store import Store
from streamtrain.ingest.ingestor import IngestOptions, Ingestor
from streamtrain.ingest.schema import Schema

library = ctypes.CDLL(None)
preloaded = hasattr(library, "faulty_arm")
if preloaded:
    library.faulty_arm.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int]


class Logs:
    """What a log writer and a rotator do; `number` lines were written so far, the last perhaps without its end.

    Of the numbers in `destroyed` only a part was ever written, `lost_bytes` of it in all.
    """

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder, self.chance = folder, chance
        self.number = self.rotated = self.n_bad = 0
        self.rest = b""
        self.destroyed: list[int] = []
        self.lost_bytes = 0

    def step(self) -> None:
        live = self.folder / "app.log"
        choice = self.chance.random()
        count = self.chance.choice([1, 2, 5, 30])
        data = lines(range(self.number, self.number + count))
        self.number += count
        if choice < 0.05:
            (self.folder / f"dropped{self.number}.jsonl").write_bytes(data)
            return
        if choice > 0.97:
            data += b"{no JSON\n"
            self.n_bad += 1
        cut = self.chance.randrange(len(data)) if choice > 0.5 else len(data)
        with live.open("ab", buffering=0) as file:
            file.write(self.rest + data[:cut])
        self.rest = data[cut:]
        if choice < 0.12:
            self.rotate(live, by_copy=choice < 0.08, compress=self.chance.random() < 0.5)

    def end_line(self) -> None:
        with (self.folder / "app.log").open("ab") as file:
            file.write(self.rest)
        self.rest = b""

    def begin_a_line(self) -> None:
        """Append the beginning of a line that will never have its end."""
        self.end_line()
        data = lines(range(self.number, self.number + 2))
        begun = data[: self.chance.randrange(len(data) // 2 + 1, len(data))]
        with (self.folder / "app.log").open("ab") as file:
            file.write(begun)
        self.destroyed.append(self.number + 1)
        self.lost_bytes += len(begun) - len(data) // 2
        self.number += 2

    def destroy(self) -> None:
        """Truncate or delete the file in which it is."""
        live = self.folder / "app.log"
        if self.chance.random() < 0.5:
            os.truncate(live, 0)
        else:
            live.unlink()

    def rotate(self, live: Path, by_copy: bool, compress: bool) -> None:
        self.rotated += 1
        rotated = self.folder / f"app.log.{self.rotated}"
        if by_copy:
            shutil.copyfile(live, rotated)
            os.truncate(live, 0)
        else:
            live.rename(rotated)
        if compress:
            data, by_zstd = rotated.read_bytes(), self.chance.random() < 0.3
            packed = zstandard.ZstdCompressor().compress(data) if by_zstd else gzip.compress(data, 1)
            with rotated.with_name(rotated.name + (".zst" if by_zstd else ".gz")).open("wb", buffering=0) as file:
                file.write(packed[: len(packed) // 2])
                file.write(packed[len(packed) // 2 :])
            rotated.unlink()


def live(root: Path, until: float | None) -> None:
    """One life: opening, passes, and closing once there was nothing to do for a while."""
    schema = Schema()
    store = Store(root / "state.db", schema.digest)
    ingestor = Ingestor(store, schema, IngestOptions(root / "logs", commit_bytes=1 << 11))
    idle = 0
    while until is not None or idle < 2:
        idle = 0 if ingestor.run().lines else idle + 1
    store.sync()
    store.close()


def live_in_a_fork(root: Path) -> None:
    """One life that nothing happens to."""
    child = os.fork()
    if not child:
        try:
            live(root, None)
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 (a fork must not go on as its parent)
            sys.stderr.write(f"clean life {error!r}\n")
            os._exit(1)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("a life that nothing happened to ended with an error")


def main() -> None:
    root, chance, n_kills = Path(sys.argv[1]), random.Random(int(sys.argv[2])), int(sys.argv[3])
    yard = Yard(root)
    yard.close()
    logs = Logs(yard.logs, chance)
    killed: Counter[str] = Counter()
    lives = 0
    points = [(point, after) for point in POINTS for after in (False, True)]
    ways = ["random", "point", "call"] if preloaded else ["random", "point"]
    while killed.total() < n_kills:
        way = ways[lives % len(ways)]
        lives += 1
        if chance.random() < 0.05:
            # What was seen, and destroyed before it could be read: with exactly this the count must come out.
            logs.begin_a_line()
            live_in_a_fork(root)
            logs.destroy()
        for _ in range(chance.randrange(1, 4) if way != "point" else 8):
            logs.step()
        point, after = points[lives // len(ways) % len(points)]
        times, nth, how = chance.choice([1, 1, 1, 3]), int(chance.uniform(1, 12) ** 2.2), chance.choice([-1, -2])
        child = os.fork()
        if not child:
            try:
                if way == "point":
                    kill_at(point, after, times)
                elif way == "call":
                    library.faulty_watch(str(root).encode())
                    library.faulty_arm(nth, how, 0, 63 if how == -1 else 4)
                live(root, time.monotonic() if way == "random" else None)
                os._exit(0)
            except BaseException as error:  # noqa: BLE001 (a fork must not go on as its parent)
                sys.stderr.write(f"{way} {point} {error!r}\n")
                os._exit(1)
        if way == "random":
            end = time.monotonic() + chance.uniform(0, 0.06)
            while time.monotonic() < end:
                logs.step()
                time.sleep(chance.uniform(0, 0.01))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed[f"{way} {point} {'after' if after else 'before'}" if way == "point" else way] += 1
        elif os.WEXITSTATUS(status):
            raise SystemExit(f"life {lives} ({way}, {point}) ended with an error")
    with closing(sqlite3.connect(root / "state.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    logs.end_line()
    yard.restart()
    held = yard.store.counts().n_total_ingested
    report = yard.run()
    seen = yard.seen()
    expected = once(range(logs.number)) - once(logs.destroyed)
    lost, doubled = (expected - seen).total(), (seen - expected).total()
    assert yard.run().lines == 0
    counts = yard.store.counts()
    json.dump(
        {
            "kills": killed.total(),
            "lives": lives,
            "by": {way: sum(n for name, n in killed.items() if name.startswith(way)) for way in ways},
            "never killed at": [
                f"{point} {when}"
                for point in POINTS
                for when in ("before", "after")
                if f"point {point} {when}" not in killed
            ],
            "lines": logs.number,
            "held before the last pass": held,
            "lost": lost,
            "doubled": doubled,
            "duplicates": counts.n_duplicates,
            "bad": [logs.n_bad, counts.n_quarantined],
            "pending": report.pending,
            "destroyed": len(logs.destroyed),
            "destroyed_bytes": logs.lost_bytes,
            "lost_bytes": [report.lost_bytes, counts.lost_bytes],
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
