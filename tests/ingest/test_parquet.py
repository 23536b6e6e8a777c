"""Parquet files: every row once, also after a kill in the middle, in bounded memory; refused without the extra."""

import decimal
import importlib.util
import os
import random
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from log_yard import lines, once
from pyarrow import parquet as pq
from table_maker import NAMES, row

from streamtrain.dataset.window import load
from streamtrain.ingest.schema import Schema, VectorField

HERE = Path(__file__).parent


def table(numbers):
    columns = list(zip(*map(row, numbers), strict=True))
    return pa.table(dict(zip(NAMES, map(pa.array, columns), strict=True)))


def write(yard, name, data, **options):
    pq.write_table(data, yard.logs / name, **options)
    return yard.logs / name


def held(yard):
    return load(yard.store, 1 << 40)


@pytest.mark.parametrize("codec", ["none", "snappy", "zstd", "gzip"])
def test_every_row_arrives_once(yard, codec):
    write(yard, "a.parquet", table(range(20_000)), compression=codec, row_group_size=3000)
    report = yard.run()
    assert (report.lines, report.samples, report.pending) == (20_000, 20_000, 0)
    assert yard.seen() == once(range(20_000))
    assert yard.run().lines == 0
    yard.restart()
    assert yard.run().lines == 0


def test_it_is_told_by_content(yard):
    write(yard, "a.log", table(range(5)))
    yard.write("b.parquet", lines(range(5, 10)))
    yard.run()
    assert yard.seen() == once(range(10))


@pytest.mark.parametrize("row_group_size", [700, 100_000])
def test_a_kill_in_the_middle_goes_on_exactly(yard, row_group_size):
    write(yard, "a.parquet", table(range(30_000)), row_group_size=row_group_size)
    yard.restart(commit_bytes=1)
    stops = 0
    while sum(yard.seen().values()) < 30_000:
        yard.restart()
        n = 0

        def stop():
            nonlocal n
            n += 1
            return n > 3

        yard.ingestor.run(should_stop=stop)
        held_now = sum(yard.seen().values())
        assert yard.seen() == once(range(held_now))
        stops += 1
    assert stops > 1


def test_it_is_whole_only_with_its_footer(yard):
    write(yard, "a.parquet", table(range(100)))
    whole = (yard.logs / "a.parquet").read_bytes()
    for size in (4, 10, 12, len(whole) // 2, len(whole) - 1):
        yard.write("a.parquet", whole[:size])
        report = yard.run()
        assert (report.pending, report.lines, report.quarantined) == (1, 0, 0)
    yard.write("a.parquet", whole)
    report = yard.run()
    assert (report.pending, report.samples) == (0, 100)


def test_the_same_content_under_another_name_is_not_read_again(yard):
    path = write(yard, "a.parquet", table(range(100)))
    yard.run()
    yard.write("b.parquet", path.read_bytes())
    write(yard, "c.parquet", table(range(100, 150)))
    path.unlink()
    yard.restart()
    report = yard.run()
    assert (report.recognised, report.lines, report.n_lost) == (1, 50, 0)
    assert yard.seen() == once(range(150))
    write(yard, "c.parquet", table(range(150, 200)))
    yard.run()
    assert yard.seen() == once(range(200))


def test_native_types(yard):
    features = ("a", "b", "c", "d", "e")
    schema = replace(Schema(), features=features, session="who")
    yard.schema = schema
    yard.restart()
    when = datetime(2025, 11, 22, 19, 0, 0, 250_000, UTC)
    data = pa.table(
        {
            "a": pa.array([0.5, 1, None], pa.float32()),
            "b": pa.array([1, 2, 3], pa.int8()),
            "c": pa.array([decimal.Decimal("0.25")] * 3, pa.decimal128(10, 4)),
            "d": pa.array(np.array([0.5, 1, 2], np.float16)),
            "e": pa.array([1, 2, 3], pa.uint64()),
            "lightweight_successful": pa.array([True, False, True]),
            "id": pa.array(["x", "y", "z"]),
            "who": pa.array([5, 5, 6], pa.int64()),
            "timestamp": pa.array([when] * 3, pa.timestamp("us", "UTC")),
            "note": pa.array(["n" * 1000] * 3),
        }
    )
    write(yard, "a.parquet", data)
    for unit in ("s", "ms", "ns"):
        stamped = data.set_column(8, "timestamp", data["timestamp"].cast(pa.timestamp(unit), safe=False))
        write(yard, f"{unit}.parquet", stamped.set_column(6, "id", pa.array([f"{unit}{i}" for i in range(3)])))
    report = yard.run()
    assert (report.samples, report.quarantined) == (8, 4)
    samples = held(yard)
    assert set(samples.timestamps.tolist()) == {when.timestamp(), when.timestamp() - 0.25}
    assert set(map(tuple, samples.features.tolist())) == {(0.5, 1, 0.25, 0.5, 1), (1, 2, 0.25, 1, 2)}
    assert len(set(samples.groups.tolist())) == 1
    assert {one.reason for one in yard.store.quarantine()} == {"'a' is empty"}
    assert b"(row number)" not in yard.store.quarantine()[0].line


def test_embeddings_and_scores(yard):
    schema = Schema(
        features=VectorField("embedding", 3), scores="scores", prices=(("small", 1.0), ("large", 2.0)), timestamp=None
    )
    yard.schema = schema
    yard.restart()
    scores = [{"small": 0.9, "large": 0.92}, {"small": 0.1, "large": 0.92}, {"small": 0.1, "large": None}]
    for name, kind in (
        ("a.parquet", pa.struct({"small": pa.float64(), "large": pa.float64()})),
        ("b.parquet", pa.map_(pa.string(), pa.float64())),
    ):
        data = pa.table(
            {
                "embedding": pa.array([[0.5, 1, 2], [0.5, 1, 3], [0.5, 1, 4]], pa.list_(pa.float32(), 3)),
                "scores": pa.array([one if "a" in name else list(one.items()) for one in scores], kind),
                "id": pa.array([f"{name}{number}" for number in range(3)]),
            }
        )
        write(yard, name, data)
    report = yard.run()
    assert (report.samples, report.quarantined) == (4, 2)
    assert sorted(held(yard).labels.tolist()) == [0, 0, 1, 1]


def test_a_file_without_a_field_is_one_finding(yard):
    write(yard, "a.parquet", pa.table({"similarity": [1.0], "ok": [True]}))
    report = yard.run()
    assert report.quarantined == 1
    assert yard.store.quarantine()[0].reason == "no field 'similarity_score'; the keys are: similarity, ok"
    yard.now = (yard.logs / "a.parquet").stat().st_mtime + 10
    yard.run()
    assert yard.run().quarantined == 0


def test_without_the_extra_it_is_refused_and_read_once_that_is_there(yard, monkeypatch):
    write(yard, "a.parquet", table(range(10)))
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "pyarrow" else real(name, *more)
    )
    for _ in range(2):
        ((_, reason),) = yard.run().refused
        assert reason.endswith("this is Parquet; install streamtrain[parquet] to read it")
    monkeypatch.undo()
    yard.run()
    assert yard.seen() == once(range(10))


