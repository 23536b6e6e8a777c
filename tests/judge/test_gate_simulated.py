"""How often the gate is right: on regressions over real outcomes, and on versions equal, worse or better by design."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamtrain.judge.evidence import Evidence, GateRules
from streamtrain.judge.gate import judge
from streamtrain.types import F64, U64

LOGS = ["routellm_mixtral", "routellm_mixtral_topicdrift", "llmrouter_llama8b", "classic_sea4"]
FLOOR_BELOW_BASE_RATE = GateRules(min_accuracy=0.3)


def sigmoid(z: F64) -> F64:
    return np.asarray(1 / (1 + np.exp(-z)))


def fit(features: F64, labels: F64) -> F64:
    """Logistic regression by Newton's method, with a light ridge."""
    design = np.c_[np.ones(len(features)), features]
    weights = np.zeros(design.shape[1])
    ridge = np.diag([0.0] + [1.0] * features.shape[1])
    for _ in range(10):
        p = sigmoid(design @ weights)
        curvature = design.T @ (design * (p * (1 - p))[:, None]) + ridge
        weights -= np.linalg.solve(curvature, design.T @ (p - labels) + ridge @ weights)
    return weights


def read(directory: Path, name: str) -> tuple[F64, F64]:
    n_features = json.loads((directory / f"{name}.meta.json").read_text())["hand"][1]
    with gzip.open(directory / f"{name}.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    features = np.array([row["features"][:n_features] for row in rows])
    return features, np.array([row["lightweight_successful"] for row in rows], float)


@pytest.mark.needs_data
@pytest.mark.parametrize("name", LOGS)
def test_real_outcomes(shared_data: Path, name: str) -> None:
    """Of 60 draws with 4,000 training and 1,000 holdout samples: good ones pass, constants and shuffled ones do not."""
    features, labels = read(shared_data, name)
    rng = np.random.default_rng(11)
    passed = {"good": 0, "shuffled": 0, "constant": 0}
    for _ in range(60):
        order = rng.permutation(len(labels))
        train, holdout = order[:4000], order[-1000:]
        means, stds = features[train].mean(0), features[train].std(0) + 1e-9
        scaled, held = (features[train] - means) / stds, (features[holdout] - means) / stds
        rate = float(labels[train].mean())
        for kind in passed:
            if kind == "constant":
                answers = np.full(1000, rng.choice([rate, labels[holdout].mean(), rng.random()]))
            else:
                learned = labels[train] if kind == "good" else rng.permutation(labels[train])
                weights = fit(scaled, learned)
                answers = sigmoid(weights[0] + held @ weights[1:])
            given = Evidence(labels[holdout], answers, rate, n_train_per_class=(1000, 1000))
            passed[kind] += judge(given, FLOOR_BELOW_BASE_RATE).outcome == "published"
    assert passed["good"] >= 57
    assert passed["shuffled"] <= 1
    assert passed["constant"] == 0


def test_no_constant_passes_whatever_the_base_rates() -> None:
    rng = np.random.default_rng(12)
    rules = GateRules(min_accuracy=0, min_auc=0, min_holdout=50)
    for _ in range(500):
        n = int(rng.integers(60, 1200))
        labels = np.concatenate(([0.0] * 10, [1.0] * 10, rng.random(n) < rng.random()))
        answer = rng.choice([rng.random(), labels.mean(), np.float32(labels.mean())])
        given = Evidence(
            labels,
            np.full(len(labels), answer),
            train_base_rate=float(rng.random()),
            n_train_per_class=(1000, 1000),
            weights=rng.choice([0.5, 1.0, 3.0], len(labels)),
            groups=rng.integers(0, 60, len(labels)).astype(np.uint64),
        )
        assert judge(given, rules).outcome != "published"


def published(n: int, n_runs: int, candidate_noise: float, versus: str, sessions: int = 0) -> float:
    """Return how often a candidate is published against a version with a noise of 0.65 on its log-odds.

    The truth's log-odds have a standard deviation of 1.2; both versions are calibrated. Noises of 0.25, 0.65 and 0.95
    cost 0.5, 2.5 and 4.5 points of accuracy: two points better, equal, and two points worse.
    """
    rng = np.random.default_rng(13)
    spread = 1.2
    rules = GateRules(min_accuracy=0, versus_current=versus)

    def answers(moved: F64, noise: float) -> F64:
        shrink = spread**2 / (spread**2 + noise**2)
        return sigmoid(0.7 + shrink * (moved + noise * rng.normal(size=moved.size)))

    n_published = 0
    for _ in range(n_runs):
        moved = spread * rng.normal(size=n)
        labels = (rng.random(n) < sigmoid(0.7 + moved)).astype(float)
        given = Evidence(labels, answers(moved, candidate_noise), 0.64, (1000, 1000), current=answers(moved, 0.65))
        if sessions:
            given = repeat(given, sessions)
        n_published += judge(given, rules).outcome == "published"
    return n_published / n_runs


def repeat(given: Evidence, times: int) -> Evidence:
    """Return sessions of `times` equal samples: the worst case of resemblance."""
    groups: U64 = np.repeat(np.arange(len(given.labels), dtype=np.uint64), times)
    current = None if given.current is None else np.repeat(given.current, times)
    return replace(
        given,
        labels=np.repeat(given.labels, times),
        probabilities=np.repeat(given.probabilities, times),
        current=current,
        groups=groups,
    )


def test_equal_versions() -> None:
    # 95 % confidence: 5 % of equals are called worse, and 5 % better. The standard error of these shares is 1.1 points.
    assert published(1000, 400, 0.65, "not_worse") >= 0.92
    assert published(1000, 400, 0.65, "better") <= 0.085


def test_equal_versions_seen_in_sessions() -> None:
    assert published(300, 300, 0.65, "not_worse", sessions=5) >= 0.91
    assert published(300, 300, 0.65, "better", sessions=5) <= 0.09


def test_two_points_worse() -> None:
    assert published(5000, 200, 0.95, "not_worse") <= 0.05
    assert published(5000, 200, 0.95, "better") == 0
    assert published(1000, 200, 0.95, "better") == 0


def test_two_points_better() -> None:
    assert published(5000, 200, 0.25, "better") >= 0.98
    assert published(1000, 200, 0.25, "better") >= 0.8
    assert published(1000, 200, 0.25, "not_worse") >= 0.98
