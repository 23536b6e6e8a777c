"""Lines → samples: the fast way and the careful way come to the same, and every line is accounted for."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrain.ingest.decode import Decoder
from streamtrain.ingest.hashing import hash_offsets, hash_texts
from streamtrain.ingest.schema import Schema, VectorField

NOW = 1234.5
FULL = Schema(
    features=("a", "b c"),
    label="y",
    timestamp="t",
    id="id",
    session="s",
    teacher="teacher",
    weight="w",
    propensity="p",
    slice="task",
)


def decode(data, schema=FULL, source=9, start=0):
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == 10)
    if data and not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    return Decoder(schema, lambda: NOW).decode_lines(data, ends, source, start)


def text(**fields):
    return json.dumps({"a": 1, "b c": 2.5, "y": 1, "t": 5} | fields).encode() + b"\n"


def test_all_fields():
    got = decode(
        text(id="x", s="session", teacher=0.25, w=2, p=0.5, task="é", other=[{}])
        + text(y=False, t="1970-01-01T00:00:07Z")
    )
    samples = got.samples
    assert got.bad == ()
    assert got.n_lines == 2
    assert samples.features.tolist() == [[1, 2.5], [1, 2.5]]
    assert samples.labels.tolist() == [1, 0]
    assert samples.timestamps.tolist() == [5, 7]
    assert samples.keys[0] == hash_texts(["x"])[0]
    assert samples.groups[0] == hash_texts(["session"])[0]
    assert samples.groups[1] == samples.keys[1]
    assert samples.weights.tolist() == [2, 1]
    np.testing.assert_array_equal(samples.teachers, np.array([0.25, np.nan], np.float32))
    np.testing.assert_array_equal(samples.propensities, np.array([0.5, np.nan], np.float32))
    assert samples.slices.tolist() == [int(hash_texts(["é"])[0]), 0]
    kinds = [np.float32, np.float32, np.float64, np.uint64, np.uint64, np.float32, np.float32, np.float32, np.uint64]
    assert [getattr(samples, name).dtype for name in samples.__slots__] == kinds


def test_lines_without_an_id_are_known_by_their_place():
    lines = [text(), text(id=None), text(id=""), text(id="x"), text(id=5), text(id="5")]
    samples = decode(b"".join(lines), start=1000).samples
    places = 1000 + np.cumsum([0] + [len(line) for line in lines[:2]])
    assert samples.keys[:3].tolist() == hash_offsets(9, places).tolist()
    assert samples.keys[4] == samples.keys[5] == hash_texts(["5"])[0]


def test_times_of_every_kind_in_one_batch_and_none():
    samples = decode(text(t=1.5) + text(t="1970-01-01T00:00:02Z") + text(t=None) + text(t=1763838000123)).samples
    assert samples.timestamps.tolist() == [1.5, 2, NOW, 1763838000.123]
    assert decode(text(), Schema(features=("a",), label="y", timestamp=None)).samples.timestamps.tolist() == [NOW]


@pytest.mark.parametrize("dim", [1, 2, 15, 16, 70_000])
def test_one_array_of_features(dim):
    schema = Schema(features=VectorField("v", dim), label="y")
    rows = np.random.default_rng(dim).normal(size=(3, dim)).astype(np.float32)
    lines = [json.dumps({"v": row.tolist(), "y": 1}).encode() + b"\n" for row in rows]
    got = decode(b"".join(lines) + json.dumps({"v": [1] * (dim + 1), "y": 1}).encode(), schema)
    np.testing.assert_array_equal(got.samples.features, rows)
    assert len(got.bad) == 1
    assert f"length <= {dim}" in got.bad[0].reason


@pytest.mark.parametrize("dim", [1, 2, 15, 16, 300])
def test_named_features(dim):
    names = tuple(f"feature {number}" for number in range(dim))
    rows = np.random.default_rng(dim).normal(size=(3, dim)).astype(np.float32)
    lines = [json.dumps(dict(zip(names, row.tolist(), strict=True)) | {"y": 1}).encode() + b"\n" for row in rows]
    got = decode(b"".join(lines), Schema(features=names, label="y"))
    np.testing.assert_array_equal(got.samples.features, rows)


BAD = {
    b"{ ": "not JSON",
    b"[1]": "Expected 'object', got 'array'",
    b"null": "Expected 'object'",
    text(a="1").rstrip(): "Expected 'float', got 'str' - at 'a'",
    text(a=True).rstrip(): "got 'bool' - at 'a'",
    text(a=None).rstrip(): "got 'null' - at 'a'",
    text().rstrip().replace(b'"a": 1', b'"a": NaN'): "NaN and Infinity are no JSON numbers",
    text().rstrip().replace(b'"a": 1', b'"a": -Infinity'): "NaN and Infinity are no JSON numbers",
    text().rstrip().replace(b'"a": 1', b'"a": 1e400'): "out of range",
    text(a=1e39).rstrip(): "'a' is 1e+39, which a 32-bit float can't hold",
    text(y=-0.1).rstrip(): "'y' is -0.1, expected true, false or a number in 0..1",
    text(y=2).rstrip(): "'y' is 2, expected",
    text(y=1e300).rstrip(): "'y' is 1e+300, expected",
    text(y="1").rstrip(): "- at 'y'",
    text(t=-1).rstrip(): "'t' is -1.0, expected seconds or milliseconds",
    text(t="noon").rstrip(): "'t' is 'noon', expected seconds",
    text(t=[]).rstrip(): "- at 't'",
    text(id=1.5).rstrip(): "- at 'id'",
    text(s={}).rstrip(): "- at 's'",
    text(teacher=1.1).rstrip(): "'teacher' is 1.1, expected a number in 0..1",
    text(w=-1).rstrip(): "'w' is -1, expected a finite number ≥ 0",
    text(w=1e300).rstrip(): "'w' is 1e+300",
    text(p=0).rstrip(): "'p' is 0, expected above 0",
    text(p=1.5).rstrip(): "'p' is 1.5, expected above 0",
    text().rstrip() + b" " + text().rstrip(): "trailing characters",
    text().rstrip() + b"\0": "not JSON",
    b"\0" * 50: "not JSON",
    text(id="x").rstrip().replace(b'"x"', b'"\xff\xfe"'): "not UTF-8",
    text().rstrip()[:-1] + b', "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}": "nested too deeply",
    b'{"b c": 1, "y": 1}': "missing required field 'a'",
    b'\xef\xbb\xbf{"a": 1}': "not JSON",
}


@pytest.mark.parametrize("bad", BAD, ids=lambda line: repr(line[:30]))
def test_a_bad_line_says_why_and_leaves_its_neighbours_alone(bad):
    data = (
        b"".join(text(a=number) for number in range(40)) + bad + b"\n" + b"".join(text(a=number) for number in (40, 41))
    )
    got = decode(data, start=500)
    assert got.samples.features[:, 0].tolist() == list(range(42))
    assert got.n_lines == 43
    (line,) = got.bad
    assert line.offset == 500 + data.index(bad + b"\n")
    assert line.line == bad[:4096]
    assert BAD[bad] in line.reason


def test_a_value_over_two_lines_does_not_hide_behind_two_values_on_one():
    """The numbers of lines and of values agree here, but no line is a sample."""
    broken = b'{"a": 1, "b c": 2,\n"y": 1, "t": 5}\n'
    got = decode(broken + text().rstrip() + text())
    assert len(got.samples.keys) == 0
    assert len(got.bad) == 3
    nested = b'{"a": 1, "b c": 2, "y": 1, "z": {}\n}\n'
    assert len(decode(nested).bad) == 2


def test_blank_lines_carriage_returns_and_a_byte_order_mark():
    data = b"\xef\xbb\xbf" + text(a=0) + b"\n  \t\n" + text(a=1).replace(b"\n", b"\r\n") + b"\r\n  " + text(a=2)
    got = decode(data)
    assert got.samples.features[:, 0].tolist() == [0, 1, 2]
    assert (got.n_lines, got.bad) == (3, ())
    assert decode(text().replace(b"\n", b"\r\n") * 5).n_lines == 5
    assert decode(b"").n_lines == 0
    assert decode(b"\n").n_lines == 0


def test_a_last_line_without_newline():
    assert decode(text() + text().rstrip()).samples.features.shape == (2, 2)


def test_the_last_of_equal_fields_counts_and_unknown_ones_do_not():
    got = decode(text().replace(b'{"a": 1', b'{"a": "no", "x": 1e999, "a": 1').replace(b'"x": 1e999, ', b""))
    assert len(got.bad) == 1
    assert decode(b'{"a": 5, ' + text()[1:]).samples.features[0, 0] == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.dictionaries(st.sampled_from(["a", "b c", "y", "t", "id", "s", "teacher", "w", "p"]), JSON, max_size=9)
LINES = st.one_of(
    st.just(text()),
    FIELDS.map(lambda fields: text(**fields)),
    FIELDS.map(lambda fields: json.dumps(fields).encode() + b"\n"),
    st.binary(max_size=30).map(lambda data: data.replace(b"\n", b"") + b"\n"),
)


@settings(deadline=None)
@given(st.lists(LINES, max_size=40))
def test_every_line_is_a_sample_or_bad_and_a_batch_equals_its_lines_one_by_one(lines):
    data = b"".join(lines)
    got = decode(data)
    features, bad, place = [], [], 0
    for line in lines:
        one = decode(line, start=place or 1)
        features += one.samples.features.tolist()
        bad += [(place, item.reason) for item in one.bad]
        place += len(line)
    assert got.samples.features.tolist() == features
    assert [(item.offset, item.reason) for item in got.bad if item.offset] == [item for item in bad if item[0]]
    assert got.n_lines == len(got.samples.keys) + len(got.bad) <= len(lines)
    assert np.isfinite(got.samples.features).all()
    assert ((got.samples.labels >= 0) & (got.samples.labels <= 1)).all()