def test_reading_lines_does_not_load_it(yard):
    yard.write("a.jsonl", lines(range(10)))
    code = (
        "import sys; from log_yard import *; from pathlib import Path; import streamtrain.intake;"
        "sys.exit('pyarrow' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE.parent)])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_retry_is_the_row_that_reading_it_again_would_be(yard):
    data = table(range(10)).set_column(2, "recency_score", pa.array([None, *[0.5] * 9], pa.float64()))
    path = write(yard, "a.parquet", data)
    yard.run()
    content = path.read_bytes()
    path.unlink()
    yard.schema = replace(yard.schema, features=("similarity_score", *yard.schema.features[2:]))
    yard.restart()
    assert yard.ingestor.retry().samples == 1
    assert yard.seen() == once([0])
    assert content


def test_any_bytes_at_all_in_a_file(yard):
    chosen = random.randrange(1 << 32)
    sys.stdout.write(f"seed {chosen}\n")
    chance = random.Random(chosen)
    path = write(yard, "a.parquet", table(range(300)), row_group_size=100)
    whole = path.read_bytes()
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 3, 20])):
            data[chance.randrange(4, len(data))] = chance.randrange(256)
        yard.write("a.parquet", bytes(data))
        report = yard.run()
        assert report.lines == report.samples + report.duplicates + report.quarantined


BOMB = """
import re, sys
from pathlib import Path
import pyarrow as pa
from pyarrow import parquet as pq
from log_yard import Yard
from table_maker import NAMES, row
yard = Yard(Path(sys.argv[1]))
texts = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 1500), pa.array(["x" * 900_000, "y" * 1_100_000]))
columns = {name: pa.array([value] * 3000) for name, value in zip(NAMES, row(1))}
pq.write_table(pa.table(columns | {"id": texts}), yard.logs / "a.parquet")
report = yard.run()
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(report.samples, report.duplicates, report.quarantined, int(peak[1]) // 1024)
yard.close()
"""


def test_a_long_text_that_is_there_very_often_takes_little_memory(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE.parent)])}
    ended = subprocess.run(
        [sys.executable, "-c", BOMB, tmp_path], env=environment, check=True, capture_output=True, text=True
    )
    samples, duplicates, quarantined, peak_mb = map(int, ended.stdout.split())
    sys.stdout.write(f"{peak_mb} MB\n")
    assert (samples, duplicates, quarantined) == (1, 1499, 1500)
    assert peak_mb < 400
