"""`streamtrain export` as it is typed."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from make_candidate import make_candidate

from streamtrain.router.load import load

from .conftest import raw_vectors


def export(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streamtrain", "export", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def test_c_prints_payload_and_stack(publish, tmp_path):
    models = publish(make_candidate(1))
    done = export("--format", "c", "--name", "gate", models, tmp_path / "gate.h")
    assert done.returncode == 0, done.stderr
    assert "payload  705 bytes: 176 of weights, 529 of constants" in done.stdout
    assert "stack    404 bytes at most" in done.stdout
    first = (tmp_path / "gate.h").read_bytes()
    assert b"static inline int32_t gate_score(" in first
    assert b"#define GATE_SESSIONS 0" in first
    assert export("--format", "c", "--name", "gate", models / "current", tmp_path / "gate.h").returncode == 0
    assert (tmp_path / "gate.h").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".new-")] == []


@pytest.mark.needs_peers
def test_onnx_is_written_and_runs(publish, tmp_path):
    import onnxruntime

    candidate = make_candidate(2)
    models = publish(candidate)
    done = export("--format", "onnx", models, tmp_path / "model.onnx")
    assert done.returncode == 0, done.stderr
    assert "opset 17" in done.stdout
    x = raw_vectors(candidate.scaling, 100)
    (confidence,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"features": x})
    np.testing.assert_allclose(confidence, load(models).score_batch(x), rtol=0, atol=1e-5)


def test_a_version_trained_on_sessions_is_exported_for_sessions(publish, tmp_path):
    candidate = make_candidate(3)
    candidate.settings["model"] = {"sequence_length": 8}
    models = publish(candidate)
    done = export("--format", "c", models, tmp_path / "a.h")
    assert "session  64 bytes each" in done.stdout
    assert "streamtrain_session" in (tmp_path / "a.h").read_text()
    export("--format", "c", "--no-sessions", models, tmp_path / "b.h")
    assert "#define STREAMTRAIN_SESSIONS 0" in (tmp_path / "b.h").read_text()


def test_a_damaged_version_is_not_exported(publish, tmp_path):
    models = publish(make_candidate(4))
    file = models / "current" / "fastgrnn_int8.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    done = export("--format", "c", models, tmp_path / "a.h")
    assert done.returncode == 1
    assert "was changed after it was written" in done.stderr
    assert not (tmp_path / "a.h").exists()


def test_without_onnx_it_says_what_to_install(publish, tmp_path):
    models = publish(make_candidate(5))
    (tmp_path / "shadow" / "onnx").mkdir(parents=True)
    (tmp_path / "shadow" / "onnx" / "__init__.py").write_text("raise ModuleNotFoundError('No module named onnx')\n")
    done = export("--format", "onnx", models, tmp_path / "a.onnx", PYTHONPATH=str(tmp_path / "shadow"))
    assert done.returncode == 2
    assert "pip install 'streamtrain[onnx]'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--format", "onnx", "--name", "x"), "--name is for C headers"),
        (("--format", "tflite"), "tflite"),
        ((), "--format"),
    ],
)
def test_usage(publish, tmp_path, arguments, said):
    done = export(*arguments, publish(make_candidate(6)), tmp_path / "out")
    assert done.returncode == 2
    assert said in done.stderr
