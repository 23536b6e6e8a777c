"""How often what serves is right again soon after the world has changed, how often an alarm is false, and how often a
worse version is rolled back: on the real cycle (state database, training, gate, publishing) with a clock of its own.

``make bench-drift`` prints the tables and writes them into docs/drift.md. Seeds are 0 to 49, of rollbacks 1,000 to
1,199; each names the order of sessions, the outcomes that are drawn, and which concepts change.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from alarms import false_alarms, rollbacks
from courses import BEFORE, SCENARIOS, Course, Rows
from machine import REPOSITORY

from streamtrain.config import Config, parse
from streamtrain.cycle import Cycle
from streamtrain.reading import Batch
from streamtrain.router.load import load
from streamtrain.types import Samples

PAGE = REPOSITORY / "docs" / "drift.md"
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


def worlds(seeds: list[int], only: str, each: bool) -> Iterator[str]:
    """Let the world change, once a seed, in every scenario."""
    yield "| what changes | right again | at some time | stale | served | reference | first alarm after | right after |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, make in SCENARIOS.items():
        if only not in name:
            continue
        found = []
        for seed in seeds:
            found.append(one_run(make, seed))
            if each:
                print(seed, {key: round(value, 3) for key, value in found[-1].items()}, flush=True)
        table = {key: np.array([one[key] for one in found]) for key in found[0]}
        right = (table["served"] >= table["reference"] - POINTS).sum()
        ever = np.isfinite(table["back"]).sum()
        stale, served, best = (np.nanmedian(table[key]) for key in ("stale", "served", "reference"))
        alarms = table["alarm"][np.isfinite(table["alarm"])]
        alarm = f"{np.median(alarms):,.0f} ({len(alarms)} runs)" if len(alarms) else "none"
        yield (
            f"| {name} | {right} of {len(found)} | {ever} | {stale:.3f} | {served:.3f} | {best:.3f} | {alarm} | "
            f"{np.median(table['back']):,.0f} |"
        )


def write(tables: dict[str, list[str]]) -> None:
    """Replace the tables in docs/drift.md."""
    page = PAGE.read_text()
    for name, lines in tables.items():
        first, last = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = page.partition(first)
        _, _, behind = rest.partition(last)
        page = f"{before}{first}{chr(10).join(lines)}\n{last}{behind}"
    PAGE.write_text(page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("worlds", "alarms", "rollbacks"), help="this one only, and write nothing")
    parser.add_argument("--runs", type=int, default=50, help="of each change of the world")
    parser.add_argument("--rollbacks", type=int, default=200, help="runs of each sort of champion")
    parser.add_argument("--drawn", type=int, default=20_000, help="runs of the same that are drawn without a database")
    parser.add_argument("--samples", type=int, default=1_000_000, help="of each stream that does not change")
    parser.add_argument("--only", default="", help="changes of the world with this in their name")
    parser.add_argument("--seeds", default="", help="these only, separated by commas")
    parser.add_argument("--each", action="store_true", help="print every run")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    seeds = [int(one) for one in arguments.seeds.split(",")] if arguments.seeds else list(range(arguments.runs))
    parts = {
        "worlds": worlds(seeds, arguments.only, arguments.each),
        "rollbacks": rollbacks(arguments.rollbacks, arguments.drawn),
        "alarms": false_alarms(arguments.samples),
    }
    tables: dict[str, list[str]] = {}
    for name, lines in parts.items():
        if arguments.part in (None, name):
            print(f"\n{name}")
            tables[name] = []
            for line in lines:
                print(line, flush=True)
                tables[name].append(line)
    if arguments.part is None and not arguments.only and not arguments.seeds:
        write(tables)


if __name__ == "__main__":
    sys.exit(main())
