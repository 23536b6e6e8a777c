from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from make_candidate import TINY_DANCER_SCALE, make_candidate

from streamtrain.model.fold import fold
from streamtrain.model.formats import read_f32, shapes
from streamtrain.model.quantize import dequantize
from streamtrain.model.seal import VersionError, unseal
from streamtrain.publish.artifact import build, finish, load_candidate, rfc3339, to_json
from streamtrain.types import Decision, EpochMetrics, Rule, Scaling

FILES = {
    "fastgrnn.safetensors",
    "fastgrnn_int8.safetensors",
    "training.safetensors",
    "normalization.json",
    "metrics.json",
    "manifest.json",
}


def write(directory: Path, files: dict[str, bytes]) -> Path:
    directory.mkdir()
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return directory


def test_a_candidate_comes_back_as_it_was(tmp_path):
    candidate = make_candidate(3, nu=0.7, zeta=1.5, input_scale=TINY_DANCER_SCALE)
    files = build(candidate)
    assert files.keys() == FILES
    champion = load_candidate(write(tmp_path / "staged", files))
    assert champion.version is None
    for part in ("config", "features", "input_scale"):
        assert getattr(champion, part) == getattr(candidate, part)
    for name in shapes(candidate.config):
        np.testing.assert_array_equal(getattr(champion.params, name), getattr(candidate.params, name))
    np.testing.assert_array_equal(champion.scaling.means, candidate.scaling.means)
    np.testing.assert_array_equal(champion.scaling.stds, candidate.scaling.stds)
    for part in ("weights", "scales", "biases"):
        for name, tensor in getattr(candidate.quantized, part).items():
            np.testing.assert_array_equal(getattr(champion.quantized, part)[name], tensor)


def test_the_f32_file_is_the_folded_int8_model_bit_for_bit():
    candidate = make_candidate(4, input_scale=TINY_DANCER_SCALE)
    _, served = read_f32(build(candidate)["fastgrnn.safetensors"])
    expected = fold(dequantize(candidate.quantized), candidate.scaling, candidate.input_scale)
    for name in shapes(candidate.config):
        np.testing.assert_array_equal(getattr(served, name), getattr(expected, name))


def test_the_same_candidate_gives_the_same_bytes():
    assert build(make_candidate(5)) == build(make_candidate(5))


def test_the_manifest_and_the_json_files_say_what_the_contract_says():
    candidate = make_candidate(6)
    files = build(candidate)
    manifest = unseal(files["manifest.json"])
    assert (manifest["version"], manifest["test_accuracy"]) == (None, None)
    rules = (Rule("min_accuracy", True, 0.91, 0.85, "0.91 ≥ 0.85"),)
    decision = Decision("published", None, "it is better", 0.91, 0.9, rules)
    report = {"accuracy": 0.91, "auc": np.float64(0.95), "confusion": ((1, 2), (3, 4)), "brier": float("nan")}
    done = finish(
        files,
        manifest,
        version="v1700000000",
        timestamp_s=1700000000.25,
        previous="v1600000000",
        decision=decision,
        report=report,
    )
    assert done.keys() == {"metrics.json", "manifest.json"}
    finished = unseal((files | done)["manifest.json"])
    assert finished["version"] == "v1700000000"
    assert finished["timestamp"] == "2023-11-14T22:13:20.250Z"
    assert finished["test_accuracy"] == 0.91
    assert finished["model_path"] == "fastgrnn.safetensors"
    assert finished["model_size_bytes"] == len(files["fastgrnn.safetensors"])
    assert finished["metrics_path"] == "metrics.json"
    assert finished["normalization_path"] == "normalization.json"
    assert finished["previous"] == "v1600000000"
    assert finished["seed"] == 6
    assert finished["config"] == {"model": {"hidden_dim": 16}}
    assert finished["sequence_length"] == 1
    assert finished["inputs"] == [{"source": "1", "path": "logs/routing.jsonl", "start": 0, "end": 1000}]
    assert finished["gate"]["version"] == "v1700000000"
    assert finished["gate"]["reason"] == "it is better"
    assert finished["gate"]["rules"] == [asdict(rules[0])]
    assert finished["files"].keys() == FILES - {"manifest.json"}
    assert finished["float32_error"] < 1e-5
    metrics = json.loads(done["metrics.json"])
    assert [row["val_accuracy"] for row in metrics["epochs"]] == [0.69, 0.79]
    assert metrics["holdout"] == {"accuracy": 0.91, "auc": 0.95, "confusion": [[1, 2], [3, 4]], "brier": None}
    normalization = json.loads(files["normalization.json"])
    assert normalization["features"] == list(candidate.features)
    assert normalization["means"] == candidate.scaling.means.tolist()
    assert normalization["stds"] == candidate.scaling.stds.tolist()


