"""Parts of inputs: whatever they are cut into, every line is read once, and as the daemon reads it."""

import csv
import gzip
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import zstandard
from fleet_server import Server
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_maker import make
from simulated_logs import lines, rows, write_config

from streamtrain.config import load
from streamtrain.dataset import scale
from streamtrain.dataset.compact import compact, restored
from streamtrain.dataset.select import COLUMNS, concatenate, select
from streamtrain.dataset.window import load as window
from streamtrain.intake import Intake
from streamtrain.scale.files import InputError, InputFile
from streamtrain.scale.inputs import plan
from streamtrain.scale.partition import keys_in, read, repeated, without

GOOD = st.builds(lambda seed: lines(rows(1, seed=seed))[:-1], st.integers(0, 1000))
BAD = st.sampled_from([b"{", b"rubbish", b"", b"   ", b'{"id": 1}', b"\xff\xfe", b"[1, 2]"])
LONG = st.integers(1, 3).map(lambda n: b'{"x": "' + b"y" * n * 70_000 + b'"}')
LINES = st.lists(st.one_of(GOOD, GOOD, GOOD, BAD, LONG), min_size=1, max_size=12)


def config_in(folder, text=""):
    return load(write_config(folder, text))


def parts_of(config, urls, part_bytes=64 << 20):
    return [read(part, config, {}) for part in plan(config, [str(url) for url in urls], {}, part_bytes, 1.7e9)]


def samples_of(parts, dim=5):
    return concatenate([restored(held.samples) for held, _ in parts], dim)


def assert_equal(one, other, columns=COLUMNS):
    for name in columns:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def total(parts, name):
    return sum(getattr(told, name) for _, told in parts)


@given(LINES, st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.sampled_from([1, 37, 400, 70_001, 10**6]))
@settings(max_examples=40)
def test_however_it_is_cut_the_same_lines_are_read(tmp_path_factory, texts, end, ended, part_bytes):
    folder = tmp_path_factory.mktemp("logs")
    config = config_in(folder)
    config = replace(config, logs=replace(config.logs, max_line_bytes=65_536))
    data = b"{}\n" + end.join(texts) + (end if ended else b"")
    (folder / "logs" / "a.jsonl").write_bytes(data)
    if len(data) // part_bytes > 2000:
        part_bytes = 1000
    whole, cut = (parts_of(config, [folder / "logs"], size) for size in (10**9, part_bytes))
    assert_equal(samples_of(whole), samples_of(cut))
    for name in ("n_lines", "n_quarantined", "n_samples", "n_free", "n_judging"):
        assert total(cut, name) == getattr(whole[0][1], name), name
    assert cut[-1][1].stop == len(data)


def as_csv(records):
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]))
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().encode()


def parquet(records):
    import pyarrow as pa
    from pyarrow import parquet as pq

    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), out)
    return out.getvalue()


