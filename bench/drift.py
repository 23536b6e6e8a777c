"""How often what serves is right again soon after the world has changed, how often an alarm is false, and how often a
worse version is rolled back: on the real cycle (state database, training, gate, publishing) with a clock of its own.

``make bench-drift`` prints the tables and writes them into docs/drift.md; ``--runs 10`` for a quick look.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from machine import REPOSITORY
from numpy.typing import NDArray

from streamtrain.config import Config, parse
from streamtrain.cycle import Cycle
from streamtrain.reading import Batch
from streamtrain.router.load import load
from streamtrain.types import Samples

DATA = REPOSITORY.parent / "shared" / "data"
START = 1_700_000_000.0
BEFORE, WITHIN = 2500, 3000
"""Samples of the old world, and of the new one until what serves must be right again."""
BLOCK = 100
POINTS = 0.02
F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rows:
    """Requests with outcomes, in order."""

    x: F32
    y: F32
    sessions: NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, part: slice) -> Rows:
        return Rows(self.x[part], self.y[part], None if self.sessions is None else self.sessions[part])

    def __add__(self, other: Rows) -> Rows:
        own = None
        if self.sessions is not None and other.sessions is not None:
            own = np.concatenate((self.sessions, other.sessions))
        return Rows(np.concatenate((self.x, other.x)), np.concatenate((self.y, other.y)), own)


@dataclass(frozen=True, slots=True)
class Course:
    """What happens in one run: the old world, the way over, the new one, and requests of it that nobody sees."""

    before: Rows
    between: Rows | None
    after: Rows
    unseen: Rows


def read(name: str, label: str = "lightweight_successful") -> Rows:
    """One of the shared logs, its sessions as numbers."""
    with gzip.open(DATA / f"{name}.jsonl.gz") as stream:
        records = [json.loads(line) for line in stream]
    records = [one for one in records if one.get(label) is not None]
    names = [str(one.get("session_id", one.get("id", i))) for i, one in enumerate(records)]
    _, sessions = np.unique(names, return_inverse=True)
    x = np.array([one["features"] for one in records], np.float32)
    y = np.array([float(one[label]) for one in records], np.float32)
    return Rows(x, y, sessions.astype(np.uint64) + 1)


def mixed(rows: Rows, rng: np.random.Generator) -> Rows:
    """The same sessions in another order; each stays as it is."""
    assert rows.sessions is not None
    place = rng.permutation(int(rows.sessions.max()) + 1)[rows.sessions]
    order = np.argsort(place, kind="stable")
    return Rows(rows.x[order], rows.y[order], rows.sessions[order])


def renamed(rows: Rows, offset: int) -> Rows:
    """Sessions that no other part has."""
    assert rows.sessions is not None
    return Rows(rows.x, rows.y, rows.sessions + np.uint64(offset))


def abrupt(old: Rows, new: Rows, rng: np.random.Generator) -> Course:
    old, new = mixed(old, rng), mixed(new, rng)
    return Course(old[slice(0, BEFORE)], None, renamed(new[slice(0, WITHIN)], 10**6), new[slice(WITHIN, None)])


def sea(seed: int) -> Course:
    """Two different concepts of SEA, 10 % noise, as in classic_sea4."""
    from river.datasets import synth

    rng = np.random.default_rng(seed)
    old, new = rng.choice(4, 2, replace=False)

    def drawn(variant: int, n: int, offset: int) -> Rows:
        stream = synth.SEA(variant=int(variant), noise=0.1, seed=int(seed * 10 + offset))
        made = list(stream.take(n))
        x = np.array([list(one.values()) for one, _ in made], np.float32) / 10
        return Rows(x, np.array([float(y) for _, y in made], np.float32))

    fresh = drawn(new, WITHIN + 4000, 1)
    return Course(drawn(old, BEFORE, 0), None, fresh[slice(0, WITHIN)], fresh[slice(WITHIN, None)])


def agrawal(seed: int) -> Course:
    rows = read("classic_agrawal_switch")
    rng = np.random.default_rng(seed)
    half = len(rows) // 2
    return abrupt(rows[slice(0, half)], rows[slice(half, None)], rng)


def hyperplane(seed: int) -> Course:
    """River's Hyperplane: the plane turns over 1,000 samples and then rests; counted from where it begins to turn."""
    from river.datasets import synth

    stream = synth.Hyperplane(seed=seed, n_features=8, n_drift_features=6, mag_change=0.0, noise_percentage=0.05)
    turning, n_between = iter(stream), 1000

    def drawn(n: int) -> Rows:
        made = [next(turning) for _ in range(n)]
        return Rows(
            np.array([list(x.values()) for x, _ in made], np.float32), np.array([float(y) for _, y in made], np.float32)
        )

    before = drawn(BEFORE)
    stream.mag_change = 0.004
    between = drawn(n_between)
    stream.mag_change = 0.0
    after = drawn(WITHIN - n_between + 4000)
    n_after = WITHIN - n_between
    return Course(before, between, after[slice(0, n_after)], after[slice(n_after, None)])


def topics(seed: int) -> Course:
    rows = read("routellm_mixtral_topicdrift")
    half = len(rows) // 2
    return abrupt(rows[slice(0, half)], rows[slice(half, None)], np.random.default_rng(seed))


def swapped(seed: int) -> Course:
    """Mixtral first, GPT-4 in its place; every second run the other way round."""
    labels = ("lightweight_successful", "powerful_successful")
    rng = np.random.default_rng(seed)
    old, new = (
        mixed(read("routellm_mixtral", one), np.random.default_rng(seed)) for one in labels[:: 1 - 2 * (seed % 2)]
    )
    half = len(old) // 2
    return abrupt(old[slice(0, half)], new[slice(half, None)], rng)


def replaced(seed: int) -> Course:
    """Mixtral on its requests first, Llama-3.1-8B on other ones after that."""
    return abrupt(read("routellm_mixtral"), read("llmrouter_llama8b"), np.random.default_rng(seed))


SCENARIOS: dict[str, Callable[[int], Course]] = {
    "classic_sea4 (two of its concepts)": sea,
    "classic_agrawal_switch": agrawal,
    "River's Hyperplane, turning": hyperplane,
    "routellm_mixtral_topicdrift": topics,
    "routellm_mixtral, light ⇄ powerful model": swapped,
    "routellm_mixtral → llmrouter_llama8b": replaced,
}


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

    def accuracy(self, rows: Rows) -> float:
        if not (self.models / "current").exists():
            return float("nan")
        return float(np.mean((load(self.models).score_batch(rows.x) >= 0.5) == (rows.y >= 0.5)))

    def fact(self) -> dict:
        return self.cycle.store.get("prequential")


REFERENCE = (
    "gate: {min_accuracy: 0, min_auc: 0, beat_baseline: false, versus_current: 'off', min_holdout: 20}\n"
    "dataset: {holdout: 0.05}\n"
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
        life.read(course.before[slice(0, BEFORE // 2)])
        life.learn()
        life.live(course.before[slice(BEFORE // 2, None)])
        stale = life.accuracy(course.unseen)
        back: list[int] = []

        def look() -> None:
            if life.accuracy(course.unseen) >= best - POINTS:
                back.append(life.n - BEFORE)

        if stale >= best - POINTS:
            back.append(0)
        life.live(course.after if course.between is None else course.between + course.after, look)
        served = life.accuracy(course.unseen)
        alarms = [when - START - BEFORE for when, what in life.fact()["alarms"] if "rolled back" not in what]
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
