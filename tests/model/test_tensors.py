from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from streamtrain.model.tensors import HEADER_LIMIT_BYTES, TensorFileError, read, write

ROOT = Path(__file__).parents[2]
TENSORS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.int8": np.array([[-127, 127, 0]], dtype=np.int8),
    "c": np.array([1.5, -2.5]),
    "empty": np.zeros((0, 4), np.float32),
}
METADATA = {"config": '{"x": 1}', "features": '["ä", "b"]', "format": "f"}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype


def test_what_is_written_is_read():
    tensors, metadata = read(write(TENSORS, METADATA))
    assert_same(tensors, TENSORS)
    assert metadata == METADATA


def test_the_reference_library_reads_ours(tmp_path):
    file = tmp_path / "x.safetensors"
    file.write_bytes(write(TENSORS, METADATA))
    assert_same(safetensors.numpy.load_file(file), TENSORS)
    with safetensors.safe_open(file, framework="numpy") as opened:
        assert opened.metadata() == METADATA


def test_ours_reads_the_reference_library():
    tensors, metadata = read(safetensors.numpy.save(TENSORS, METADATA))
    assert_same(tensors, TENSORS)
    assert metadata == METADATA
    assert read(safetensors.numpy.save({"a": np.ones(1, np.float32)}))[1] == {}


def test_not_contiguous_and_big_endian_arrays_are_written_as_they_read():
    tensors = {"t": np.arange(6, dtype=np.float32).reshape(2, 3).T, "big": np.arange(3, dtype=">f8")}
    found, _ = read(write(tensors, {}))
    np.testing.assert_array_equal(found["t"], tensors["t"])
    np.testing.assert_array_equal(found["big"], [0, 1, 2])


def test_each_tensor_is_aligned_to_its_own_size():
    data = write(TENSORS, METADATA)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    assert size % 8 == 0
    for name, tensor in TENSORS.items():
        assert header[name]["data_offsets"][0] % tensor.itemsize == 0


def test_the_same_input_gives_the_same_bytes_in_every_process():
    code = (
        "import hashlib, numpy as np; from streamtrain.model.tensors import write;"
        "t = {n: np.ones(2, np.float32) for n in 'abcdefgh'}; m = {n: n for n in 'abcdefgh'};"
        "print(hashlib.sha256(write(t, m)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True, cwd=ROOT
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(digests) == 1


def test_a_tensor_is_a_copy():
    tensors, _ = read(write({"a": np.ones(2, np.float32)}, {}))
    tensors["a"][0] = 5


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.uint8, np.bool_])
def test_another_dtype_is_refused_both_ways(dtype):
    with pytest.raises(TensorFileError, match="tensor a has dtype"):
        write({"a": np.ones(2, dtype)}, {})
    with pytest.raises(TensorFileError, match="tensor a has dtype"):
        read(safetensors.numpy.save({"a": np.ones(2, dtype)}))


def test_a_header_beyond_the_limit_is_refused_both_ways():
    with pytest.raises(TensorFileError, match="shorten the feature names"):
        write({"a": np.ones(2, np.float32)}, {"features": "x" * HEADER_LIMIT_BYTES})
    long = safetensors.numpy.save({"a": np.ones(2, np.float32)}, {"features": "x" * HEADER_LIMIT_BYTES})
    with pytest.raises(TensorFileError, match="header claims"):
        read(long)


def test_deep_nesting_is_refused():
    header = b'{"__metadata__":' + b"[" * 50_000 + b"]" * 14_000 + b"}"
    with pytest.raises(TensorFileError, match="not a valid"):
        read(len(header).to_bytes(8, "little") + header)


def test_every_truncation_is_refused():
    data = write(TENSORS, METADATA)
    for length in range(len(data)):
        with pytest.raises(TensorFileError):
            read(data[:length])
    with pytest.raises(TensorFileError):
        read(data + b"x")


def test_random_damage_is_either_refused_or_still_a_file():
    data = write(TENSORS, METADATA)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(5000):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            damaged[position] = rng.integers(0, 256)
        try:
            read(bytes(damaged))
        except TensorFileError:
            refused += 1
    assert 1000 < refused < 5000
