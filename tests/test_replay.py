"""Versions made again from their logs: bit for bit, or what is missing in so many words."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import zstandard
from daemon_process import start, stop, until
from sample_maker import make
from simulated_logs import FEATURES, lines, rows, write_config
from test_cycle import command, once

from streamtrain.config import load
from streamtrain.cycle import Cycle
from streamtrain.dataset.fingerprint import fingerprints
from streamtrain.dataset.select import COLUMNS, select
from streamtrain.publish.receipts import Receipts
from streamtrain.replay import COMPARED, replay

QUICK = "training: {preset: medium, epochs: 3}\ngate: {versus_current: 'off', min_accuracy: 0.5}\n"


def passes(config, logs, clock=None, **options):
    """One pass after each call of `logs`; the versions published."""
    now = [1_800_000_000.0]
    made = []
    with Cycle(config, clock=clock or (lambda: now[0])) as cycle:
        for write in logs:
            write()
            now[0] += 100
            cycle.ingest()
            decision = cycle.learn(**options)
            assert decision.outcome == "published", decision.reason
            made.append(decision.version)
    return made


def published(folder, text=QUICK, data=None, name="a.jsonl"):
    config = load(write_config(folder, text))
    file = folder / "logs" / name
    (version,) = passes(config, [lambda: file.write_bytes(lines(rows(1500)) if data is None else data)])
    return config, file, version


def assert_identical(config, version, **options):
    made = replay(config, version, **options)
    assert made.missing == ()
    assert [file.name for file in made.files] == list(COMPARED)
    assert made.identical, made.files
    assert made.differences == ()
    return made


def test_twenty_versions_of_a_service_with_a_history(tmp_path):
    """Rotation, compression, duplicates, lines without ids, a window that moves on, a restart, and a running daemon."""
    text = "dataset: {window: 2000}\ntrigger: {min_new_samples: 300}\nmodels: {directory: DIR/models, keep: 40}\n"
    file = write_config(tmp_path)
    file.write_text(
        f"logs: {{directory: {tmp_path}/logs}}\nstate: {{directory: {tmp_path}/state}}\n"
        + text.replace("DIR", str(tmp_path))
        + QUICK
    )
    config = load(file)
    logs = tmp_path / "logs"
    written = []

    def add(n, seed, name="a.jsonl"):
        some = rows(n, seed=seed, first_id=len(written), start=1_700_000_000.0)
        written.extend(some)
        if seed % 3 == 1:
            some = [{key: value for key, value in row.items() if key != "id"} for row in some]
        with (logs / name).open("ab") as out:
            out.write(lines(some))

    def step(number):
        if number == 0:
            return lambda: add(1500, 0)
        if number % 5 == 2:
            # A rotation, and lines that were there before in another file, some of them with another outcome.
            def rotate():
                for back in range(4, 0, -1):
                    if (logs / f"a.jsonl.{back}").exists():
                        (logs / f"a.jsonl.{back}").rename(logs / f"a.jsonl.{back + 1}")
                (logs / "a.jsonl").rename(logs / "a.jsonl.1")
                again = [row | {"lightweight_successful": False} for row in written[-50:]]
                (logs / f"again{number}.jsonl").write_bytes(lines(again + written[-400:-200]))
                add(400, number)

            return rotate
        if number % 5 == 4:

            def compress():
                old = max(logs.glob("a.jsonl.[0-9]"))
                (logs / f"old{number}.jsonl.gz").write_bytes(gzip.compress(old.read_bytes()))
                old.unlink()
                add(400, number, "b.jsonl")

            return compress
        return lambda: add(350, number)

    versions = passes(config, [step(number) for number in range(16)])
    add(350, 16)
    versions.append(once(file)["decision"]["version"])
    daemon, current = start(file), tmp_path / "models" / "current"
    try:
        for number in range(17, 21):
            add(350, number)
            before = versions[-1]
            until(lambda b=before: current.readlink().name != b, f"version {number}")
            versions.append(current.readlink().name)
    finally:
        stop(daemon)
    assert len(set(versions)) == 21
    published = [
        one for one in Receipts(tmp_path / "models" / "receipts.jsonl").read() if one["outcome"] == "published"
    ]
    assert len({one["origin"] for one in published}) > 1
    # The state is not needed, nor that a log lies where it lay.
    shutil.rmtree(tmp_path / "state")
    for log in sorted(logs.iterdir()):
        log.rename(logs / f"x-{log.name}")
    for version in versions:
        assert_identical(config, version)


def test_the_number_of_threads_does_not_matter(tmp_path):
    config = load(write_config(tmp_path, QUICK))
    log = tmp_path / "logs" / "a.jsonl"
    versions = passes(config, [lambda: log.write_bytes(lines(rows(1500)))], workers=3)
    assert_identical(config, versions[0])


def test_normalisation_does_not_depend_on_the_threads_of_linear_algebra():
    code = (
        "import numpy as np; from streamtrain.dataset import scale; x = np.random.default_rng(0).random((200_000, 33), "
        "np.float32); s = scale.fit(x, x[:, 0].copy()); print(s.means.tobytes().hex(), s.stds.tobytes().hex())"
    )
    given = [os.environ | {"OPENBLAS_NUM_THREADS": n, "OMP_NUM_THREADS": n} for n in ("1", "2", "8")]
    told = {subprocess.check_output([sys.executable, "-c", code], env=environ) for environ in given}
    assert len(told) == 1


def table(records, text=False):
    return [[record[key] if not text else str(record[key]) for key in records[0]] for record in records]


def as_csv(records):
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerows([list(records[0]), *table(records)])
    return out.getvalue().encode()


def as_sqlite(records, path):
    with sqlite3.connect(path) as db:
        db.execute(f"CREATE TABLE requests ({', '.join(records[0])})")
        db.executemany(f"INSERT INTO requests VALUES ({', '.join('?' * len(records[0]))})", table(records))
    db.close()
    return path.read_bytes()


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "jsonl.zst", "csv", "csv.gz", "db", "parquet"])
@pytest.mark.parametrize("ids", [True, False], ids=["with ids", "without"])
def test_every_kind_of_log(tmp_path, form, ids):
    records = rows(1300)
    for record in records:
        record["lightweight_successful"] = int(record["lightweight_successful"])
        if not ids:
            del record["id"]
    data = {"jsonl": lines, "csv": as_csv}.get(form.partition(".")[0], lines)(records)
    if form.endswith("gz"):
        data = gzip.compress(data)
    elif form.endswith("zst"):
        data = zstandard.compress(data)
    elif form == "db":
        data = as_sqlite(records, tmp_path / "made.db")
    elif form == "parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "made")
        data = (tmp_path / "made").read_bytes()
    text = QUICK if form != "csv" else QUICK + "dataset: {window: 1200}\n"
    config, file, version = published(tmp_path, text, data, f"a.{form}")
    assert_identical(config, version)
    # As another file of the same content, under another name.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(file, elsewhere / f"moved.{form}")
    file.unlink()
    assert_identical(config, version, places=[elsewhere])


@pytest.mark.parametrize(
    "text",
    [
        "schema: {session: session}\nmodel: {sequence_length: 3, rank: 4}\nrouter: {max_error: 0.2}\n",
        "training: {preset: medium, epochs: 2, prune: 0.3, quantization_aware_epochs: 2, enable_distillation: true}\n"
        "gate: {versus_current: 'off', min_accuracy: 0.5}\n",
        "schema: {weight: w, propensity: p, teacher: t, timestamp: null}\n"
        "training: {epochs: 2, enable_distillation: true}\ngate: {versus_current: 'off', min_accuracy: 0.5}\n"
        "router: {input_scale: [0.4, 0.2, 0.15, 0.15, 0.1]}\n",
    ],
    ids=["sessions", "every stage", "weights and no times"],
)
def test_every_way_of_training(tmp_path, text):
    text = text if "training" in text else text + QUICK
    records = rows(2000)
    rng = np.random.default_rng(0)
    for i, record in enumerate(records):
        record |= {"session": f"s{i // 5}", "w": float(rng.random()), "p": float(rng.uniform(0.1, 1))}
        record |= {"t": float(rng.random())}
    config = load(write_config(tmp_path, text))
    log = tmp_path / "logs" / "a.jsonl"

    def add(part):
        with log.open("ab") as out:
            out.write(lines(part))

    versions = passes(config, [lambda: add(records[:1600]), lambda: add(records[1600:])])
    for version in versions:
        assert_identical(config, version)


def test_records_that_come_in_two_lines(tmp_path):
    schema = "schema: {timestamp: time, label: ok, join: {key: task}}\n"
    records = rows(1200)
    decisions, outcomes = [], []
    for i, record in enumerate(records):
        features = {name: record[name] for name in FEATURES}
        decisions.append({"type": "decision", "task": f"t{i}", "time": record["timestamp"]} | features)
        outcomes.append({"type": "outcome", "task": f"t{i}", "time": record["timestamp"] + 5})
        outcomes[-1]["ok"] = record["lightweight_successful"]
    outcomes += [one | {"time": one["time"] + 1, "ok": not one["ok"]} for one in outcomes[:100]]
    config = load(write_config(tmp_path, schema + QUICK))
    logs = tmp_path / "logs"

    def first():
        (logs / "decisions.jsonl").write_bytes(lines(decisions))
        (logs / "outcomes.jsonl").write_bytes(lines(outcomes[:1100]))

    def second():
        with (logs / "outcomes.jsonl").open("ab") as out:
            out.write(lines(outcomes[1100:]))

    for version in passes(config, [first, second]):
        assert_identical(config, version)


def test_what_is_missing_is_said(tmp_path):
    config, file, version = published(tmp_path)
    data = file.read_bytes()
    half = len(data) // 2

    file.unlink()
    made = replay(config, version)
    assert (made.identical, made.files) == (False, ())
    assert made.missing[0] == f"bytes 0 to {len(data):,} of {file}: no {file}"
    assert "1,500 of the 1,500 samples" in made.missing[1]

    file.write_bytes(data[:half])
    made = replay(config, version)
    assert f"ends at byte {half:,} of {len(data):,}" in made.missing[0]

    file.write_bytes(data.replace(b'"r700"', b'"r7x0"'))
    made = replay(config, version)
    assert "but is another before byte" in made.missing[0]

    # A log that went on is as good as it was, and so is one under another name.
    file.unlink()
    (tmp_path / "logs" / "z.jsonl").write_bytes(data + lines(rows(10, seed=5, first_id=9000)))
    assert_identical(config, version)


def test_a_parent_that_is_gone_is_said_and_scratch_needs_none(tmp_path):
    text = QUICK.replace("epochs: 3", "epochs: 1, fine_tune_epochs: 20, fine_tune_learning_rate: 0.01")
    config = load(write_config(tmp_path, text))
    log = tmp_path / "logs" / "a.jsonl"

    def add(seed):
        with log.open("ab") as out:
            out.write(lines(rows(1200, seed=seed, first_id=1200 * seed)))

    first, second = passes(config, [lambda: add(0), lambda: add(1)])
    made = assert_identical(config, second)
    assert (made.parent, made.origin) == (first, "fine-tuned")
    shutil.rmtree(tmp_path / "models" / "versions" / first)
    made = replay(config, second)
    assert made.files == ()
    assert f"version {first}, whose weights it was fine-tuned from" in made.missing[0]


TURNED = "training: {preset: medium}\ngate: {min_accuracy: 0.5}\n"


def turning(folder, text, drop=()):
    """A world that turns over; the versions that were made of it."""
    config, number = load(write_config(folder, text)), 0
    with Cycle(config, clock=lambda: 1_800_000_000.0 + 100 * number) as cycle:
        for number, flipped in enumerate([False, True, True, True, True]):
            some = rows(1500, seed=number, first_id=1500 * number, flipped=flipped)
            for one in some:
                for name in drop:
                    del one[name]
            (folder / "logs" / f"{number}.jsonl").write_bytes(lines(some))
            cycle.ingest()
            cycle.learn()
        return config, [cycle.registry.manifest(one.version) for one in cycle.registry.versions()]


def test_a_world_that_turned_over(tmp_path):
    """From scratch beside a version that serves, after a change, chosen by the last samples: all of it again."""
    config, manifests = turning(tmp_path, TURNED)
    later = [one for one in manifests if one["lineage"]["champion"] is not None]
    assert any(one["parent"] is None for one in later)
    assert any(one["lineage"]["judged_since"] is not None for one in later)
    for one in manifests:
        assert_identical(config, one["version"])


def test_times_that_no_line_tells_are_said_to_be_missing(tmp_path):
    config, manifests = turning(tmp_path, TURNED + "schema: {timestamp: null}\n", ["timestamp"])
    cut = [one["version"] for one in manifests if one["lineage"]["judged_since"] is not None]
    assert cut
    for version in cut:
        (missing,) = replay(config, version).missing
        assert "the times of its samples" in missing


def test_what_was_changed_since_is_said(tmp_path):
    config, _, version = published(tmp_path)
    window = tmp_path / "models" / "versions" / version / "window.u64"
    data = window.read_bytes()
    assert len(data) == 8 * 1500
    window.write_bytes(data[:-1] + b"x")
    assert "was changed after it was written" in replay(config, version).missing[0]
    window.unlink()
    assert "window.u64, which says what its samples were" in replay(config, version).missing[0]


def test_a_version_from_before_lineage_was_written_down_is_told_as_such(tmp_path):
    config, _, version = published(tmp_path)
    shutil.copytree(tmp_path / "models" / "versions" / version, tmp_path / "kept")
    model = tmp_path / "kept" / "fastgrnn.safetensors"
    adopted = json.loads(
        command("promote", "--from", model, "--config", tmp_path / "streamtrain.yaml", "--json").stdout
    )
    assert "imported" in replay(config, adopted["version"]).missing[0]


def test_another_environment_is_named(tmp_path, monkeypatch):
    config, _, version = published(tmp_path)
    monkeypatch.setattr("streamtrain.making.__version__", "9.9")
    made = replay(config, version)
    assert made.identical
    assert made.differences == ("streamtrain was 0.1.0, and is 9.9",)


def test_stopping_gives_nothing(tmp_path):
    config, _, version = published(tmp_path)
    asked = []
    assert replay(config, version, should_stop=lambda: asked.append(1) or len(asked) > 3) is None


def test_the_command(tmp_path):
    _, file, version = published(tmp_path)
    words = ("replay", "--config", tmp_path / "streamtrain.yaml", version)
    told = json.loads(command(*words, "--json").stdout)
    assert told["identical"] is True
    assert {one["name"]: one["rebuilt"] for one in told["files"]} == {
        one["name"]: one["recorded"] for one in told["files"]
    }
    assert "bit for bit" in command(*words).stdout
    (tmp_path / "away").mkdir()
    file.rename(tmp_path / "away" / "b.jsonl")
    failed = command(*words, "--json", check=False)
    assert (failed.returncode, json.loads(failed.stdout)["identical"]) == (1, False)
    shown = command(*words, check=False)
    assert shown.returncode == 1
    assert "missing   bytes 0 to" in shown.stdout
    assert command(*words, "--logs", tmp_path / "away").returncode == 0
    unknown = command("replay", "--config", tmp_path / "streamtrain.yaml", "v1", check=False)
    assert unknown.returncode == 1
    assert "v1" in unknown.stderr
    assert "Traceback" not in unknown.stderr


def test_fingerprints_tell_every_column_but_the_time():
    samples = make(200)
    whole = fingerprints(samples)
    assert len(np.unique(whole)) == 200
    for name in COLUMNS:
        column = getattr(samples, name).copy()
        column[7] = column[100]
        changed = fingerprints(replace(samples, **{name: column}))
        assert np.flatnonzero(changed != whole).tolist() == ([] if name in ("timestamps", "slices") else [7])
    assert np.array_equal(fingerprints(select(samples, slice(50, 60))), whole[50:60])
    missing = replace(samples, teachers=np.full(200, np.nan, np.float32))
    other = replace(samples, teachers=-np.full(200, np.nan, np.float32))
    assert np.array_equal(fingerprints(missing), fingerprints(other))
