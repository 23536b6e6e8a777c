"""What an older program wrote is all there after the migration, and a backup beside it; a newer format is refused."""

import gzip
import json
import shutil
import sqlite3
import subprocess
import sys
from collections import namedtuple
from contextlib import closing
from dataclasses import asdict

import numpy as np
import pytest
from older_state import WRITTEN_AT, backups, column, expected, rows_of, version_of, write_older
from simulated_logs import lines, rows

from streamtrain import __version__
from streamtrain.dataset import migration
from streamtrain.dataset.errors import StoreBusyError, StoreError, StoreNewerError
from streamtrain.dataset.migration import MIGRATED, VERSION
from streamtrain.dataset.store import Store
from streamtrain.ingest.ingestor import IngestOptions, Ingestor
from streamtrain.ingest.schema import Schema


@pytest.fixture(params=[1, 2, 3])
def version(request):
    return request.param


@pytest.fixture
def path(tmp_path, version):
    write_older(tmp_path / "state.db", version)
    return tmp_path / "state.db"


def plain(one):
    return {key: value.hex() if isinstance(value, bytes) else value for key, value in asdict(one).items()}


def test_everything_that_the_older_program_read_is_read_the_same(path, version):
    told = expected(version)
    for schema in told["schemas"]:
        with Store(path, schema["digest"]) as store:
            samples = [store.read(chunk) for chunk in store.chunks()]
            for name in schema["samples"]:
                ours = np.concatenate([getattr(one, name).ravel() for one in samples])
                assert ours.tobytes() == column(schema, name).tobytes(), name
            assert [plain(one) for one in store.sources()] == schema["sources"]
            assert [plain(one) for one in store.files()] == schema["files"]
            quarantined = [plain(one) for one in store.quarantine()]
            if version == 1:  # it had the numbers, and didn't tell them
                assert [one.pop("id") for one in quarantined] == [2, 1]
            assert quarantined == schema["quarantine"]
            assert [plain(one) for one in store.input_ranges()] == schema["ranges"]
            counts = asdict(store.counts())
            assert {name: counts[name] for name in schema["counts"]} == schema["counts"] | {
                name: told["schemas"][-1]["counts"][name]
                for name in ("n_lines", "n_total_ingested", "n_duplicates", "n_quarantined", "n_recognised")
            } | ({"n_unlabelled": 0, "n_expired": 0} if version >= 2 else {})
            assert store.get("last_learned") == {"n_ingested": 7, "time_s": WRITTEN_AT}
    with closing(sqlite3.connect(path)) as database:
        pending = [[*row[:-1], row[-1].hex()] for row in database.execute("SELECT * FROM pending ORDER BY schema, key")]
    assert pending == told.get("pending", [])
    assert len(pending) == (8 if version >= 2 else 0)


def test_only_facts_and_empty_columns_are_added(path, version):
    before = rows_of(path)
    Store(path).close()
    after = rows_of(path)
    assert version_of(path) == VERSION
    assert set(before["facts"]) < set(after.pop("facts"))
    del before["facts"]
    assert after.pop("slices") == after.pop("reservoirs") == []
    before["chunks"] = [f"{row.removesuffix(')')}, None)" for row in before["chunks"]]
    after.pop("pending") if version == 1 else None
    if version == 1:
        assert after.pop("totals") == [before.pop("totals")[0].replace(")", ", 0, 0)")]
    assert after == before


def test_the_backup_is_the_older_database_in_one_file(path, version, caplog):
    path.chmod(0o640)
    before = rows_of(path)
    with Store(path) as store:
        (backup,) = backups(path)
        fact = store.get(MIGRATED)
    assert backup.name.startswith(f"state.db.v{version}-20")
    assert rows_of(backup) == before
    assert version_of(backup) == version
    assert backup.stat().st_mode & 0o777 == 0o640
    assert (fact["from"], fact["to"], fact["backup"]) == (version, VERSION, str(backup))
    assert str(backup) in caplog.text
    with Store(path):
        assert backups(path) == [backup]


