"""Logs whose world changes: the old one, the way over, the new one, and requests of it that nobody sees."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from machine import REPOSITORY
from numpy.typing import NDArray

DATA = REPOSITORY.parent / "shared" / "data"
BEFORE, WITHIN = 2500, 3000
"""Samples of the old world, and of the new one until what serves must be right again."""
LONGEST = 6000
"""So many of the old world where nothing is learned from fewer that the gate would let pass."""
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


@cache
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
    return Course(old[slice(0, LONGEST)], None, renamed(new[slice(0, WITHIN)], 10**6), new[slice(WITHIN, None)])


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
    return Course(drawn(old, LONGEST, 0), None, fresh[slice(0, WITHIN)], fresh[slice(WITHIN, None)])


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

    before = drawn(LONGEST)
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
