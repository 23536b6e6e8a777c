"""What we publish, behind the `NativeRouter` of the released @metaharness/router."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from make_candidate import TINY_DANCER_SCALE, make_candidate
from npm_folder import TINY_DANCER, npm_folder
from tiny_dancer_features import features

from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.router.load import load

pytestmark = pytest.mark.needs_npm

SCRIPT = Path(__file__).with_name("native_router.mjs")
METAHARNESS = "@metaharness/router@0.4.0"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_serves_a_published_version(tmp_path, unavailable, seed):
    """It hands on embeddings and success rates only, so age, accesses and metadata are Tiny Dancer's defaults."""
    folder = npm_folder(unavailable, METAHARNESS, TINY_DANCER)
    models = tmp_path / "models"
    with Registry(models) as registry:
        registry.publish(registry.stage(build(make_candidate(seed, input_scale=TINY_DANCER_SCALE))))
    rng = np.random.default_rng(seed)
    query = rng.normal(size=16).tolist()
    candidates = [
        {"id": f"model-{i}", "embedding": rng.normal(size=16).tolist(), "costPerMTok": i}
        | ({"successRate": float(rng.random())} if i % 3 else {})
        for i in range(100)
    ]
    request = {"model": str(models / "current" / "fastgrnn.safetensors"), "query": query, "candidates": candidates}
    done = subprocess.run(["node", SCRIPT, folder], input=json.dumps(request), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["available"], found["backend"], found["circuitClosed"]) == (True, "native", True)

    model = load(models)
    ours = np.array([model.score(features(query, candidate, None, 0.0)) for candidate in candidates])
    theirs = np.array([answer["confidence"] for answer in found["alone"]])
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5)
    assert np.std(ours) > 0.02
    assert found["best"]["id"] == f"model-{np.argmax(theirs)}"
    assert found["best"]["costPerMTok"] == np.argmax(theirs)
    decided = [answer["useLightweight"] for answer in found["alone"]]
    assert decided == [bool(c >= 0.85 and 1 - 2 * abs(c - 0.5) <= 0.15) for c in theirs]