def test_what_only_the_write_ahead_log_holds_is_in_the_backup(path, version):
    kept = path.with_name("kept.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("INSERT INTO facts VALUES ('late', '1')")
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{path}{suffix}", f"{kept}{suffix}")
    Store(kept).close()
    (backup,) = backups(kept)
    assert "('late', '1')" in rows_of(backup)["facts"]
    assert "('late', '1')" in rows_of(kept)["facts"]


def test_one_backup_of_a_version_is_kept(path, version):
    for name in (f"state.db.v{version}-20200101T000000Z", f"state.db.v{version}-20200102T000000Z"):
        path.with_name(name).write_bytes(b"former")
    path.with_name("state.db.v9-20200101T000000Z").write_bytes(b"another version's")
    path.with_name(".new-state.db.backup").write_bytes(b"half of one")
    Store(path).close()
    left = backups(path)
    assert len(left) == 2
    assert {one.read_bytes()[:6] for one in left} == {b"SQLite", b"anothe"}
    assert not path.with_name(".new-state.db.backup").exists()


def test_samples_of_before_slices_have_none(path, version):
    with Store(path, expected(version)["schemas"][-1]["digest"]) as store:
        assert all(not store.read(chunk).slices.any() for chunk in store.chunks())
        assert store.slice_names() == {}


@pytest.mark.parametrize("version", [2, 3])
def test_logs_that_the_older_program_read_are_not_read_again(tmp_path, version):
    write_older(tmp_path / "state.db", version)
    logs = tmp_path / "logs"
    logs.mkdir()
    broken = b'{broken\n{"id":"x","timestamp":1}\n'
    (logs / "a.jsonl").write_bytes(lines(rows(60)) + broken + lines(rows(3, seed=1)))
    (logs / "b.jsonl.gz").write_bytes(gzip.compress(lines(rows(30, seed=2, first_id=1000)), mtime=0))
    (logs / "open.jsonl").write_bytes(lines(rows(5, seed=3, first_id=2000)) + b'{"id": "half')
    schema = Schema()
    options = IngestOptions(directory=logs, include=("*.jsonl*",), exclude=())
    later = WRITTEN_AT + 3600
    with Store(tmp_path / "state.db", schema.digest, clock=lambda: later) as store:
        before = store.counts()
        ingestor = Ingestor(store, schema, options, clock=lambda: later)
        report = ingestor.run()
        assert (report.samples, report.duplicates, report.quarantined) == (0, 0, 0)
        with (logs / "a.jsonl").open("ab") as log:
            log.write(lines(rows(7, seed=9, first_id=5000)))
        assert ingestor.run().samples == 7
        after = store.counts()
    assert after.n_lines == before.n_lines + 7
    assert after.lost_bytes == before.lost_bytes


def test_looking_on_migrates_nothing_and_says_what_does(path, version):
    before = rows_of(path)
    with pytest.raises(
        StoreError, match=rf"version {version}, written by .*; this is .*`ingest`, `once` or `run` migr"
    ):
        Store(path, readonly=True)
    assert rows_of(path) == before
    assert backups(path) == []


def test_without_room_for_the_backup_nothing_is_changed(path, version, monkeypatch):
    before = rows_of(path)
    full = namedtuple("Usage", "total used free")(10**9, 10**9 - 4096, 4096)
    monkeypatch.setattr(migration.shutil, "disk_usage", lambda where: full)
    with pytest.raises(StoreError, match=r"backup takes [0-9,]+ bytes, and 4,096 are free in .*free some space"):
        Store(path)
    assert (rows_of(path), version_of(path), backups(path)) == (before, version, [])


def test_a_database_in_use_is_not_migrated(path, version):
    code = "import sys; from streamtrain.dataset.tables import lock; lock(__import__('pathlib').Path(sys.argv[1]));"
    code += "print('locked', flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(StoreBusyError):
            Store(path)
        other.stdin.close()
    assert version_of(path) == version


def test_the_writer_is_noted(tmp_path):
    path = tmp_path / "state.db"
    with Store(path) as store:
        assert store.get("written_by") == f"streamtrain {__version__}"
        assert store.get(MIGRATED) is None
        store.set("written_by", "streamtrain 0.0.9")
    with Store(path) as store:
        assert store.get("written_by") == f"streamtrain {__version__}"
    assert backups(path) == []


def make_newer(path, writer):
    Store(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE facts SET value = ? WHERE key = 'written_by'", (json.dumps(writer),))
        database.commit()
        database.execute("PRAGMA user_version = 7")


@pytest.mark.parametrize("readonly", [False, True])
def test_a_newer_one_is_refused_by_name(tmp_path, readonly):
    path = tmp_path / "state.db"
    make_newer(path, "streamtrain 9.1.0")
    before = path.read_bytes()
    with pytest.raises(StoreNewerError) as refused:
        Store(path, readonly=readonly)
    told = str(refused.value)
    assert "version 7, written by streamtrain 9.1.0" in told
    assert f"this is streamtrain {__version__}, which reads up to version {VERSION}" in told
    assert "upgrade the program, or set state.directory" in told
    assert path.read_bytes() == before
    backup = path.with_name(f"state.db.v{VERSION}-20260101T000000Z")
    backup.write_bytes(b"")
    with pytest.raises(StoreNewerError, match=rf"rename {backup} to state\.db"):
        Store(path, readonly=readonly)


@pytest.mark.parametrize("writer", [5, None, {"a": 1}, "evil\x1b[31m"])
def test_whoever_wrote_a_newer_one_is_named_as_far_as_it_can_be(tmp_path, writer):
    make_newer(tmp_path / "state.db", writer)
    with pytest.raises(StoreNewerError) as refused:
        Store(tmp_path / "state.db")
    assert str(refused.value).isprintable()
    assert "written by" in str(refused.value)
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        database.execute("DROP TABLE facts")
    with pytest.raises(StoreNewerError, match="written by a newer streamtrain"):
        Store(tmp_path / "state.db")


def test_going_back_by_the_backup(path, version):
    before = rows_of(path)
    Store(path).close()
    (backup,) = backups(path)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    backup.rename(path)
    assert (rows_of(path), version_of(path)) == (before, version)
