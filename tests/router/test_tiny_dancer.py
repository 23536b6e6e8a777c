"""What we publish, in the released Tiny Dancer under Node."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_candidate import TINY_DANCER_SCALE, make_candidate

from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.router.load import load
from streamtrain.router.router import Router

pytestmark = pytest.mark.needs_npm

SCRIPT = Path(__file__).with_name("tiny_dancer.cjs")


@pytest.fixture
def node(tiny_dancer_folder):
    def run(**request: Any) -> Any:
        done = subprocess.run(
            ["node", SCRIPT, tiny_dancer_folder], input=json.dumps(request), capture_output=True, text=True
        )
        assert done.returncode == 0, f"exit {done.returncode}: {done.stderr}"
        return json.loads(done.stdout)

    return run


@pytest.fixture
def publish(tmp_path):
    with Registry(tmp_path / "models") as registry:
        yield lambda candidate: registry.publish(registry.stage(build(candidate)))


@pytest.mark.parametrize(
    ("shape", "input_scale"),
    [
        ({"seed": 1}, None),
        ({"seed": 2}, TINY_DANCER_SCALE),
        ({"seed": 3, "hidden_dim": 8, "nu": 0.6, "zeta": 1.7}, None),
        ({"seed": 4, "input_dim": 48, "hidden_dim": 32}, None),
    ],
)
def test_its_score_is_our_confidence(node, publish, tmp_path, shape, input_scale):
    """On 1,000 random raw feature vectors, far beyond the range of the training as well."""
    publish(make_candidate(**shape, input_scale=input_scale))
    n_features = shape.get("input_dim", 5)
    raw = np.random.default_rng(0).normal(0.5, 1.0, (1000, n_features))
    seen = raw if input_scale is None else raw * np.array(input_scale)
    file = tmp_path / "models" / "current" / "fastgrnn.safetensors"
    theirs = np.array(node(task="score", model=str(file), rows=seen.tolist()))
    with Router(tmp_path / "models", poll_interval_s=None) as router:
        ours = np.array([router.route(row).confidence for row in raw.tolist()])
        batch = router.score_batch(raw)
    assert np.abs(theirs - ours).max() <= 1e-5
    np.testing.assert_allclose(batch, ours, rtol=0, atol=1e-14)
    assert np.std(ours) > 0.05
    np.testing.assert_allclose(load(file).score_batch(seen), theirs, rtol=0, atol=1e-5)


def test_a_file_not_meant_for_it_is_an_error_and_never_an_abort(node, publish, tmp_path):
    publish(make_candidate(5))
    current = tmp_path / "models" / "current"
    names = ("fastgrnn.safetensors", "fastgrnn_int8.safetensors", "training.safetensors")
    found = node(task="load", models=[str(current / name) for name in names], row=[0.5] * 5)
    assert isinstance(found[0], float)
    assert isinstance(found[1], str)
    assert isinstance(found[2], str)
    assert "w_reset" in found[1] + found[2]


def test_its_router_follows_current_and_answers_as_ours(node, publish, tmp_path):
    """Its features for this request are known: cosine 1, age 0, ln(10001)/ln(10001), success 1, no metadata."""
    candidates = [make_candidate(seed, input_scale=TINY_DANCER_SCALE) for seed in range(6, 10)]
    versions = [publish(candidate) for candidate in candidates]
    models = tmp_path / "models"
    targets = [f"versions/{version}" for version in versions]
    link = models / "current"
    theirs = node(task="reload", model=str(link / "fastgrnn.safetensors"), link=str(link), targets=targets)
    raw = [1.0, 1.0, math.log(10001) / math.log(10001), 1.0, 0.0]
    ours = [load(models / target).score(raw) for target in targets]
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5)
    assert len({round(score, 3) for score in ours}) == len(ours)


def test_its_decisions_on_1000_candidates_are_ours(node, publish, tmp_path):
    """Raw features by the formulas of its feature engineering, without the weights: those are folded into the file."""
    publish(make_candidate(11, input_scale=TINY_DANCER_SCALE))
    chance = np.random.default_rng(11)
    # Float32 is what it is given.
    embeddings = chance.normal(size=(1000, 24)).astype(np.float32)
    query = chance.normal(size=24).astype(np.float32)
    ages, accesses = chance.integers(0, 3000, 1000), chance.integers(0, 20_000, 1000)
    success, matching = chance.random(1000), chance.integers(0, 4, 1000)
    candidates = [
        {
            "id": str(number),
            "embedding": embeddings[number].tolist(),
            "metadata": {key: "x" if place < matching[number] else "y" for place, key in enumerate("abc")},
            "age": int(ages[number]),
            "accessCount": int(accesses[number]),
            "successRate": float(success[number]),
        }
        for number in range(1000)
    ]
    file = tmp_path / "models" / "current" / "fastgrnn.safetensors"
    asked = {"query": query.tolist(), "metadata": dict.fromkeys("abc", "x"), "candidates": candidates}
    decisions = {one["candidateId"]: one for one in node(task="route", model=str(file), **asked)}

    cosine = embeddings @ query / np.linalg.norm(embeddings, axis=1) / np.linalg.norm(query)
    popularity = np.minimum(1.0, np.log1p(accesses) / math.log(10001))
    raw = np.column_stack([cosine, np.exp(-0.001 * ages), popularity, success, matching / 3])
    with Router(tmp_path / "models", poll_interval_s=None) as router:
        ours = router.route_batch(raw)
    assert len(decisions) == 1000
    theirs = [decisions[str(number)] for number in range(1000)]
    np.testing.assert_allclose(
        [one["confidence"] for one in theirs], [one.confidence for one in ours], rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(
        [one["uncertainty"] for one in theirs], [one.uncertainty for one in ours], rtol=0, atol=2e-5
    )
    disagreed = [a for a, b in zip(theirs, ours, strict=True) if a["useLightweight"] is not b.use_lightweight]
    # At 0.925 both of its conditions hold or not within rounding.
    assert all(abs(one["confidence"] - 0.925) < 1e-5 for one in disagreed)
    assert np.std([one.confidence for one in ours]) > 0.05
