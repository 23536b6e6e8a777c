"""Recorded outcomes in the order of time, and what any contestant's answers to them are worth."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from problem import HELD_OUT, RECORDED

from streamtrain.dataset import scale
from streamtrain.judge.metrics import accuracy, auc, log_loss
from streamtrain.types import F32, F64

TOO_FEW = 1_000
"""Of fewer rows nothing is learned that a holdout of a third could show."""
_DRAWS = 2_000


@dataclass(frozen=True)
class Outcomes:
    """A data set with some of its features.

    Attributes
    ----------
    name, features : str
        Of the data set, and of the features that were chosen: "hand" or "hand+emb".
    records : list of dict
        As recorded, with the chosen features alone.
    x : float32, (N, D)
        Those features as they are.
    y : float64, (N,)
    """

    name: str
    features: str
    records: list[dict[str, Any]]
    x: F32
    y: F64

    @property
    def n_train(self) -> int:
        """Rows before the holdout."""
        return round((1.0 - HELD_OUT) * len(self.y))

    @property
    def n_test(self) -> int:
        """Rows of the holdout, the last by time."""
        return len(self.y) - self.n_train

    @property
    def normalised(self) -> F32:
        """Features by the mean and spread of the rows before the holdout."""
        return scale.apply(self.x, scale.fit(self.x[: self.n_train]))


def outcomes(name: str) -> list[Outcomes]:
    """Read a data set: with its hand-made features and, where it has embeddings, with both."""
    meta = json.loads((RECORDED / f"{name}.meta.json").read_text())
    with gzip.open(RECORDED / f"{name}.jsonl.gz") as stream:
        rows = [json.loads(line) for line in stream]
    y = np.array([row["lightweight_successful"] for row in rows], np.float64)
    ends = {"hand": meta["hand"][1], "hand+emb": meta["emb"][1]}
    return [
        Outcomes(name, features, cut, np.array([row["features"] for row in cut], np.float32), y)
        for features, end in ends.items()
        if features == "hand" or end > ends["hand"]
        for cut in [[row | {"features": row["features"][:end]} for row in rows]]
    ]


@dataclass(frozen=True)
class Score:
    """Of answers to the holdout; `stream` is the accuracy over the whole stream, where all of it was answered."""

    accuracy: float
    auc: float
    log_loss: float
    stream: float | None = None


def score(answers: F64, y: F64, n_test: int) -> Score:
    """Score the last `n_test` answers, and the accuracy of all, if there is one for every row."""
    late, labels = answers[-n_test:], y[-n_test:]
    whole = float(accuracy(y, answers)) if len(answers) == len(y) else None
    constant = late.min() == late.max()
    return Score(
        float(accuracy(labels, late)),
        float("nan") if constant else float(auc(labels, late)),
        float(log_loss(labels, np.clip(late, 1e-12, 1 - 1e-12))),
        whole,
    )


def median_score(scores: list[Score]) -> Score:
    """Median over the seeds of each figure by itself."""
    streams = [one.stream for one in scores if one.stream is not None]
    return Score(
        *(float(np.median([getattr(one, figure) for one in scores])) for figure in ("accuracy", "auc", "log_loss")),
        float(np.median(streams)) if streams else None,
    )


def difference(ours: list[F64], theirs: list[F64], y: F64, seed: int = 0) -> tuple[float, float]:
    """Spread that chance gives the difference of two contestants on these rows: one standard error each.

    Rows are drawn again with replacement (Efron 1979), the same for both; a contestant is its seeds' mean.

    Parameters
    ----------
    ours, theirs : list of float64, (N,)
        Answers of each seed.
    y : float64, (N,)

    Returns
    -------
    accuracy, auc : float
    """
    rng, n = np.random.default_rng(seed), len(y)
    good = y >= 0.5
    right = [np.mean([(p >= 0.5) == good for p in one], axis=0) for one in (ours, theirs)]
    gap = right[0] - right[1]
    mean = [np.mean([_ranks(p) for p in one], axis=0) for one in (ours, theirs)]
    moved = mean[0] - mean[1]
    accuracies, aucs = np.empty(_DRAWS), np.empty(_DRAWS)
    for i in range(_DRAWS):
        rows = rng.integers(0, n, n)
        accuracies[i] = gap[rows].mean()
        drawn, positive = moved[rows], good[rows]
        aucs[i] = (drawn[positive].mean() - drawn[~positive].mean()) / n
    return float(accuracies.std()), float(aucs.std())


def _ranks(p: F64) -> F64:
    """Ranks from 1, ties shared."""
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
