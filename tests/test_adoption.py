"""A model file of another trainer becomes the first champion: `streamtrain promote --from FILE`."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_candidate import TINY_DANCER_SCALE, make_candidate
from npm_folder import TINY_DANCER, npm_folder
from simulated_logs import FEATURES, lines, rows, write_config

from streamtrain.model.formats import write_f32
from streamtrain.model.params import initialise
from streamtrain.publish.artifact import build
from streamtrain.publish.catalog import Catalog
from streamtrain.publish.registry import Registry
from streamtrain.router.load import load
from streamtrain.types import FastGRNNConfig

TRAINER = Path(__file__).with_name("tiny_dancer_trainer.cjs")
X = np.random.default_rng(0).random((1000, 5))


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "streamtrain", *map(str, words)], capture_output=True, text=True)


def model_file(folder: Path, config: FastGRNNConfig | None = None, **changed: Any) -> Path:
    config = FastGRNNConfig(rank=4) if config is None else config
    file = folder / "theirs.safetensors"
    file.write_bytes(write_f32(config, replace(initialise(config, 3), **changed)))
    return file


@pytest.fixture
def tiny_dancer(unavailable):
    """Train and score with the released Tiny Dancer."""
    folder = npm_folder(unavailable, TINY_DANCER)

    def run(model: Path, x: np.ndarray, train: dict[str, Any] | None = None) -> np.ndarray:
        request = json.dumps({"train": train, "model": str(model), "rows": x.tolist()})
        done = subprocess.run(["node", TRAINER, folder], input=request, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return np.array(json.loads(done.stdout.splitlines()[-1]))

    return run


def training(n: int, **options: int) -> dict[str, Any]:
    """The simulated log in the form that `trainRouter` takes."""
    samples = [
        {
            "embedding": [record[name] for name in FEATURES],
            "scores": {"light": 1.0 if record["lightweight_successful"] else 0.0, "powerful": 1.0},
        }
        for record in rows(n)
    ]
    return {"rows": samples, "prices": {"light": 1, "powerful": 25}, "options": {"inputDim": 5, **options}}


@pytest.mark.needs_npm
@pytest.mark.parametrize("input_scale", [None, TINY_DANCER_SCALE])
def test_what_train_router_wrote_is_the_first_champion_and_is_fine_tuned(tmp_path, tiny_dancer, input_scale):
    """Trained on plain columns by Tiny Dancer; served by both; gone on from by a pass over new logs."""
    file = tmp_path / "theirs.safetensors"
    theirs = tiny_dancer(file, X, train=training(3000, hiddenDim=16, epochs=20))
    scale = "null" if input_scale is None else list(input_scale)
    config = write_config(tmp_path, f"router: {{input_scale: {scale}}}\n")
    words = ("promote", "--config", config, "--from", file)
    done = command(*words) if input_scale is None else command(*words, "--unscaled")
    assert done.returncode == 0, done.stderr
    assert "set model:" not in done.stdout

    models = tmp_path / "models"
    version = Catalog(models).current()
    receipt = Catalog(models).receipts.read()[-1]
    ours = load(models).score_batch(X)
    assert np.abs(ours - theirs).max() <= 1.2 * receipt["int8_error"] + 1e-5
    assert np.mean((ours >= 0.5) == (theirs >= 0.5)) >= 0.99
    served = tiny_dancer(models / "current" / "fastgrnn.safetensors", X * np.array(input_scale or [1.0] * 5))
    np.testing.assert_allclose(served, ours, rtol=0, atol=1e-5)

    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(4000, seed=5, first_id=10_000)))
    told = json.loads(command("once", "--config", config, "--json").stdout)
    assert told["decision"]["current_accuracy"] > 0.85
    last = Catalog(models).receipts.read()[-1]
    assert {"fine-tuned", "fine-tuned-fast"} <= {one["name"] for one in last["challengers"]}
    tuned = next(one for one in last["challengers"] if one["name"] == "fine-tuned")
    assert tuned["failure"] is None
    assert tuned["validation_loss"] < 0.6
    assert version in Catalog(models).names()


@pytest.mark.needs_npm
def test_the_shape_that_train_router_takes_by_itself_is_named(tmp_path, tiny_dancer):
    """Its default of 12 hidden units is not ours: served all the same, and told how to go on from it."""
    file = tmp_path / "theirs.safetensors"
    tiny_dancer(file, X[:1], train=training(500, epochs=2))
    done = command("promote", "--config", write_config(tmp_path), "--from", file)
    assert done.returncode == 0, done.stderr
    assert "set model: {hidden_dim: 12}" in done.stdout
    assert load(tmp_path / "models").config.hidden_dim == 12


def test_the_receipt_names_user_and_file(tmp_path):
    file = model_file(tmp_path)
    done = command("promote", "--config", write_config(tmp_path), "--from", file)
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    catalog = Catalog(tmp_path / "models")
    version = catalog.current()
    assert f"serving {version}" in done.stdout
    assert digest in done.stdout
    (receipt,) = catalog.receipts.read()
    assert receipt["user"] == pwd.getpwuid(os.getuid()).pw_name
    assert (receipt["event"], receipt["outcome"], receipt["version"]) == ("candidate", "published", version)
    assert receipt["origin"] == "imported"
    assert receipt["imported"] == {"path": str(file), "sha256": digest, "size": file.stat().st_size}
    assert "not judged" in receipt["reason"]
    champion = catalog.load()
    assert champion.manifest["origin"] == "imported"
    assert champion.manifest["config"]["imported"]["sha256"] == digest
    assert champion.features == FEATURES
    assert (champion.scaling.means == 0).all()
    assert (champion.scaling.stds == 1).all()
    assert champion.config.rank is None


@pytest.mark.parametrize("unscaled", [False, True])
def test_input_scale(tmp_path, unscaled):
    """A file behind `Router.route` takes weighted features, and takes over as it is; one on plain columns is folded."""
    file = model_file(tmp_path)
    config = write_config(tmp_path, f"router: {{input_scale: {list(TINY_DANCER_SCALE)}}}\n")
    assert command("promote", "--config", config, "--from", file, *(["--unscaled"] if unscaled else [])).returncode == 0
    scale = np.array(TINY_DANCER_SCALE)
    models = tmp_path / "models"
    # The model answers for log columns; the file in it for what Tiny Dancer hands it.
    expected = load(file).score_batch(X if unscaled else X * scale)
    np.testing.assert_allclose(load(models).score_batch(X), expected, rtol=0, atol=5e-3)
    served = load(models / "current" / "fastgrnn.safetensors").score_batch(X * scale)
    np.testing.assert_allclose(served, load(models).score_batch(X), rtol=0, atol=1e-6)
    assert np.abs(load(file).score_batch(X) - load(file).score_batch(X * scale)).max() > 0.02


def test_it_takes_over_from_a_version_and_can_be_rolled_back(tmp_path):
    config, file = write_config(tmp_path), model_file(tmp_path)
    for _ in range(2):
        assert command("promote", "--config", config, "--from", file).returncode == 0
    catalog = Catalog(tmp_path / "models")
    first, second = catalog.names()
    assert catalog.current() == second
    assert command("rollback", "--config", config).stdout.strip() == f"serving {first}"


BROKEN = {
    "not a model": (lambda folder: (folder / "x").write_text("hello " * 20), "the header claims"),
    "empty": (lambda folder: (folder / "x").write_bytes(b""), "0 bytes"),
    "NaN": (
        lambda folder: model_file(folder, b_output=np.array([np.nan], np.float32)).rename(folder / "x"),
        "tensor b_output holds numbers that are not finite",
    ),
    "seven features": (
        lambda folder: model_file(folder, FastGRNNConfig(7)).rename(folder / "x"),
        "takes 7 features; expected 5 by the schema (similarity_score,",
    ),
    "nu 0": (lambda folder: model_file(folder, FastGRNNConfig(nu=0.0)).rename(folder / "x"), "its nu is 0.0"),
    "too large": (
        lambda folder: model_file(folder, w_output=np.full((1, 16), 1e9, np.float32)).rename(folder / "x"),
        "beyond what a float16 scale can say",
    ),
    "INT8": (
        lambda folder: (folder / "x").write_bytes(build(make_candidate(1))["fastgrnn_int8.safetensors"]),
        "tensors missing",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_such_a_model_is_refused(tmp_path, name):
    make, said = BROKEN[name]
    make(tmp_path)
    done = command("promote", "--config", write_config(tmp_path), "--from", tmp_path / "x")
    assert done.returncode == 1
    assert said in done.stderr
    assert f"{tmp_path / 'x'}" in done.stderr
    assert Catalog(tmp_path / "models").current() is None
    assert not (tmp_path / "models" / "receipts.jsonl").exists()


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    done = command("promote", "--config", write_config(tmp_path), "--from", tmp_path / "pipe")
    assert done.returncode == 1
    assert "not a regular file" in done.stderr


def test_a_running_trainer_is_not_disturbed(tmp_path):
    config, file = write_config(tmp_path), model_file(tmp_path)
    with Registry(tmp_path / "models") as registry:
        registry.acquire()
        done = command("promote", "--config", config, "--from", file)
        assert done.returncode == 1
        assert f"by process {os.getpid()}; stop it first" in done.stderr
        assert registry.current() is None


@pytest.mark.parametrize("words", [(), ("v1", "--from", "FILE"), ("v1", "--unscaled")])
def test_usage(tmp_path, words):
    file = model_file(tmp_path)
    given = [str(file) if word == "FILE" else word for word in words]
    assert command("promote", "--config", write_config(tmp_path), *given).returncode == 2
