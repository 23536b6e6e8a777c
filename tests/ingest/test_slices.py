"""Slices: the same hash and the same name from every format, through joins, retries and restarts; bounded names."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import trajectories
from log_yard import Yard
from pyarrow import parquet as pq
from table_maker import NAMES, row
from trajectories import decision, outcome

from streamtrain.dataset.store import Store
from streamtrain.dataset.window import load
from streamtrain.ingest import slices
from streamtrain.ingest.hashing import hash_texts
from streamtrain.ingest.schema import Schema
from streamtrain.ingest.slices import SliceNames, of_values
from streamtrain.reading import Batch
from streamtrain.types import Samples

SLICED = Schema(slice="task")
TEXTS = ["maths", "law", "naïve 日本", "<script>alert(1)</script>", 'a "quoted", text', "x" * 300]


@pytest.fixture
def sliced(tmp_path):
    yard = Yard(tmp_path, SLICED)
    yield yard
    yard.close()


def record(number, **more):
    return dict(zip(NAMES, row(number), strict=True)) | more


def json_lines(values):
    return b"".join(
        json.dumps(record(number) | ({} if value is ... else {"task": value})).encode() + b"\n"
        for number, value in enumerate(values)
    )


def hashed(texts):
    return [int(value) if text else 0 for text, value in zip(texts, hash_texts(list(texts)), strict=True)]


def held(yard):
    return load(yard.store, 10**6).slices.tolist()


def as_csv(yard, values):
    quoted = ['"' + value.replace('"', '""') + '"' for value in values]
    lines = [",".join((*map(str, row(number)), value)) for number, value in enumerate(quoted)]
    yard.write("a.csv", "\n".join([",".join((*NAMES, "task")), *lines, ""]).encode())


def as_tsv(yard, values):
    lines = ["\t".join((*map(str, row(number)), value.replace('"', "'"))) for number, value in enumerate(values)]
    yard.write("a.tsv", "\n".join(["\t".join((*NAMES, "task")), *lines, ""]).encode())


def as_sqlite(yard, values):
    with closing(sqlite3.connect(yard.logs / "a.db")) as database:
        database.execute(f"CREATE TABLE requests ({', '.join((*NAMES, 'task'))})")
        rows = [(*row(number), value) for number, value in enumerate(values)]
        database.executemany(f"INSERT INTO requests VALUES ({', '.join('?' * len(rows[0]))})", rows)
        database.commit()


def as_parquet(yard, values):
    columns = list(zip(*map(row, range(len(values))), strict=True))
    table = pa.table(dict(zip(NAMES, map(pa.array, columns), strict=True)) | {"task": pa.array(values)})
    pq.write_table(table, yard.logs / "a.parquet")


def as_json(yard, values):
    yard.write("a.jsonl", json_lines(values))


def as_many_json_lines(yard, values):
    """So many that they are read without being decoded."""
    yard.write("a.jsonl", json_lines(values + [TEXTS[0]] * 500))


@pytest.mark.parametrize("write", [as_csv, as_tsv, as_sqlite, as_parquet, as_json, as_many_json_lines])
def test_every_format_gives_the_same_slices_and_names(sliced, write):
    write(sliced, TEXTS)
    texts = [text.replace('"', "'") for text in TEXTS] if write is as_tsv else TEXTS
    report = sliced.run()
    assert (report.quarantined, report.lines) == (0, report.samples)
    assert held(sliced)[: len(texts)] == hashed(texts)
    expected = dict(zip(hashed(texts), (text[:200] for text in texts), strict=True))
    assert sliced.store.slice_names() == expected
    sliced.restart()
    assert sliced.store.slice_names() == expected
    assert held(sliced)[: len(texts)] == hashed(texts)


@pytest.mark.parametrize("fill", [0, 300])
def test_numbers_and_truths_are_slices_by_their_text_and_what_is_nothing_is_none(sliced, fill):
    values = [1, -2.5, True, False, None, ..., "", {"a": 1}, [1], 1e300, 12345678901234567890]
    texts = ["1", "-2.5", "true", "false", "", "", "", "", "", "1e+300", "12345678901234567890"]
    sliced.write("a.jsonl", json_lines(values + [2] * fill))
    report = sliced.run()
    assert (report.samples, report.quarantined) == (len(values) + fill, 0)
    assert held(sliced)[: len(values)] == hashed(texts)
    assert set(sliced.store.slice_names().values()) == {*texts, *(["2"] if fill else [])} - {""}


def test_what_is_no_utf8_is_no_slice_and_no_fault(sliced):
    sliced.write("a.jsonl", json_lines(["maths", "q"]).replace(b'"q"', b'"\xff"'))
    assert sliced.run().samples == 2
    assert held(sliced) == hashed(["maths", ""])


def test_a_table_s_numbers_and_truths_too(sliced):
    as_sqlite(sliced, [1, 1.5, "true", None, b"\xff", ""])
    sliced.run()
    assert held(sliced) == hashed(["1", "1.5", "true", "", "", ""])


def test_a_table_without_the_column_has_none(sliced):
    sliced.write("a.csv", (",".join(NAMES) + "\n" + ",".join(map(str, row(1))) + "\n").encode())
    report = sliced.run()
    assert (report.samples, held(sliced)) == (1, [0])


def test_without_a_column_configured_there_are_none_and_the_digest_is_as_it_was(tmp_path):
    yard = Yard(tmp_path, Schema())
    yard.write("a.jsonl", json_lines(TEXTS * 50))
    yard.run()
    assert set(held(yard)) == {0}
    assert yard.store.slice_names() == {}
    yard.close()
    assert replace(SLICED, slice=None).digest == Schema().digest != SLICED.digest


def test_decisions_and_outcomes(tmp_path):
    yard = Yard(tmp_path, trajectories.schema(slice="domain"))
    yard.write("a.jsonl", decision(1, domain="maths") + decision(2) + decision(3))
    yard.run()
    yard.restart()
    yard.write("b.jsonl", outcome(1, domain="law") + outcome(2, domain="law") + outcome(3))
    yard.run()
    assert held(yard) == hashed(["maths", "law", ""])
    assert set(yard.store.slice_names().values()) == {"maths", "law"}
    yard.close()


def test_a_retried_line_has_its_slice(sliced):
    good, bad = json_lines(["maths"]), json.dumps(record(7, task="law") | {"similarity_score": "soon"}).encode()
    sliced.write("a.jsonl", good + bad + b"\n")
    sliced.run()
    assert held(sliced) == hashed(["maths"])
    with closing(sqlite3.connect(sliced.store.path)) as database:
        mended = bad.replace(b'"soon"', b"0.5")
        database.execute("UPDATE quarantine SET line = ?", (mended,))
        database.commit()
    assert sliced.ingestor.retry().samples == 1
    assert held(sliced) == hashed(["maths", "law"])
    assert set(sliced.store.slice_names().values()) == {"maths", "law"}


def test_names_are_bounded_and_the_ones_read_last_stay(tmp_path):
    none = np.empty(0, np.float32)
    empty = Samples(
        np.empty((0, 1), np.float32),
        none,
        np.empty(0),
        *[np.empty(0, np.uint64)] * 2,
        none,
        none,
        none,
        np.empty(0, np.uint64),
    )
    now = 0.0
    with Store(tmp_path / "state.db", "x", clock=lambda: now) as store:
        for now in range(4):
            store.commit(Batch(empty, slice_names={2**64 - 1 - i: f"n{i}" for i in range(now * 400, now * 400 + 400)}))
        names = store.slice_names()
        assert len(names) == 1000
        assert {f"n{i}" for i in range(800, 1600)} < set(names.values())
        assert names[2**64 - 1 - 1599] == "n1599"


def test_very_many_slices_cost_no_more_than_a_few_names():
    names = SliceNames()
    texts = [f"user {i}" for i in range(20_000)]
    got = of_values(texts, names)
    assert got.tolist() == hashed(texts)
    noted = names.take()
    assert len(noted) == slices.MOST_NAMES
    assert all(noted[value] == text for value, text in zip(got.tolist(), texts, strict=True) if value in noted)
    assert names.take() == {}


def test_hashes_that_share_their_upper_bits_are_told_apart():
    names = SliceNames()
    same = np.array([1, 2, 3, 1, 2, 0, (7 << 52) + 1], np.uint64)
    names.note(same, str)
    assert set(names.take()) == {1, 2, 3, (7 << 52) + 1}
