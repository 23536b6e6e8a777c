from __future__ import annotations

import json

import numpy as np
import pytest
from make_candidate import make_candidate

from streamtrain.model.formats import F32_FILE, INT8_FILE, read_int8, write_f32, write_int8
from streamtrain.model.seal import MANIFEST_FILE, VersionError, digest, seal, unseal
from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.router.load import load

ROW = [0.1, 0.2, 0.3, 0.4, 0.5]


@pytest.fixture
def directory(tmp_path):
    staged = tmp_path / "staged"
    staged.mkdir()
    for name, data in build(make_candidate(1)).items():
        (staged / name).write_bytes(data)
    return staged


def reseal(directory, **changes):
    manifest = unseal((directory / MANIFEST_FILE).read_bytes())
    del manifest["manifest_sha256"]
    manifest["files"] = {name: digest((directory / name).read_bytes()) for name in manifest["files"]}
    (directory / MANIFEST_FILE).write_bytes(seal(manifest | changes))


def test_a_staged_directory_a_version_a_models_directory_and_a_file(tmp_path, directory):
    with Registry(tmp_path / "models") as registry:
        version = registry.publish(registry.stage(build(make_candidate(1))))
    staged, published = load(directory), load(tmp_path / "models" / "versions" / version)
    current, file = load(str(tmp_path / "models")), load(tmp_path / "models" / "current" / F32_FILE)
    assert [model.version for model in (staged, published, current, file)] == [None, version, version, None]
    assert staged.score(ROW) == published.score(ROW) == current.score(ROW)
    assert file.score(ROW) == pytest.approx(current.score(ROW), abs=1e-6)
    assert load(tmp_path / "models" / "current").version == version
    assert current.features == tuple(f"feature_{n}" for n in range(5))
    assert file.features == tuple(f"feature[{n}]" for n in range(5))


@pytest.mark.parametrize(
    ("name", "message"), [("nothing", "not there"), ("empty", "manifest.json is missing"), ("models", "no version was")]
)
def test_what_is_not_there_is_said(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "models" / "versions").mkdir(parents=True)
    with pytest.raises(VersionError, match=f"{name}.*{message}"):
        load(tmp_path / name)


def test_another_model_under_a_good_seal_is_caught_by_its_golden_vectors(directory):
    content = read_int8((directory / INT8_FILE).read_bytes())
    content.quantized.biases["b_output"][0] += 0.001
    (directory / INT8_FILE).write_bytes(write_int8(content))
    reseal(directory)
    with pytest.raises(VersionError, match="golden vectors come out differently here, by"):
        load(directory)


@pytest.mark.parametrize(
    "golden",
    [
        None,
        [],
        {},
        {"features": [], "confidences": []},
        {"features": [[1.0]], "confidences": [0.5]},
        {"features": [ROW], "confidences": [[0.5, None]]},
        {"features": [ROW], "confidences": ["x"]},
        {"features": [ROW], "confidences": [None]},
        {"features": [[None] * 5], "confidences": [0.5]},
        {"features": [ROW], "confidences": [0.5, 0.5, 0.5]},
    ],
)
def test_golden_vectors_that_are_none_are_refused(directory, golden):
    reseal(directory, golden=golden)
    with pytest.raises(VersionError, match="golden vectors"):
        load(directory)


@pytest.mark.parametrize(("version", "message"), [(5, "calls it 5"), (["v1"], "calls it")])
def test_a_version_without_a_name_is_refused(directory, version, message):
    reseal(directory, version=version)
    with pytest.raises(VersionError, match=message):
        load(directory)


def test_a_version_without_the_int8_file_is_refused(directory):
    manifest = unseal((directory / MANIFEST_FILE).read_bytes())
    reseal(directory, files={name: entry for name, entry in manifest["files"].items() if name != INT8_FILE})
    with pytest.raises(VersionError, match=f"does not list {INT8_FILE}"):
        load(directory)


def test_weights_that_cannot_be_folded_are_refused(directory):
    content = read_int8((directory / INT8_FILE).read_bytes())
    content.scaling.stds[0] = 1e-300
    (directory / INT8_FILE).write_bytes(write_int8(content))
    reseal(directory)
    with pytest.raises(VersionError, match="too large for float32"):
        load(directory)


def test_a_plain_file_that_is_none_is_refused(tmp_path):
    file = tmp_path / "x.safetensors"
    candidate = make_candidate(1)
    good = write_f32(candidate.config, candidate.params)
    for data in (b"", b"hello", good[:-1], good + b"\0"):
        file.write_bytes(data)
        with pytest.raises(VersionError, match=r"x\.safetensors"):
            load(file)
    candidate.params.w_output[0, 0] = np.nan
    file.write_bytes(write_f32(candidate.config, candidate.params))
    with pytest.raises(VersionError, match="w_output holds numbers that are not finite"):
        load(file)


def test_random_manifests_under_a_good_seal_never_do_worse_than_be_refused(directory):
    """Whoever can seal a manifest can write anything into it; the loader must not stumble."""
    manifest = unseal((directory / MANIFEST_FILE).read_bytes())
    del manifest["manifest_sha256"]
    values = [None, True, 0, -1, 1 << 70, 1.5, "", "x", [], {}, [[]], {"a": {}}, "v1"]
    refused = 0
    for key in [*manifest, "other"]:
        for value in values:
            (directory / MANIFEST_FILE).write_bytes(seal(manifest | {key: json.loads(json.dumps(value))}))
            try:
                load(directory)
            except VersionError:
                refused += 1
    assert refused > 30