SPOILED = lines(rows(300)) + b"rubbish\n" + lines(rows(200, seed=1, first_id=300)) + b'{"id": 7}\n'
KINDS = {
    "a.jsonl": SPOILED,
    "a.jsonl.gz": gzip.compress(SPOILED),
    "cut.jsonl.gz": gzip.compress(SPOILED)[:-900],
    "damaged.jsonl.gz": gzip.compress(SPOILED)[:-900] + b"\0" * 900,
    "a.jsonl.zst": zstandard.compress(SPOILED),
    "a.csv": as_csv(rows(300)) + b"1,2\n",
    "a.parquet": parquet(rows(300)),
    "none.jsonl": b"",
    "rubbish.jsonl": b"rubbish\n" * 50,
    "other.jsonl": b"".join(json.dumps({"wrong": i}).encode() + b"\n" for i in range(50)),
    "image.log": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_file_is_read_as_the_daemon_reads_it(tmp_path, name):
    config = config_in(tmp_path)
    config = replace(config, logs=replace(config.logs, idle_timeout_s=0.0))
    file = tmp_path / "logs" / name
    file.write_bytes(KINDS[name])
    with Intake(config) as intake:
        report = intake.ingest()
        bad = [(one.offset, one.reason, one.line) for one in intake.store.quarantine(1000)]
        held = window(intake.store, 10**6)
    parts = parts_of(config, [file])
    assert (total(parts, "n_lines"), total(parts, "n_samples")) == (report.lines, report.samples + report.duplicates)
    assert total(parts, "n_quarantined") == report.quarantined
    ours = [(one.offset, one.reason, one.line) for _, told in parts for one in told.quarantined]
    assert sorted(ours) == sorted(bad)
    # Without an id, a line is known by a name that the daemon gives otherwise: here every line has one.
    if report.samples and not report.duplicates:
        assert_equal(samples_of(parts), held)


def test_lines_without_identity_are_known_by_the_url_and_not_by_where_they_are_brought(tmp_path):
    config = config_in(tmp_path, "schema: {id: null}\n")
    (tmp_path / "logs" / "a.jsonl.gz").write_bytes(gzip.compress(lines(rows(50))))
    (tmp_path / "logs" / "b.jsonl.gz").write_bytes(gzip.compress(lines(rows(50))))
    first, again = (samples_of(parts_of(config, [tmp_path / "logs"])) for _ in range(2))
    assert_equal(first, again)
    assert len(np.unique(first.keys)) == 100


def test_of_equal_keys_the_first_counts_as_in_the_dataset(tmp_path):
    config = config_in(tmp_path)
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(300)) + lines(rows(20, seed=5)))
    (tmp_path / "logs" / "b.jsonl").write_bytes(lines(rows(300, seed=9, first_id=250)))
    with Intake(config) as intake:
        report = intake.ingest()
        held = window(intake.store, 10**6)
    parts = [held for held, _ in parts_of(config, [tmp_path / "logs"], 4000)]
    assert len(parts) > 10
    for n_buckets in (1, 3):
        rows_of = {one.index: [] for one in parts}
        for bucket in range(n_buckets):
            keys = [keys_in(one, bucket, n_buckets) for one in parts]
            for index, again in repeated(keys, bucket, n_buckets).items():
                rows_of[index].append(again)
        assert sum(len(one.places) for each in rows_of.values() for one in each) == report.duplicates == 70
        samples = samples_of([(without(one, rows_of[one.index]), None) for one in parts])
        assert_equal(select(samples, np.argsort(samples.timestamps, kind="stable")), held)


def test_folders_patterns_and_files_are_listed_once_each(tmp_path):
    config = config_in(tmp_path)
    for name in ("b.jsonl", "a.jsonl", "sub/c.jsonl", "d.tmp", "picture.png"):
        file = tmp_path / "logs" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(lines(rows(1)))
    found = plan(config, [str(tmp_path / "logs" / "b.*"), str(tmp_path / "logs")], {}, 10**6, 0.0)
    assert [part.file.url.rpartition("/logs/")[2] for part in found] == ["b.jsonl", "a.jsonl", "sub/c.jsonl"]


@pytest.mark.parametrize("url", ["missing.jsonl", "*.nothing", "nope://x/y", "http://127.0.0.1:9/x.jsonl"])
def test_what_cannot_be_listed_is_named(tmp_path, url):
    url = url if "//" in url else str(tmp_path / url)
    with pytest.raises(InputError, match=url.partition("*")[0].replace(".", r"\.")):
        plan(config_in(tmp_path), [url], {}, 10**6, 0.0)


def test_a_file_that_changed_after_it_was_listed_is_not_read(tmp_path):
    config = config_in(tmp_path)
    file = tmp_path / "logs" / "a.jsonl"
    file.write_bytes(lines(rows(50)))
    (part,) = plan(config, [str(file)], {}, 10**9, 0.0)
    with file.open("ab") as stream:
        stream.write(lines(rows(1, first_id=50)))
    with pytest.raises(InputError, match="was changed since it was listed"):
        read(part, config, {})


@pytest.fixture
def server(tmp_path):
    (tmp_path / "web").mkdir()
    with Server(tmp_path / "web") as serving:
        yield serving


