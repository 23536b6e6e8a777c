"""How often what serves is right again soon after the world has changed, how often an alarm is false, and how often a
worse version is rolled back: on the real cycle (state database, training, gate, publishing) with a clock of its own.

``make bench-drift`` prints the tables and writes them into docs/drift.md; ``--runs 10`` for a quick look.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from courses import BEFORE, SCENARIOS, Course, Rows

from streamtrain.config import Config, parse
from streamtrain.cycle import Cycle
from streamtrain.reading import Batch
from streamtrain.router.load import load
from streamtrain.types import Samples

START = 1_700_000_000.0
BLOCK = 100
POINTS = 0.02


def configured(folder: Path, n_features: int, text: str) -> Config:
    names = ", ".join(f"f{i}" for i in range(n_features))
    (folder / "logs").mkdir()
    places = "".join(f"{one}: {{directory: {folder / one}}}\n" for one in ("logs", "state", "models"))
    return parse(f"{places}schema: {{features: [{names}], session: session}}\n{text}", folder)


class Life:
    """A cycle that lives through a course, one sample a second."""

    def __init__(self, folder: Path, n_features: int, text: str = "gate: {min_accuracy: 0}\n") -> None:
        self.now = START
        self.n = 0
        self.cycle = Cycle(configured(folder, n_features, text), lambda: self.now)
        self.models = folder / "models"

    def close(self) -> None:
        self.cycle.close()

    def read(self, rows: Rows) -> None:
        n = len(rows)
        keys = np.arange(self.n, self.n + n, dtype=np.uint64) + np.uint64(1)
        self.now, self.n = START + self.n + n, self.n + n
        ones = np.ones(n, np.float32)
        columns = {"teachers": ones * np.nan, "propensities": ones * np.nan}
        columns |= {name: np.zeros(n, np.uint64) for name in ("slices",) if name in Samples.__dataclass_fields__}
        groups = keys if rows.sessions is None else rows.sessions
        samples = Samples(rows.x, rows.y, START + keys.astype(np.float64), keys, groups, ones, **columns)
        self.cycle.store.commit(Batch(samples))
        self.cycle.ingest()

    def learn(self) -> None:
        self.cycle.learn(workers=1)

    def live(self, rows: Rows, on_learned: Callable[[], None] = lambda: None) -> None:
        for start in range(0, len(rows), BLOCK):
            self.read(rows[slice(start, start + BLOCK)])
            if self.cycle.due():
                self.learn()
                on_learned()

    def settle(self, rows: Rows) -> int:
        """Live in the old world until something serves, and for `BEFORE` samples at least; how many it took."""
        self.read(rows[slice(0, BEFORE // 2)])
        self.learn()
        while self.n < len(rows) and (self.n < BEFORE or not self.serves):
            self.live(rows[slice(self.n, self.n + 5 * BLOCK)])
        return self.n

    @property
    def serves(self) -> bool:
        return (self.models / "current").exists()

    def accuracy(self, rows: Rows) -> float:
        if not self.serves:
            return float("nan")
        return float(np.mean((load(self.models).score_batch(rows.x) >= 0.5) == (rows.y >= 0.5)))

    def fact(self) -> dict:
        return self.cycle.store.get("prequential")


REFERENCE = (
    "gate: {min_accuracy: 0, min_auc: 0, beat_baseline: false, versus_current: 'off', min_holdout: 20}\n"
    "dataset: {holdout: 0.1}\n"
)


def one_run(make: Callable[[int], Course], seed: int) -> dict[str, float]:
    course = make(seed)
    d = course.before.x.shape[1]
    with TemporaryDirectory(prefix="bench-") as one, TemporaryDirectory(prefix="bench-") as two:
        reference = Life(Path(two), d, REFERENCE)
        reference.read(course.after)
        reference.learn()
        best = reference.accuracy(course.unseen)
        reference.close()
        life = Life(Path(one), d)
        n_old = life.settle(course.before)
        stale = life.accuracy(course.unseen)
        back: list[int] = []

        def look() -> None:
            if life.accuracy(course.unseen) >= best - POINTS:
                back.append(life.n - n_old)

        if stale >= best - POINTS:
            back.append(0)
        life.live(course.after if course.between is None else course.between + course.after, look)
        served = life.accuracy(course.unseen)
        alarms = [when - START - n_old for when, what in life.fact()["alarms"] if "rolled back" not in what]
        life.close()
    first = min((one for one in alarms if one > 0), default=float("nan"))
    return {
        "reference": best,
        "stale": stale,
        "served": served,
        "alarm": first,
        "back": min(back, default=float("inf")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--each", action="store_true", help="print every run")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    for name, make in SCENARIOS.items():
        if arguments.only not in name:
            continue
        began, found = time.process_time(), []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.runs):
            found.append(one_run(make, seed))
            if arguments.each:
                print(seed, {key: round(value, 3) for key, value in found[-1].items()}, flush=True)
        table = {key: np.array([one[key] for one in found]) for key in found[0]}
        right = table["served"] >= table["reference"] - POINTS
        print(
            f"{name}: {right.sum()}/{len(found)} right again; stale {np.nanmedian(table['stale']):.3f}, served "
            f"{np.nanmedian(table['served']):.3f}, reference {np.nanmedian(table['reference']):.3f}; first alarm after "
            f"{np.nanmedian(table['alarm']):.0f}, back after {np.median(table['back']):.0f} "
            f"({(time.process_time() - began) / len(found):.1f} s of processor time each)",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