def test_a_finished_candidate_verifies(tmp_path):
    files = build(make_candidate(7))
    done = finish(files, unseal(files["manifest.json"]), version="v7", timestamp_s=7.0, previous=None)
    champion = load_candidate(write(tmp_path / "v7", files | done))
    assert champion.version == "v7"
    assert champion.manifest["gate"] is None


def test_float32_error_tells_when_a_feature_is_too_far_from_zero():
    candidate = make_candidate(8)
    far = Scaling(np.array([1.7e9, *candidate.scaling.means[1:]]), np.array([60.0, *candidate.scaling.stds[1:]]))
    assert unseal(build(replace(candidate, scaling=far))["manifest.json"])["float32_error"] > 1e-3


def test_an_epoch_without_validation_is_null_not_nan():
    epochs = (EpochMetrics(1, 0.5, float("nan"), 0.7, float("nan"), 0.01),)
    metrics = json.loads(build(replace(make_candidate(9), epochs=epochs))["metrics.json"])
    assert metrics["epochs"][0]["val_loss"] is None


def test_file_names_that_are_not_text_survive():
    candidate = make_candidate(10)
    inputs = (replace(candidate.inputs[0], path="logs/\udcff.jsonl"),)
    manifest = unseal(build(replace(candidate, inputs=inputs))["manifest.json"])
    assert manifest["inputs"][0]["path"] == "logs/\udcff.jsonl"


@pytest.mark.parametrize("input_dim", [1, 48, 384, 1024])
def test_any_width_has_golden_vectors(input_dim):
    golden = unseal(build(make_candidate(11, input_dim=input_dim))["manifest.json"])["golden"]
    assert 3 <= len(golden["confidences"]) <= 16
    assert np.array(golden["features"]).shape == (len(golden["confidences"]), input_dim)
    assert len(set(golden["confidences"])) > 1


def test_parts_that_do_not_fit_are_refused():
    candidate = make_candidate(12)
    with pytest.raises(ValueError, match="4 feature names; expected 5"):
        build(replace(candidate, features=candidate.features[:4]))
    with pytest.raises(ValueError, match=r"params\.w_reset has shape \(16, 5\); expected \(8, 5\)"):
        build(replace(candidate, config=replace(candidate.config, hidden_dim=8)))
    other = make_candidate(12, hidden_dim=8)
    with pytest.raises(ValueError, match=r"quantized\.w_reset has shape \(8, 5\)"):
        build(replace(candidate, quantized=other.quantized))
    with pytest.raises(ValueError, match="expected 5 of each"):
        build(replace(candidate, scaling=make_candidate(12, input_dim=4).scaling))
    with pytest.raises(ValueError, match="input_scale"):
        build(replace(candidate, input_scale=(1.0, 2.0)))
    candidate.params.w_output[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"params\.w_output holds .* not finite"):
        build(candidate)


def test_a_training_file_of_another_model_is_refused(tmp_path):
    files = build(make_candidate(13))
    other = build(make_candidate(13, hidden_dim=8))
    mixed = files | {"training.safetensors": other["training.safetensors"]}
    with pytest.raises(VersionError, match=r"training\.safetensors"):
        load_candidate(write(tmp_path / "mixed", mixed))


def test_what_json_cannot_hold_is_refused_by_type():
    @dataclass
    class Point:
        x: float

    assert to_json({1: (Point(1.0), np.int8(2), None)}) == {"1": [{"x": 1.0}, 2, None]}
    with pytest.raises(ValueError, match="type ndarray"):
        to_json({"a": np.ones(2)})


def test_times_are_utc():
    assert rfc3339(0.0) == "1970-01-01T00:00:00.000Z"
