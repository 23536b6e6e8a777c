"""Whatever bytes a version directory or a weight file holds, the router's reader says VersionError, or it is right.

Digests stop nearly everything before it is parsed, so the parsers are fuzzed behind good digests as well.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import numpy as np
from for_long import for_long, unhurried
from hypothesis import given
from hypothesis import strategies as st
from make_candidate import make_candidate

from streamtrain.model.formats import read_f32, read_int8, read_training
from streamtrain.model.seal import MANIFEST_FILE, VersionError, digest, seal, unseal
from streamtrain.model.tensors import TensorFileError, read
from streamtrain.publish.artifact import build
from streamtrain.router.load import load

FILES = build(make_candidate(1, sequence_length=4))
NAMES = sorted(FILES)
SMALL = build(make_candidate(2, input_dim=1, hidden_dim=1))
WEIGHTS = [data for files in (FILES, SMALL) for name, data in sorted(files.items()) if name.endswith(".safetensors")]
ROWS = np.random.default_rng(0).normal(0.5, 1.0, (3, 5))

changes = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.binary(max_size=12), st.integers(0, 8)), min_size=1, max_size=4
)
numbers = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([1 << 63, -1, 0, 1e308, 1 << 70])
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def spoilt(data, changes):
    """Some bytes replaced, inserted or taken out."""
    result = bytearray(data)
    for place, piece, length in changes:
        place %= len(result) + 1
        result[place : place + length] = piece
    return bytes(result)


def load_from(files):
    """What the router makes of a directory with these files: None if it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        try:
            model = load(folder)
        except VersionError as error:
            assert folder in str(error)  # noqa: PT017 (some inputs are good)
            return None
        with np.errstate(all="ignore"):
            scores = model.score_batch(ROWS) if len(model.features) == 5 else np.zeros(1)
        assert ((scores >= 0) & (scores <= 1)).all()
        return model


def resealed(files, manifest):
    manifest = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    try:
        return files | {MANIFEST_FILE: seal(manifest)}
    except ValueError:  # NaN: what no manifest can hold
        return files | {MANIFEST_FILE: b""}


@for_long
@unhurried
@given(name=st.sampled_from(NAMES), changes=changes)
def test_directories(name, changes):
    """Anything changed anywhere is refused."""
    data = spoilt(FILES[name], changes)
    if data != FILES[name]:
        assert load_from(FILES | {name: data}) is None


@for_long
@unhurried
@given(
    name=st.sampled_from(NAMES),
    changes=st.none() | changes,
    keys=st.lists(st.sampled_from([*unseal(FILES[MANIFEST_FILE]), "router", "x"]), max_size=2),
    values=st.lists(anything, min_size=2, max_size=2),
    golden=st.dictionaries(st.sampled_from(["features", "confidences", "session_confidences"]), anything, max_size=2),
)
def test_directories_under_a_good_seal(name, changes, keys, values, golden):
    """Whoever can seal can write anything: it is refused, or a model whose golden vectors come out."""
    files = dict(FILES)
    if changes is not None and name != MANIFEST_FILE:
        files[name] = spoilt(files[name], changes)
    manifest = unseal(files[MANIFEST_FILE])
    manifest["files"] = {one: digest(files[one]) for one in manifest["files"]}
    manifest["golden"] = manifest["golden"] | golden
    load_from(resealed(files, manifest | dict(zip(keys, values, strict=False))))


@for_long
@unhurried
@given(data=st.one_of(st.binary(max_size=200), st.tuples(st.sampled_from(WEIGHTS), changes).map(lambda t: spoilt(*t))))
def test_weight_files(data):
    """Finite tensors of the right shapes, or the named error."""
    for reader in (read_f32, read_training, read_int8):
        try:
            reader(data)
        except TensorFileError:
            continue


entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F64", "F32", "F16", "BF16", "I8", "U8", "BOOL", "I64", "", "x"]) | anything,
        "shape": st.lists(st.integers(-1, 6) | st.sampled_from([1 << 31, 1 << 63, 1 << 64]), max_size=3) | anything,
        "data_offsets": st.lists(st.integers(-1, 80) | st.sampled_from([1 << 63]), min_size=2, max_size=2) | anything,
    }
)
headers = st.dictionaries(
    st.sampled_from(["__metadata__", "w_reset", "w_reset.int8", "b_output", ""]) | st.text(max_size=4),
    entries | anything | st.dictionaries(st.sampled_from(["config", "format"]), st.text(max_size=30), max_size=2),
    max_size=5,
)


@for_long
@unhurried
@given(header=headers, body=st.binary(max_size=80), claimed=st.none() | st.integers(0, 1 << 64))
def test_headers(header, body, claimed):
    """A header of anything before a few bytes: arrays of just those bytes, or the named error."""
    text = json.dumps(header).encode()
    size = len(text) if claimed is None else min(claimed, (1 << 64) - 1)
    data = size.to_bytes(8, "little") + text + body
    try:
        tensors, metadata = read(data)
    except TensorFileError:
        return
    assert sum(tensor.nbytes for tensor in tensors.values()) == len(data) - 8 - size
    assert all(tensor.size == math.prod(tensor.shape) for tensor in tensors.values())
    assert all(isinstance(value, str) for value in metadata.values())
