"""The ONNX graph in onnxruntime, against the router's scoring."""

from __future__ import annotations

import json

import numpy as np
import pytest
from make_candidate import TINY_DANCER_SCALE, make_candidate

from streamtrain.export.source import read_source
from streamtrain.model.forward import logits, sigmoid, step
from streamtrain.router.load import load
from streamtrain.types import Scaling

from .conftest import raw_vectors, undecided

pytestmark = pytest.mark.needs_peers

FAR = Scaling(np.array([1e6, -3e4, 0.0, 0.5, 40.0]), np.array([2.0, 0.5, 1.0, 0.01, 1e3]))


def run(graph: bytes, **inputs: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, inputs)


def exported(source, *, sessions=False):
    from streamtrain.export.onnx_graph import to_onnx

    return to_onnx(source, sessions=sessions)


@pytest.mark.parametrize(
    "candidate",
    [
        make_candidate(1),
        make_candidate(2, input_scale=TINY_DANCER_SCALE),
        make_candidate(3, hidden_dim=8, nu=0.6, zeta=1.7),
        make_candidate(4, input_dim=48, hidden_dim=32),
        undecided(make_candidate(5), scaling=FAR),
    ],
    ids=["plain", "input-scale", "nu-zeta", "wide", "far-from-zero"],
)
def test_it_answers_as_the_router(publish, candidate):
    models = publish(candidate)
    x = raw_vectors(candidate.scaling, 10_000)
    (confidence,) = run(exported(read_source(models)), features=x)
    ours = load(models).score_batch(x)
    assert confidence.shape == (10_000,)
    assert confidence.dtype == np.float32
    np.testing.assert_allclose(confidence, ours, rtol=0, atol=1e-5)
    assert ours.std() > 0.02


def test_a_model_file_is_exported_unrounded(publish):
    models = publish(make_candidate(6))
    file = models / "current" / "fastgrnn.safetensors"
    x = raw_vectors(make_candidate(6).scaling, 1000)
    (confidence,) = run(exported(read_source(file)), features=x)
    np.testing.assert_allclose(confidence, load(file).score_batch(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", [1, 7, 513])
def test_any_batch(publish, n):
    candidate = make_candidate(7)
    graph = exported(read_source(publish(candidate)))
    assert run(graph, features=raw_vectors(candidate.scaling, n))[0].shape == (n,)


def test_sessions_carry_their_state(publish):
    """Eight steps of 500 sessions, each fed the state that came out of the step before."""
    candidate = make_candidate(8, nu=0.8, zeta=1.2)
    source = read_source(publish(candidate))
    graph = exported(source, sessions=True)
    h = np.zeros((500, 16))
    h_onnx = h.astype(np.float32)
    for t in range(8):
        x = raw_vectors(candidate.scaling, 500, seed=t)
        confidence, h_onnx = run(graph, features=x, h_in=h_onnx)
        h = step(source.params, (x - candidate.scaling.means) / candidate.scaling.stds, h, 0.8, 1.2)
        np.testing.assert_allclose(confidence, sigmoid(logits(source.params, h)), rtol=0, atol=1e-5)
        np.testing.assert_allclose(h_onnx, h, rtol=0, atol=1e-5)
    assert np.abs(h).max() > 0.5


def test_it_says_what_it_is_and_comes_out_the_same(publish):
    import onnx

    models = publish(make_candidate(9))
    graph = exported(read_source(models))
    assert graph == exported(read_source(models))
    model = onnx.load_model_from_string(graph)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["version"] == load(models).version
    assert json.loads(facts["features"]) == [f"feature_{column}" for column in range(5)]
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    assert [one.name for one in model.graph.input] == ["features"]
    assert [one.name for one in model.graph.output] == ["confidence"]