@pytest.mark.parametrize("ranges", [True, False])
def test_logs_on_a_web_server_are_read_in_stretches_if_it_has_them(tmp_path, server, ranges):
    server.fault = lambda path, nth: None if ranges else "no ranges"
    config = config_in(tmp_path)
    data = lines(rows(400))
    for folder in ("web", "logs"):
        (tmp_path / folder / "a.jsonl").write_bytes(data)
        (tmp_path / folder / "b.jsonl.gz").write_bytes(gzip.compress(lines(rows(100, seed=1, first_id=400))))
    there = parts_of(config, [f"{server.url}/a.jsonl", f"{server.url}/b.jsonl.gz"], 20_000)
    here = parts_of(config, [tmp_path / "logs" / "a.jsonl", tmp_path / "logs" / "b.jsonl.gz"], 20_000)
    assert len(here) > 4
    assert len(there) == (len(here) if ranges else 2)
    assert_equal(samples_of(there), samples_of(here))


def test_what_opens_a_url_is_in_no_message(tmp_path, server):
    (tmp_path / "web" / "a.jsonl").write_bytes(lines(rows(5)))
    bare = server.url.removeprefix("http://")
    for url in (f"http://{bare}/none.jsonl?X-Amz-Signature=5ecret", f"http://user:5ecret@{bare}/none.jsonl"):
        with pytest.raises(InputError) as told:
            plan(config_in(tmp_path), [url], {}, 10**6, 0.0)
        assert "none.jsonl" in str(told.value)
        assert "5ecret" not in str(told.value)


def test_what_opens_a_url_is_not_written_down():
    named = {
        "s3://name:secret@bucket/a.jsonl": "s3://bucket/a.jsonl",
        "https://u:p@host:81/a?day=3": "https://host:81/a?day=3",
        "https://host/a.gz?X-Amz-Date=1&X-Amz-Signature=abc": "https://host/a.gz",
        "https://host/a.gz?sig=abc": "https://host/a.gz",
        "file:///a/b c.jsonl": "file:///a/b c.jsonl",
    }
    assert {url: InputFile(url, 1, "").name for url in named} == named


def test_compact_samples_are_the_same_bit_for_bit():
    rng = np.random.default_rng(0)
    plain = make(50)
    full = replace(
        plain,
        labels=rng.random(50).astype(np.float32),
        groups=rng.integers(0, 9, 50).astype(np.uint64),
        weights=rng.random(50).astype(np.float32),
        teachers=np.where(rng.random(50) < 0.5, np.nan, 0.5).astype(np.float32),
        propensities=np.full(50, 0.25, np.float32),
        slices=rng.integers(0, 3, 50).astype(np.uint64),
    )
    for samples in (plain, full, select(plain, slice(0, 0))):
        assert_equal(restored(compact(samples)), samples)
        for name in COLUMNS:
            assert getattr(restored(compact(samples)), name).dtype == getattr(samples, name).dtype
    ones, unknown = np.ones(50, np.float32), np.full(50, np.nan, np.float32)
    nothing = {"teachers": unknown, "propensities": unknown, "slices": np.zeros(50, np.uint64)}
    ones = replace(plain, labels=ones, groups=plain.keys, weights=ones, **nothing)
    assert_equal(restored(compact(ones)), ones)
    assert set(compact(ones).columns) == {"features", "labels", "timestamps", "keys"}


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(0, 10**6))
@settings(max_examples=30)
def test_moments_of_parts_are_those_of_all(sizes, seed):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(sum(sizes), 3)) * [1, 100, 1e-3] + [0, 1e4, 5]).astype(np.float32)
    w = rng.random(len(x)).astype(np.float32)
    edges = np.cumsum(sizes)[:-1]
    parts = [scale.moments(a, b) for a, b in zip(np.split(x, edges), np.split(w, edges), strict=True)]
    if not w.sum():
        return
    merged, whole = scale.scaling_of(scale.merged(parts)), scale.fit(x, w)
    np.testing.assert_allclose(merged.means, whole.means, rtol=1e-12)
    np.testing.assert_allclose(merged.stds, whole.stds, rtol=1e-9)
