"""Whatever bytes are in a log or in the state file, nothing but the named errors is raised, and lines add up.

A few hundred inputs in the suite; `make fuzz` goes on for five minutes.
"""

import gzip
import json
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
import pytest
from for_long import for_long, unhurried
from hypothesis import example, given
from hypothesis import strategies as st
from log_yard import Yard, line, lines

from streamtrain.dataset.errors import StoreError
from streamtrain.dataset.store import Store
from streamtrain.ingest.decode import Decoder
from streamtrain.ingest.schema import Schema, VectorField

SCHEMAS = [
    Schema(),
    Schema(id="id", session="session", teacher="teacher", weight="weight", propensity="propensity"),
    Schema(features=VectorField("similarity_score", 2)),
]
FIELDS = ("similarity_score", "recency_score", "popularity_score", "success_rate", "complexity_score")
OTHERS = ("lightweight_successful", "timestamp", "id", "session", "teacher", "weight", "propensity")

numbers = st.one_of(st.integers(), st.floats(width=64), st.sampled_from([1e400, 10**400, -0.0, 5e-324, 1e11, 1e14]))
times = st.one_of(numbers, st.text("0123456789-:.TZ+ ", max_size=32), st.datetimes().map(lambda t: t.isoformat() + "Z"))
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8), times),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
near = st.fixed_dictionaries(
    {name: st.one_of(st.floats(0, 1), anything) for name in FIELDS},
    optional={name: st.one_of(st.floats(0, 1), times, anything) for name in OTHERS},
)
written = st.one_of(
    near.map(lambda record: json.dumps(record).encode()),
    st.integers(0, 1000).map(lambda number: line(number)[:-1]),
    st.binary(max_size=40),
    st.sampled_from([b"", b"\r", b"{}", b"}{", b"\xef\xbb\xbf", b"[" * 5000, b'{"a":' * 3000, b"\0" * 50]),
)


@st.composite
def logs(draw):
    """Lines, some of them spoilt at a byte."""
    data = bytearray(b"\n".join(draw(st.lists(written, max_size=30))))
    for _ in range(draw(st.integers(0, 3))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@for_long
@unhurried
@given(data=logs(), schema=st.sampled_from(SCHEMAS))
def test_lines(data, schema):
    """Every line that isn't blank is a sample or bad; samples hold what they promise."""
    ends = np.array([*(i for i, byte in enumerate(data) if byte == ord("\n")), len(data)], np.int64)
    if data.endswith(b"\n") or not data:
        ends = ends[:-1]
    decoded = Decoder(schema, lambda: 1.0).decode_lines(data, ends, 5, 0)
    samples = decoded.samples
    text = data.removeprefix(b"\xef\xbb\xbf")
    assert decoded.n_lines == sum(bool(part.strip(b" \t\r")) for part in text.split(b"\n"))
    assert len(samples.keys) + len(decoded.bad) == decoded.n_lines
    assert np.isfinite(samples.features).all()
    assert samples.features.shape == (len(samples.keys), len(schema.feature_names))
    assert ((samples.labels >= 0) & (samples.labels <= 1)).all()
    assert (np.isfinite(samples.timestamps) & (samples.timestamps >= 0)).all()
    assert (np.isfinite(samples.weights) & (samples.weights >= 0)).all()
    assert all(len(bad.line) <= 4096 for bad in decoded.bad)


@for_long
@unhurried
@given(first=logs(), then=logs(), name=st.sampled_from(["a.jsonl", "a.log", "a.ndjson", "a.jsonl.gz", "a.csv"]))
def test_files(first, then, name):
    """A file that grows by anything is read to its end, and not read again."""
    _ingest(name, [first, first + then])


@for_long
@unhurried
@given(
    data=logs(),
    cut=st.integers(0, 200),
    spoil=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=3),
)
def test_gzip(data, cut, spoil):
    """Damaged gzip is said to be damaged."""
    packed = bytearray(gzip.compress(lines(range(5)) + data, 1, mtime=0))
    for place, byte in spoil:
        packed[2 + place % (len(packed) - 2)] = byte
    _ingest("a.jsonl.gz", [bytes(packed[: len(packed) - cut]), bytes(packed)])


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """A state database."""
    yard = Yard(tmp_path_factory.mktemp("state"))
    yard.write("a.jsonl", lines(range(50)) + b"{\n")
    yard.run()
    yard.close()
    return yard.root / "state.db"


@for_long
@unhurried
@example(spoil=[(30746, b"\x0e")], size=None, wal=None)
@example(spoil=[(30746, b"\x0c")], size=None, wal=None)
@example(spoil=[(30746, b"\x00")], size=None, wal=None)
@example(spoil=[(3963, b"\t")], size=None, wal=None)
@example(spoil=[(2449, b"\x80")], size=None, wal=None)
@given(
    spoil=st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=64)), max_size=4),
    size=st.one_of(st.none(), st.integers(0, 1 << 17)),
    wal=st.one_of(st.none(), st.binary(max_size=200)),
)
def test_state(state, spoil, size, wal):
    """A spoilt database is refused by a StoreError, or used."""
    data = bytearray(state.read_bytes())
    for place, piece in spoil:
        place %= len(data)
        data[place : place + len(piece)] = piece
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "state.db").write_bytes(bytes(data[:size]))
        if wal is not None:
            (root / "state.db-wal").write_bytes(wal)
        try:
            with Store(root / "state.db", Schema().digest) as store:
                store.counts()
                store.sources()
                store.files()
                store.quarantine()
                store.input_ranges()
                for chunk in store.chunks():
                    store.read(chunk)
        except StoreError as error:
            assert str(root) in str(error)  # noqa: PT017 (most inputs raise nothing)
        except sqlite3.Error as error:
            pytest.fail(f"bare {error!r}")


def _ingest(name, versions):
    with tempfile.TemporaryDirectory() as folder:
        yard = Yard(Path(folder))
        try:
            for data in versions:
                yard.write(name, data)
                report = yard.run()
                assert report.lines == report.samples + report.duplicates + report.quarantined
            assert yard.run().samples == 0
            assert all(count >= 1 for count in yard.seen().values())
        finally:
            yard.close()
