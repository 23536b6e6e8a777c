"""SQLite databases of routing logs: every row once, nothing written, nothing run, and no writer disturbed."""

import json
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from log_yard import lines, once
from table_maker import NAMES, row

from streamtrain.dataset.window import load
from streamtrain.ingest.schema import Schema, VectorField

COLUMNS = ", ".join(f"{name} REAL" for name in NAMES)
RESTARTS = pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])


def connect(yard, name="log.db", wal=False):
    db = sqlite3.connect(yard.logs / name, isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    if wal:
        db.execute("PRAGMA journal_mode = WAL")
    return db


def make(db, name="requests", more="", options=""):
    db.execute(f'CREATE TABLE "{name}" (number INTEGER PRIMARY KEY{more}, {COLUMNS}) {options}')


def insert(db, numbers, name="requests"):
    db.execute("BEGIN")
    db.executemany(
        f'INSERT INTO "{name}" ({", ".join(NAMES)}) VALUES ({", ".join("?" * len(NAMES))})', map(row, numbers)
    )
    db.execute("COMMIT")


def again(yard, restart):
    if restart:
        yard.restart()
    return yard.run()


def beside(yard):
    return sorted(path.name for path in yard.logs.iterdir())


def refusal(report):
    ((_, reason),) = report.refused
    return reason


@RESTARTS
@pytest.mark.parametrize("wal", [False, True], ids=["journal", "wal"])
@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
def test_rows_are_read_once_while_they_come(yard, wal, is_open, restart):
    db = connect(yard, wal=wal)
    make(db)
    insert(db, range(10_000))
    total = 10_000
    for _ in range(4):
        if not is_open:
            db.close()
        before = beside(yard)
        report = again(yard, restart)
        assert (report.refused, report.pending) == ((), 0)
        assert yard.seen() == once(range(total))
        assert beside(yard) == before
        assert again(yard, restart).lines == 0
        if not is_open:
            db = connect(yard)
        insert(db, range(total, total + 7))
        total += 7
    again(yard, restart)
    assert yard.seen() == once(range(total))
    db.close()
    assert yard.store.counts().n_quarantined == 0


@pytest.mark.parametrize("wal", [False, True], ids=["journal", "wal"])
def test_nothing_of_a_database_is_changed_and_nothing_made_beside_it(yard, wal):
    with closing(connect(yard, wal=wal)) as db:
        make(db)
        insert(db, range(100))
    assert beside(yard) == ["log.db"]
    before = (yard.logs / "log.db").read_bytes()
    yard.logs.chmod(0o555)
    yard.run()
    yard.logs.chmod(0o755)
    assert yard.seen() == once(range(100))
    assert beside(yard) == ["log.db"]
    assert (yard.logs / "log.db").read_bytes() == before


def test_what_is_only_in_the_wal_is_read_and_noticed(yard):
    with closing(connect(yard, wal=True)) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        make(db)
        insert(db, range(10))
        yard.run()
        look = (yard.logs / "log.db").stat()
        insert(db, range(10, 20))
        assert (yard.logs / "log.db").stat().st_mtime_ns == look.st_mtime_ns
        yard.run()
        assert yard.seen() == once(range(20))


CRASH = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("PRAGMA wal_autocheckpoint = 0")
for statement in sys.stdin.read().split(";"):
    db.execute(statement)
os._exit(0)
"""


def crash(path, *statements):
    subprocess.run([sys.executable, "-c", CRASH, path], input=";".join(statements), text=True, check=True)


def test_a_wal_that_a_crash_left_is_read_too(yard):
    values = ",".join(str(row(number)) for number in range(10))
    crash(
        yard.logs / "log.db",
        f"CREATE TABLE requests ({COLUMNS})",
        f"INSERT INTO requests VALUES {values}",
    )
    assert beside(yard) == ["log.db", "log.db-shm", "log.db-wal"]
    before = {name: (yard.logs / name).read_bytes() for name in beside(yard)}
    yard.run()
    assert yard.seen() == once(range(10))
    assert {name: (yard.logs / name).read_bytes() for name in beside(yard)} == before
    yard.restart()
    (yard.logs / "log.db-shm").unlink()
    assert "its -wal was not taken in" in refusal(yard.run())
    with closing(connect(yard)) as db:
        insert(db, range(10, 12))
    yard.run()
    assert yard.seen() == once(range(12))


def test_who_begins_to_write_while_a_still_database_is_read_is_noticed(yard, monkeypatch):
    from streamtrain.ingest.database import Database

    with closing(connect(yard, wal=True)) as db:
        make(db)
        insert(db, range(20_000))
    real, writers = Database.rows_after, []

    def interrupted(database, table, number, *arguments):
        if number > 5000 and not writers:
            writers.append(connect(yard))
            writers[0].execute("DELETE FROM requests WHERE similarity_score < 15000")
            insert(writers[0], range(20_000, 20_100))
        return real(database, table, number, *arguments)

    monkeypatch.setattr(Database, "rows_after", interrupted)
    assert "began to write" in refusal(yard.run())
    held = sum(yard.seen().values())
    assert 5000 < held < 15_000
    assert yard.run().refused == ()
    assert yard.seen() == once([*range(held), *range(15_000, 20_100)])
    writers[0].close()


def test_a_locked_database_is_told_and_read_later(yard):
    with closing(connect(yard)) as db:
        make(db)
        insert(db, range(10))
        yard.write("good.jsonl", lines(range(100, 110)))
        db.execute("BEGIN EXCLUSIVE")
        assert "database is locked" in refusal(yard.run())
        assert yard.seen() == once(range(100, 110))
        db.execute("COMMIT")
        yard.run()
    assert yard.seen() == once([*range(10), *range(100, 110)])


def test_a_damaged_database_is_told_each_time_and_keeps_nothing_from_the_others(yard):
    with closing(connect(yard)) as db:
        make(db)
        insert(db, range(5000))
    whole = (yard.logs / "log.db").read_bytes()
    yard.write("log.db", whole[:4096] + os.urandom(len(whole) - 4096))
    yard.write("short.db", whole[: len(whole) // 2])
    yard.write("head.db", whole[:100])
    yard.write("good.jsonl", lines(range(9000, 9010)))
    for _ in range(2):
        report = yard.run()
        assert {Path(path).name for path, _ in report.refused} == {"log.db", "short.db", "head.db"}
    assert yard.seen().keys() >= set(range(9000, 9010))
    yard.write("log.db", whole)
    yard.run()
    assert yard.seen() == once([*range(5000), *range(9000, 9010)])


def test_a_hot_journal_is_left_to_its_writer(yard):
    with closing(connect(yard)) as db:
        make(db)
        insert(db, range(2000))
        db.execute("PRAGMA cache_size = 2")
        db.execute("BEGIN")
        db.execute("UPDATE requests SET recency_score = 0.75")
        shutil.copy(yard.logs / "log.db", yard.root / "log.db")
        shutil.copy(yard.logs / "log.db-journal", yard.root / "log.db-journal")
        db.execute("ROLLBACK")
    for name in ("log.db", "log.db-journal"):
        shutil.copy(yard.root / name, yard.logs / name)
    before = (yard.logs / "log.db").read_bytes()
    assert "ended in the middle of a write" in refusal(yard.run())
    assert (yard.logs / "log.db").read_bytes() == before
    with closing(connect(yard)) as db:
        db.execute("SELECT count(*) FROM requests").fetchone()
    yard.run()
    assert yard.seen() == once(range(2000))


@RESTARTS
@pytest.mark.parametrize("auto", [False, True], ids=["rowid", "autoincrement"])
def test_rows_deleted_and_numbers_given_again(yard, restart, auto):
    with closing(connect(yard)) as db:
        make(db, more=" AUTOINCREMENT" if auto else "")
        insert(db, range(50))
        again(yard, restart)
        db.execute("DELETE FROM requests WHERE number <= 20")
        insert(db, range(50, 60))
        db.execute("VACUUM")
        again(yard, restart)
        assert yard.seen() == once(range(60))
        db.execute("DELETE FROM requests WHERE number > 40")
        again(yard, restart)
        insert(db, range(60, 65))
        again(yard, restart)
        db.execute("DELETE FROM requests")
        insert(db, range(65, 165))
        again(yard, restart)
        db.execute("DELETE FROM requests")
        again(yard, restart)
        insert(db, range(165, 170))
        again(yard, restart)
    assert yard.seen() == once(range(170))


def test_a_label_filled_in_later_does_not_make_two_of_a_record(yard):
    with closing(connect(yard)) as db:
        make(db)
        insert(db, range(10))
        yard.run()
        db.execute("UPDATE requests SET lightweight_successful = 0.5")
        insert(db, range(10, 12))
        yard.run()
    assert yard.seen() == once(range(12))


def test_a_database_replaced_or_copied(yard):
    with closing(connect(yard)) as db:
        make(db)
        insert(db, range(20))
    yard.run()
    shutil.copy(yard.logs / "log.db", yard.logs / "copy.sqlite")
    report = yard.run()
    assert (report.lines, report.recognised) == (0, 1)
    (yard.logs / "log.db").unlink()
    yard.restart()
    report = yard.run()
    assert (report.n_lost, report.lost_bytes) == (0, 0)
    with closing(connect(yard)) as db:
        make(db)
        insert(db, range(100, 110))
    with closing(connect(yard, "copy.sqlite")) as db:
        insert(db, range(20, 25))
    yard.run()
    assert yard.seen() == once([*range(25), *range(100, 110)])
    yard.restart()
    assert yard.run().lines == 0


def test_progress_is_committed_with_the_rows(yard):
    with closing(connect(yard)) as db:
        make(db)
        insert(db, range(60_000))
    yard.restart(commit_bytes=1 << 16)
    yard.ingestor.run(should_stop=iter([False] * 3 + [True] * 9).__next__)
    held = sum(yard.seen().values())
    assert 0 < held < 60_000
    assert yard.seen() == once(range(held))
    yard.restart()
    yard.run()
    assert yard.seen() == once(range(60_000))


@RESTARTS
@pytest.mark.parametrize("time", ["1763838000", 1763838000, "2025-11-22T19:00:00Z", "0"])
def test_a_time_written_as_text_does_not_make_a_row_another(yard, time, restart):
    with closing(connect(yard)) as db:
        db.execute("CREATE TABLE requests (number INTEGER PRIMARY KEY, " + ", ".join(NAMES) + ")")
        for number in range(3):
            values = [time if name == "timestamp" else value for name, value in zip(NAMES, row(number), strict=True)]
            # The last is a bad one: it is quarantined once.
            values[-1] = None if number == 2 else values[-1]
            db.execute(f"INSERT INTO requests ({', '.join(NAMES)}) VALUES ({', '.join('?' * len(NAMES))})", values)
        assert yard.run().lines == 3
        assert again(yard, restart).lines == 0
        assert again(yard, restart).lines == 0


def test_values_as_programs_write_them(yard):
    schema = Schema(features=VectorField("embedding", 3), session="who")
    yard.schema = schema
    yard.restart()
    with closing(connect(yard)) as db:
        db.execute('CREATE TABLE "a ""b"" [c]" (id, who, embedding, lightweight_successful, timestamp, other)')
        rows = [
            ("a", 5, "[0.5, 1, 2]", 1, "2025-11-22 19:00:00", None),
            ("b", "5", struct.pack("<3f", 0.5, 1, 2), "0.25", 1_763_838_000_000, None),
            (7, None, struct.pack("<3d", 0.5, 1, 2), "true", "1763838000.5", "x" * 5_000_000),
            (None, None, "[3, 3, 3]", 0, None, None),
            ("e", None, b"12345", 0, None, None),
            ("f", None, "[1, 2]", 0, None, None),
            (b"g", None, "[1, 2, 3]", 0, None, None),
            ("h", None, "[1, 2, 3]", 7, None, None),
            ("i", None, None, 0, None, None),
            ("j" * 2_000_000, None, "[1, 2, 3]", 0, None, None),
            ("k", None, "[" + "1, " * 600_000 + "3]", 0, None, None),
            ("l", None, "[9, 9, 9]", 0, None, None),
        ]
        db.executemany('INSERT INTO "a ""b"" [c]" VALUES (?, ?, ?, ?, ?, ?)', rows)
    report = yard.run()
    assert (report.lines, report.samples, report.quarantined) == (12, 5, 7)
    samples = load(yard.store, 100)
    assert samples.features[:, 0].tolist() == [0.5, 0.5, 0.5, 3, 9] or sorted(samples.features[:, 0]) == [
        0.5,
        0.5,
        0.5,
        3,
        9,
    ]
    assert len(set(samples.groups.tolist())) == 4
    reasons = {quarantined.offset: quarantined.reason for quarantined in yard.store.quarantine()}
    assert reasons == {
        5: "'embedding' can't be read: 5 bytes are not 3 32-bit or 64-bit floats",
        6: "'embedding': Expected 'array' of length >= 3",
        7: "'id' is b'g', expected a text or a whole number",
        8: "'lightweight_successful' is 7, expected true, false or a number in 0..1",
        9: "'embedding' is empty",
        10: "longer than 1048576 bytes",
        11: "longer than 1048576 bytes",
    }


def test_a_record_is_the_same_in_a_database_and_in_a_line(yard):
    with closing(connect(yard)) as db:
        db.execute(f"CREATE TABLE requests (id, {COLUMNS})")
        db.executemany(
            f"INSERT INTO requests VALUES ({', '.join('?' * 8)})", [(f"r{number}", *row(number)) for number in range(9)]
        )
    yard.run()
    more = [json.loads(one) | {"id": f"r{number}"} for number, one in enumerate(lines(range(9)).splitlines())]
    yard.write("a.jsonl", b"".join(json.dumps(one).encode() + b"\n" for one in more))
    report = yard.run()
    assert (report.lines, report.duplicates) == (9, 9)
    assert yard.seen() == once(range(9))


def test_which_table_is_read(yard):
    with closing(connect(yard)) as db:
        make(db, "one")
        db.execute("CREATE TABLE other (a, b)")
        insert(db, range(5), "one")
        yard.run()
        assert yard.seen() == once(range(5))
        make(db, "two")
        insert(db, range(100, 150), "two")
        yard.restart()
        assert "several tables have the fields of the schema: 'one', 'two'; name one in logs.sqlite.table" in refusal(
            yard.run()
        )
        yard.restart(sqlite_table="two")
        yard.run()
        assert yard.seen() == once([*range(5), *range(100, 150)])
        yard.restart(sqlite_table="other")
        assert "'other': no field 'similarity_score'; the keys are: a, b" in refusal(yard.run())
        yard.restart(sqlite_table="three")
        assert "no table 'three'; there are: 'one', 'other', 'two'" in refusal(yard.run())


def test_tables_that_have_no_row_numbers_are_refused(yard):
    with closing(connect(yard)) as db:
        make(db, "plain")
        make(db, "without", options="WITHOUT ROWID")
        db.execute("CREATE VIEW shown AS SELECT * FROM plain")
        db.execute("CREATE VIRTUAL TABLE searched USING fts5(similarity_score)")
        db.execute(f"CREATE TABLE taken (rowid, _rowid_, oid, {COLUMNS})")
        db.execute(f"CREATE TABLE named (rowid, oid, {COLUMNS})")
        db.execute(f"INSERT INTO named VALUES ('x', 'y', {', '.join(map(str, row(3)))})")
    for name, reason in {
        "without": "WITHOUT ROWID",
        "shown": "is a view",
        "searched": "is a virtual table",
        "taken": "its row numbers can't be read",
    }.items():
        yard.restart(sqlite_table=name)
        assert reason in refusal(yard.run())
    yard.restart(sqlite_table="named")
    yard.run()
    assert yard.seen() == once([3])


def test_extreme_row_numbers(yard):
    with closing(connect(yard)) as db:
        make(db)
        for number in (-5, 0, 1, 1 << 40, (1 << 63) - 1):
            db.execute(f"INSERT INTO requests VALUES (?, {', '.join('?' * 7)})", (number, *row(number % 1000)))
    report = yard.run()
    assert (report.samples, report.quarantined) == (3, 1)
    assert yard.store.quarantine()[0].reason == "rows with a number below 1 are not read"
    assert yard.run().lines == 0
    yard.restart()
    assert yard.run().lines == 0


HOSTILE = {
    "computed": f"CREATE TABLE t (x, {COLUMNS.replace('recency_score REAL', 'recency_score AS (hex(zeroblob(1e6)))')})",
    "tables": ";".join(f"CREATE TABLE t{number} (a)" for number in range(3000)),
    "view": f"CREATE VIEW t AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) "
    f"SELECT {', '.join(f'n AS {name}' for name in NAMES)} FROM c",
    "columns": f"CREATE TABLE t ({', '.join(f'c{number}' for number in range(1990))}, {COLUMNS})",
    "trigger": f"CREATE TABLE t ({COLUMNS}); CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT load_extension('x'); END",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas(yard, name):
    with closing(connect(yard)) as db:
        db.executescript(HOSTILE[name])
        if name == "computed":
            db.execute("INSERT INTO t (x) VALUES (1)")
    yard.write("good.jsonl", lines(range(10)))
    report = yard.run()
    assert yard.seen() == once(range(10))
    assert len(report.refused) == (name not in ("columns", "trigger"))


def test_what_lies_beside_a_database_is_never_waited_for(yard):
    with closing(connect(yard, wal=True)) as db:
        make(db)
        insert(db, range(10))
    secret = yard.root / "secret"
    secret.write_bytes(b"x")
    for suffix in ("-wal", "-shm", "-journal"):
        os.mkfifo(yard.logs / f"log.db{suffix}")
        assert "is not a regular file" in refusal(yard.run())
        (yard.logs / f"log.db{suffix}").unlink()
        (yard.logs / f"log.db{suffix}").symlink_to(secret)
        assert "is not a regular file" in refusal(yard.run())
        (yard.logs / f"log.db{suffix}").unlink()
    yard.run()
    assert yard.seen() == once(range(10))


@pytest.mark.parametrize("seed", [None, 1685668411], ids=["any seed", "no UTF-8 in an error"])
def test_any_bytes_at_all_in_a_database(yard, seed):
    """Pages spoilt at random: rows or a refusal, and never a row twice."""
    chosen = random.randrange(1 << 32) if seed is None else seed
    sys.stdout.write(f"seed {chosen}\n")
    chance = random.Random(chosen)
    with closing(connect(yard)) as db:
        make(db)
        insert(db, range(300))
    whole = (yard.logs / "log.db").read_bytes()
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 3, 20])):
            data[chance.randrange(16, len(data))] = chance.randrange(256)
        yard.write("log.db", bytes(data))
        report = yard.run()
        assert report.lines == report.samples + report.duplicates + report.quarantined


def test_retry_of_rows(yard):
    """With an id a row is known again; without, what is kept of it doesn't tell."""
    with closing(connect(yard)) as db:
        db.execute(f"CREATE TABLE requests (id, {COLUMNS})")
        for name, number in (("a", 1), (None, 2)):
            db.execute(f"INSERT INTO requests VALUES ({', '.join('?' * 8)})", (name, *row(number)[:-1], "5"))
        for name, number in (("c", 3),):
            db.execute(f"INSERT INTO requests VALUES ({', '.join('?' * 8)})", (name, *row(number)))
    yard.run()
    assert [one.offset for one in yard.store.quarantine()] == [2, 1]
    (yard.logs / "log.db").unlink()
    yard.schema = replace(yard.schema, label="complexity_score", features=yard.schema.features[:4])
    yard.restart()
    report = yard.ingestor.retry()
    assert (report.tried, report.samples, report.remaining) == (2, 1, 1)
    assert yard.seen() == once([1])


def test_lag_and_disposal_leave_databases_alone(yard):
    with closing(connect(yard)) as db:
        make(db)
        insert(db, range(100))
    yard.run()
    assert yard.ingestor.lag() == (0, 0.0)
    yard.restart()
    assert yard.ingestor.lag() == (0, 0.0)
    yard.now = (yard.logs / "log.db").stat().st_mtime + 100
    yard.run()
    assert yard.ingestor.finished() == []
    assert np.isfinite(load(yard.store, 100).features).all()
