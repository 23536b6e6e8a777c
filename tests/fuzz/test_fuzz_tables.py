"""Whatever is in a table of logs, its rows add up, none is read twice, and nothing but the named errors is raised.

Fifteen inputs each in the suite; `make fuzz` goes on for its time.
"""

import functools
import gzip
import inspect
import os
import random
import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from log_yard import Yard
from table_maker import NAMES, header, record

from streamtrain.ingest.schema import Schema, VectorField

SECONDS = float(os.environ.get("STREAMTRAIN_FUZZ_SECONDS", "0"))
unhurried = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
SCHEMAS = [
    Schema(),
    Schema(id="id", session="session", teacher="teacher", weight="weight", propensity="propensity"),
    Schema(features=VectorField("similarity_score", 2)),
]


def for_long(test):
    """Again with other seeds until the time is over; once without a time."""

    @functools.wraps(test)
    def repeated(**fixtures):
        end = time.monotonic() + SECONDS
        while True:
            chosen = random.randrange(1 << 32)
            sys.stdout.write(f"seed {chosen}\n")
            seed(chosen)(test)(**fixtures)
            if time.monotonic() >= end:
                return

    repeated.__signature__ = inspect.signature(test)
    return repeated


odd = st.one_of(
    st.text("0123456789.-+eE naif", max_size=8),
    st.text(max_size=12),
    st.sampled_from(
        ["[0.5, 1]", "[0.5", "{}", "", '"', '""', "true", "null", "1e400", "2026-01-01T00:00:00Z", "\x00", "\r"]
    ),
)
fields = st.one_of(odd.map(str.encode), st.binary(max_size=6), odd.map(lambda text: b'"%s"' % text.encode()))
whole = st.integers(0, 99).map(record)
spoilt = st.tuples(whole, st.integers(0, 60), fields).map(lambda one: one[0][: one[1]] + one[2] + one[0][one[1] :])
made = st.lists(fields, max_size=9).map(lambda parts: b",".join(parts) + b"\n")
records_ = st.lists(st.one_of(whole, whole, spoilt, made, st.binary(max_size=20)), max_size=30).map(b"".join)
headers = st.one_of(
    st.just(header()),
    st.permutations([*NAMES, "id", "session", "weight"]).map(lambda names: ",".join(names).encode() + b"\n"),
    st.lists(st.sampled_from([*NAMES, "", "x", '"']), max_size=9).map(lambda names: ";".join(names).encode() + b"\n"),
)


@for_long
@unhurried
@given(
    first=headers,
    parts=st.lists(records_, min_size=1, max_size=4),
    name=st.sampled_from(["a.csv", "a.log", "a.tsv"]),
    packed=st.booleans(),
    schema=st.sampled_from(SCHEMAS),
)
def test_delimited(first, parts, name, packed, schema):
    """A table that grows by anything gives the same samples as the whole of it at once."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        # Without ids a record is known by its place: then none can hide behind another.
        grown, at_once = Yard(Path(one), replace(schema, id=None)), Yard(Path(other), replace(schema, id=None))
        grown.now = at_once.now = 5e9
        try:
            for yard in (grown, at_once):
                yard.restart(idle_timeout_s=None)
            grown.write(name, first)
            for part in parts:
                _checked(grown.run())
                grown.restart()
                grown.append(name, part)
            _checked(grown.run())
            data = first + b"".join(parts)
            at_once.write(f"{name}.gz" if packed else name, gzip.compress(data) if packed else data)
            _checked(at_once.run())
            assert at_once.run().lines == grown.run().lines == 0
            if not packed:
                assert grown.seen() == at_once.seen()
                assert grown.store.counts().n_lines == at_once.store.counts().n_lines
        finally:
            grown.close()
            at_once.close()


values = st.one_of(
    st.none(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(),
    st.text(max_size=12).filter(lambda text: text.isprintable()),
    st.binary(max_size=20),
    st.sampled_from(["[0.5, 1]", "[", "1e400", "2026-01-01T00:00:00Z", b"\0" * 8]),
)
rows = st.lists(st.tuples(st.integers(-2, 1 << 40) | st.none(), st.lists(values, min_size=9, max_size=9)), max_size=20)


@for_long
@unhurried
@given(
    parts=st.lists(rows, min_size=1, max_size=3),
    spoil=st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=16)), max_size=3),
    wal=st.booleans(),
    schema=st.sampled_from(SCHEMAS),
)
def test_database(parts, spoil, wal, schema):
    """Rows of anything, then bytes of anything."""
    with tempfile.TemporaryDirectory() as folder:
        yard = Yard(Path(folder), schema)
        path = yard.logs / "a.db"
        columns = ", ".join((*NAMES, "id", "session"))
        try:
            with closing(sqlite3.connect(path)) as db:
                db.execute("PRAGMA synchronous = OFF")
                db.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
                db.execute(f"CREATE TABLE logs (number INTEGER PRIMARY KEY, {columns}, teacher, weight, propensity)")
                for part in parts:
                    db.executemany(
                        f"INSERT OR IGNORE INTO logs (number, {columns}) VALUES ({', '.join('?' * 10)})",
                        [(number, *row) for number, row in part],
                    )
                    db.commit()
                    assert not _checked(yard.run()).refused
                    assert yard.run().lines == 0
            data = bytearray(path.read_bytes())
            for place, piece in spoil:
                place %= len(data)
                data[place : place + len(piece)] = piece
            yard.write("a.db", bytes(data[: len(data)]))
            _checked(yard.run())
        finally:
            yard.close()


def _checked(report):
    assert report.lines == report.samples + report.duplicates + report.quarantined
    return report
