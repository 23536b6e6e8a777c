"""How soon a worse champion could be rolled back at all: Wald's test, beside ours on the same sort of outcomes.

Wald's sequential probability ratio test (1945) knows what ours has to find out: by how much the champion is worse, and
on what share of the requests the answers differ. Of all tests that are as rarely wrong it is the soonest on average
(Wald and Wolfowitz 1948). Outcomes are drawn as for the table of rollbacks, but without a database around them, so that
there can be many more of them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from machine import REPOSITORY
from numpy.typing import NDArray

from streamtrain.judge.betting import Bets

sys.path.append(str(REPOSITORY / "tests"))
from two_versions import N_FEATURES, World

PAIRS = 40
"""Pairs of versions that the answers are taken from."""
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Answers of two versions, (2, N) each, where they decide differently and where they don't."""

    different: F64
    same: F64


@cache
def pairs(first_seed: int) -> list[Pair]:
    """The first versions of the runs with these seeds, asked about random requests."""
    made = []
    for seed in range(first_seed, first_seed + PAIRS):
        with TemporaryDirectory(prefix="bench-") as folder, World(Path(folder), seed) as world:
            models = [world.model(world.publish(2 * seed + one)) for one in (1, 2)]
            features = world.rng.random((60_000, N_FEATURES), np.float32)
            answers = np.array([model.score_batch(features) for model in models], np.float64)
        differ = (answers[0] >= 0.5) != (answers[1] >= 0.5)
        alike = np.abs(answers.sum(axis=0) - 1) < 0.03
        made.append(Pair(answers[:, differ & alike], answers[:, ~differ]))
    return made


def drawn(pair: Pair, n: int, gap: float, different: float, rng: np.random.Generator) -> tuple[F64, F64]:
    """Advantages of the first of the two, in decisions and in the Brier score, on outcomes as `World` draws them."""
    differ = rng.random(n) < different
    taken = [part[:, rng.integers(0, part.shape[1], n)] for part in (pair.different, pair.same)]
    first, second = np.where(differ, taken[0], taken[1])
    shift = np.where(differ, np.where(first >= 0.5, 1, -1) * gap / different / 2, 0.0)
    good = rng.random(n) < (first + second) / 2 + shift
    decisions = 1.0 * ((first >= 0.5) == good) - 1.0 * ((second >= 0.5) == good)
    return decisions, (second - good) ** 2 - (first - good) ** 2


def wald(decisions: F64, gap: float, different: float) -> F64:
    """Wald's likelihood ratio after each sample, against a champion that is no worse."""
    edge = gap / different
    ratio: F64 = np.exp(np.log1p(edge * decisions).cumsum())
    return ratio


def shares(gap: float, different: float, n: int, runs: int, limit: float) -> list[float]:
    """Shares of runs of `n` samples in which ours, and Wald's test, ever reach the limit."""
    rng, known = np.random.default_rng(0), pairs(1000)
    reached = np.zeros(2)
    for run in range(runs):
        decisions, brier = drawn(known[run % PAIRS], n, gap, different, rng)
        most = (Bets().add(decisions, brier).max(), wald(decisions, gap, different).max())
        reached += np.array(most) >= limit
    found: list[float] = (reached / runs).tolist()
    return found
