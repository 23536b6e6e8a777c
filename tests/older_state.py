"""State databases as older programs wrote them, kept as SQL, and what those programs themselves read in them.

`state-v2` was written by the code of 0.1.0, `state-v1` by the one before it had halves of records, `state-v3` by the
one before it had slices. Each under the guide's schema: logs that were appended to, gzip, a line without an end, a log
that was lost, two lines quarantined; `state-v2` and `state-v3` also under a schema of decisions and outcomes, and
`state-v3` with a table of which one row is quarantined.
"""

import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "dataset" / "older"
WRITTEN_AT = 1_764_000_000.0


def write_older(path, version):
    """Make the database of an older program."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript((FOLDER / f"state-v{version}.sql").read_text())
        database.execute("PRAGMA journal_mode = WAL")


def expected(version):
    """What the older program read in it."""
    return json.loads((FOLDER / f"state-v{version}.json").read_text())


def rows_of(path):
    """Every row of every table, by table."""
    with closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(map(repr, database.execute(f"SELECT * FROM {name}"))) for name in names}


def version_of(path):
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return database.execute("PRAGMA user_version").fetchone()[0]


def backups(path):
    return sorted(found for found in path.parent.iterdir() if ".v" in found.name)


def column(schema, name):
    kinds = {"keys": np.uint64, "groups": np.uint64, "timestamps": np.float64}
    return np.frombuffer(base64.b64decode(schema["samples"][name]), kinds.get(name, np.float32))
