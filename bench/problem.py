"""What is learned from: the guide's synthetic problem in any size and shape, and recorded routing outcomes."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass

import numpy as np
from machine import REPOSITORY

from streamtrain.dataset import scale
from streamtrain.types import F32, Arrays

RECORDED = REPOSITORY.parent / "shared" / "data"
HELD_OUT = 0.3  # of recorded outcomes: the last by time
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Problem:
    """Normalised features (N, T, D) and labels (N, T)."""

    x: F32
    y: F32

    @property
    def arrays(self) -> Arrays:
        return Arrays(self.x, self.y, np.ones_like(self.y))

    def first(self, n: int) -> Problem:
        return Problem(self.x[:n], self.y[:n])

    def rest(self, n: int) -> Problem:
        return Problem(self.x[n:], self.y[n:])


def drawn(n: int, n_features: int = 5, steps: int = 1, seed: int = 0) -> Problem:
    """The guide's problem: ``0.4 similarity + 0.3 success + 0.3 (1 - complexity) + U(-0.1, 0.1) > 0.6``.

    Features beyond the guide's five are noise. In a sequence each step's label depends on the mean of the scores so
    far, so that there is something to remember. Drawn block by block: ten million samples leave no temporary behind.
    """
    rng = np.random.default_rng([seed, n_features, steps])
    x, y = np.empty((n, steps, n_features), np.float32), np.empty((n, steps), np.float32)
    rows = max(1, _BLOCK // (steps * n_features))
    spread = np.float32(np.sqrt(12.0))  # of U(0, 1), so that the features come out normalised
    for start in range(0, n, rows):
        raw = rng.random((min(rows, n - start), steps, n_features), np.float32)
        score = 0.4 * raw[:, :, 0] + 0.3 * raw[:, :, 3] + 0.3 * (1.0 - raw[:, :, 4])
        so_far = np.cumsum(score, axis=1) / np.arange(1, steps + 1)
        noise = rng.uniform(-0.1, 0.1, so_far.shape)
        x[start : start + rows] = (raw - np.float32(0.5)) * spread
        y[start : start + rows] = so_far + noise > (0.6 if steps == 1 else 0.5)
    return Problem(x, y)


def recorded_names() -> list[str]:
    """Names of the shared data sets; none where they are missing."""
    return sorted(path.name.removesuffix(".jsonl.gz") for path in RECORDED.glob("*.jsonl.gz"))


def recorded(name: str) -> tuple[Problem, Problem]:
    """Training and test samples of a data set, cut by time, normalised by what is known at training."""
    with gzip.open(RECORDED / f"{name}.jsonl.gz") as stream:
        rows = [json.loads(line) for line in stream]
    x = np.array([row["features"] for row in rows], np.float32)
    y = np.array([row["lightweight_successful"] for row in rows], np.float32)[:, None]
    n_train = round((1.0 - HELD_OUT) * len(y))
    x = scale.apply(x, scale.fit(x[:n_train]))[:, None, :]
    whole = Problem(x, y)
    return whole.first(n_train), whole.rest(n_train)


def shuffled(problem: Problem, seed: int) -> Problem:
    """The same samples in another order."""
    order = np.random.default_rng(seed).permutation(len(problem.y))
    return Problem(problem.x[order], problem.y[order])
