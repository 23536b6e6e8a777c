"""SIGKILL at any moment: nothing is lost and nothing is doubled, and the database is sound."""

import gzip
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

from log_yard import Yard, lines, once

CHILD = Path(__file__).with_name("ingest_forever.py")
N_KILLS = 20


class Writer(threading.Thread):
    """Appends, rotates in every way, drops and compresses, until told to stop."""

    def __init__(self, logs: Path, seed: int) -> None:
        super().__init__()
        self.logs = logs
        self.random = random.Random(seed)
        self.number = 0
        self.rotated = 0
        self.stopping = threading.Event()
        self.n_steps = 0

    def run(self) -> None:
        while not self.stopping.is_set():
            self.step()
            self.n_steps += 1
            time.sleep(self.random.uniform(0, 0.004))

    def step(self) -> None:
        live = self.logs / "app.log"
        count = self.random.choice([1, 3, 50, 400])
        data = lines(range(self.number, self.number + count))
        self.number += count
        choice = self.random.random()
        if choice < 0.05:
            (self.logs / f"dropped{self.number}.jsonl").write_bytes(data)
            return
        with live.open("ab", buffering=0) as file:
            # In pieces, as a buffered writer does, so that a line is often seen without its end.
            cut = self.random.randrange(len(data))
            file.write(data[:cut])
            file.write(data[cut:])
        if choice < 0.12:
            self.rotated += 1
            rotated = self.logs / f"app.log.{self.rotated}"
            if choice < 0.08:
                live.rename(rotated)
            else:
                shutil.copyfile(live, rotated)
                os.truncate(live, 0)
            if self.random.random() < 0.5:
                packed = gzip.compress(rotated.read_bytes(), 1)
                with rotated.with_name(rotated.name + ".gz").open("wb") as file:
                    file.write(packed[: len(packed) // 2])
                    file.flush()
                    file.write(packed[len(packed) // 2 :])
                rotated.unlink()


def test_killed_at_random_moments(tmp_path):
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    yard = Yard(tmp_path)
    yard.close()
    writer = Writer(yard.logs, seed)
    writer.start()
    alive = 0
    try:
        for _ in range(N_KILLS):
            with subprocess.Popen(
                [sys.executable, str(CHILD), str(tmp_path / "state.db"), str(yard.logs)], stdout=subprocess.PIPE
            ) as child:
                assert child.stdout is not None
                assert child.stdout.readline() == b"ready\n"
                time.sleep(chance.uniform(0, 0.08))
                alive += child.poll() is None
                child.kill()
    finally:
        writer.stopping.set()
        writer.join()
    assert writer.n_steps > N_KILLS
    assert alive == N_KILLS
    with sqlite3.connect(tmp_path / "state.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    yard.restart()
    before = sum(yard.seen().values())
    report = yard.run()
    assert before > 0
    assert yard.seen() == once(range(writer.number))
    counts = yard.store.counts()
    assert counts.n_lines == counts.n_total_ingested == writer.number
    assert (report.pending, report.lost_bytes, counts.n_quarantined, counts.n_duplicates) == (0, 0, 0, 0)
    assert yard.run().lines == 0
    yard.close()
