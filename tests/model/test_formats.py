from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import safetensors.numpy
from make_candidate import make_candidate

from streamtrain.model.formats import (
    Int8File,
    read_f32,
    read_int8,
    read_training,
    shapes,
    write_f32,
    write_int8,
    write_training,
)
from streamtrain.model.tensors import TensorFileError, read, write
from streamtrain.types import Params

CANDIDATE = make_candidate(0, input_dim=3, hidden_dim=4, nu=0.5, zeta=2.0)
INT8 = Int8File(CANDIDATE.config, CANDIDATE.quantized, CANDIDATE.scaling, CANDIDATE.features, (1.0, 0.5, 2.0))


def assert_same(found: Params, expected: Params) -> None:
    for name, tensor in asdict(expected).items():
        np.testing.assert_array_equal(getattr(found, name), tensor)


def changed(
    data: bytes, tensors: dict[str, object] | None = None, metadata: dict[str, str | None] | None = None
) -> bytes:
    stored, described = read(data)
    merged = {name: tensor for name, tensor in (stored | (tensors or {})).items() if tensor is not None}
    return write(merged, {key: text for key, text in (described | (metadata or {})).items() if text is not None})


def test_round_trips():
    config, params = read_f32(write_f32(CANDIDATE.config, CANDIDATE.params))
    assert config == CANDIDATE.config
    assert_same(params, CANDIDATE.params)
    config, params = read_training(write_training(CANDIDATE.config, CANDIDATE.params))
    assert config == CANDIDATE.config
    assert_same(params, CANDIDATE.params)
    found = read_int8(write_int8(INT8))
    assert (found.config, found.features, found.input_scale) == (INT8.config, INT8.features, INT8.input_scale)
    np.testing.assert_array_equal(found.scaling.means, INT8.scaling.means)
    np.testing.assert_array_equal(found.scaling.stds, INT8.scaling.stds)
    for part in ("weights", "scales", "biases"):
        for name, tensor in getattr(INT8.quantized, part).items():
            np.testing.assert_array_equal(getattr(found.quantized, part)[name], tensor)
    assert read_int8(write_int8(replace(INT8, input_scale=None))).input_scale is None


def test_no_other_file_has_a_weight_under_tiny_dancers_names():
    weights = {name for name in shapes(CANDIDATE.config) if name.startswith("w_")}
    for data in (write_int8(INT8), write_training(CANDIDATE.config, CANDIDATE.params)):
        assert not weights & read(data)[0].keys()


def test_a_file_by_another_writer_is_read():
    tensors = {name: getattr(CANDIDATE.params, name) for name in shapes(CANDIDATE.config)}
    config = {"input_dim": 3, "hidden_dim": 4, "output_dim": 1, "nu": 1, "zeta": 1.0, "unknown": [1]}
    found, params = read_f32(safetensors.numpy.save(tensors, {"config": json.dumps(config)}))
    assert (found.nu, found.rank) == (1.0, None)
    assert_same(params, CANDIDATE.params)


F32 = write_f32(CANDIDATE.config, CANDIDATE.params)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"w_reset": None}, r"missing: \['w_reset'\]"),
        ({"extra": np.ones(1)}, r"superfluous: \['extra'\]"),
        ({"w_reset": np.ones((4, 4), np.float32)}, r"w_reset is float32 \(4, 4\); expected float32 \(4, 3\)"),
        ({"w_reset": np.ones((3, 4), np.float32)}, r"w_reset is float32 \(3, 4\)"),
        ({"w_reset": np.ones((4, 3), np.int8)}, "w_reset is int8"),
        ({"w_reset": np.ones((4, 3))}, "w_reset is float64"),
        ({"b_output": np.array([np.nan], np.float32)}, "b_output holds numbers that are not finite"),
        ({"b_output": np.array([np.inf], np.float32)}, "b_output holds numbers that are not finite"),
    ],
)
def test_a_wrong_tensor_is_named(tensors, message):
    with pytest.raises(TensorFileError, match=message):
        read_f32(changed(F32, tensors))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "no 'config'"),
        ("{", "not JSON"),
        ("[" * 2000, "not JSON"),
        ("[]", "expected a JSON object"),
        ('{"hidden_dim": 4}', "input_dim is None"),
        ('{"input_dim": true, "hidden_dim": 4}', "input_dim is True"),
        ('{"input_dim": 3, "hidden_dim": 0}', "hidden_dim is 0"),
        ('{"input_dim": 3, "hidden_dim": 4, "output_dim": 2}', "output_dim is 2"),
        ('{"input_dim": 3, "hidden_dim": 4, "nu": "1"}', "nu is '1'"),
        ('{"input_dim": 3, "hidden_dim": 4, "zeta": NaN}', "zeta is nan"),
        ('{"input_dim": 3, "hidden_dim": 4, "rank": -1}', "rank is -1"),
        ('{"input_dim": 30000000000, "hidden_dim": 4}', "expected float32"),
    ],
)
def test_a_wrong_config_is_named(config, message):
    with pytest.raises(TensorFileError, match=message):
        read_f32(changed(F32, metadata={"config": config}))


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"w_reset.int8": np.ones((4, 3), np.float32)}, {}, "w_reset.int8 is float32"),
        ({"w_reset.scale": np.zeros(4, np.float16)}, {}, "w_reset.scale has numbers that are not positive"),
        ({"normalization.stds": np.array([1.0, 0.0, 1.0])}, {}, "normalization.stds has numbers"),
        ({"normalization.means": np.array([1.0, np.nan, 1.0])}, {}, "normalization.means holds"),
        ({}, {"features": '["a", "b"]'}, "not a list of 3 names"),
        ({}, {"features": '["a", "b", 3]'}, "not a list of 3 names"),
        ({}, {"features": None}, "no 'features'"),
        ({}, {"input_scale": "[1, 2]"}, "not null or a list of 3"),
        ({}, {"input_scale": "[1, 2, Infinity]"}, r"input_scale\[2\] is inf"),
    ],
)
def test_a_wrong_int8_file_is_named(tensors, metadata, message):
    with pytest.raises(TensorFileError, match=message):
        read_int8(changed(write_int8(INT8), tensors, metadata))
