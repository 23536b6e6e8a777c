from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.fleet.errors import RefusedError
from streamtrain.fleet.pointer import POINTER_LIMIT_BYTES, Pointer, PointerError, _digest, decode, encode

POINTER = Pointer(7, "v12", 4922, "ab" * 32, None, ("v12", "v11"), "2026-11-25T10:00:00.000Z")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)


def sealed(content):
    return json.dumps(content | {"sha256": _digest(content)}).encode()


def content(**changed):
    written = json.loads(encode(POINTER))
    del written["sha256"]
    return written | changed


@pytest.mark.parametrize("signature", [None, "0f" * 64])
def test_there_and_back(signature):
    pointer = replace(POINTER, signature=signature)
    assert decode(encode(pointer)) == pointer


@given(st.binary(max_size=300))
def test_anything_at_all(data):
    with pytest.raises(PointerError):
        decode(data)


@given(st.integers(0, len(encode(POINTER)) - 1), st.integers(1, 255))
def test_a_changed_byte(position, change):
    data = bytearray(encode(POINTER))
    data[position] ^= change
    with suppress(PointerError):
        assert decode(bytes(data)) == POINTER  # white space


@given(st.integers(0, len(encode(POINTER)) - 2))
def test_truncated(length):
    with pytest.raises(PointerError):
        decode(encode(POINTER)[:length].rstrip())


@given(st.sampled_from(sorted(content())), VALUES)
def test_wrong_values_under_a_good_seal(key, value):
    try:
        pointer = decode(sealed(content(**{key: value})))
    except (PointerError, RefusedError):
        return
    assert isinstance(pointer.serial, int)
    assert pointer.version[1:].isdecimal()
    assert 0 < pointer.manifest_size <= 16 * 1024 * 1024


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("version", bad) for bad in ("../v1", "v1/../../x", "/etc", "v", "v-1", "v1\n", "v１", "", ["v1"], None)),
        *(("recent", bad) for bad in (["../x"], "v1", {"v1": 1}, [1])),
        *(("serial", bad) for bad in (0, -1, True, 1.0, "1", 2**53 + 1, None)),
        *(("manifest_size", bad) for bad in (0, -1, 2**40, 1e3, "9")),
        *(("manifest_sha256", bad) for bad in ("AB" * 32, "ab" * 31, "../" + "a" * 61, 7)),
        *(("signature", bad) for bad in ("ab", "zz" * 64, 7)),
        *(("time", bad) for bad in ("x" * 41, "\x1b[2J", 7)),
        *(("format", bad) for bad in (0, "1", None, True)),
    ],
)
def test_hostile_values(key, value):
    with pytest.raises(PointerError, match=key):
        decode(sealed(content(**{key: value})))


def test_limits_and_later_formats():
    with pytest.raises(PointerError, match="longer"):
        decode(b" " * (POINTER_LIMIT_BYTES + 1))
    with pytest.raises(PointerError, match="not JSON"):
        decode(b"[" * 10_000)
    with pytest.raises(RefusedError, match=r"format 2.*upgrade"):
        decode(sealed(content(format=2)))
    assert decode(sealed(content(more="of the same format"))) == POINTER
