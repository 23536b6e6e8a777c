"""From one format of the state database to the next: in place, in one transaction, after a backup beside it.

A kill at any moment leaves the older database or the newer one, each whole. The backup is written beside its place,
flushed, then renamed, so that what has its name is complete; what a kill leaves of one is removed by the next attempt.
There is never more than the newest backup of each version.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from streamtrain import __version__
from streamtrain.dataset.errors import StoreError, StoreNewerError

_LOG = logging.getLogger(__name__)

VERSION: Final = 4
"""Format that this program reads and writes."""
PROGRAM: Final = json.dumps(f"streamtrain {__version__}")
"""Who writes, as the fact `WRITTEN_BY` says it."""
WRITTEN_BY: Final = "written_by"
MIGRATED: Final = "migrated"
"""The fact under which a store remembers its last migration: {"time", "from", "to", "backup"}."""
# The programs that wrote them, for whoever has one in hand.
_WRITERS: Final = {1: "a streamtrain before 0.1.0", 2: "streamtrain 0.1.0", 3: "a streamtrain before slices"}
_SPARE_BYTES: Final = 16 * 1024 * 1024

# What each version added to the one before.
_STEPS: Final = {
    2: (
        """CREATE TABLE pending (
            schema INTEGER NOT NULL,
            key INTEGER NOT NULL,
            waiting INTEGER NOT NULL,
            seen REAL NOT NULL,
            record BLOB NOT NULL
        )""",
        "CREATE UNIQUE INDEX pending_by_key ON pending (schema, key)",
        "CREATE INDEX pending_by_age ON pending (schema, waiting, seen)",
        "ALTER TABLE totals ADD COLUMN n_unlabelled INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE totals ADD COLUMN n_expired INTEGER NOT NULL DEFAULT 0",
    ),
    # The same tables, which hold what 0.1.0 would take for something else: a source with the key 0, in which the lost
    # bytes of forgotten ones are added up; sources that were seen before anything was read of them; positions in
    # databases and Parquet files; quarantined lines with their header. The facts say who wrote it, from here on.
    3: (),
    # The slice of each sample, and names of slices. What is kept of samples that fell out of the window is one chunk
    # more, under the negative number of its schema: `limits` are the least hashes that were let go of, of either class,
    # and `origins` the chunks that its samples came from, whose ranges stay as long as any of them does.
    4: (
        "ALTER TABLE chunks ADD COLUMN slices BLOB",
        """CREATE TABLE slices (
            schema INTEGER NOT NULL,
            hash INTEGER NOT NULL,
            seen REAL NOT NULL,
            name TEXT NOT NULL,
            PRIMARY KEY (schema, hash)
        ) WITHOUT ROWID""",
        """CREATE TABLE reservoirs (
            schema INTEGER PRIMARY KEY,
            chunk INTEGER NOT NULL,
            limits TEXT NOT NULL,
            origins BLOB NOT NULL
        )""",
    ),
}


def upgrade(
    connection: sqlite3.Connection, path: Path, version: int, clock: Callable[[], float] = time.time
) -> Path | None:
    """Bring an open database to `VERSION`.

    Parameters
    ----------
    connection : sqlite3.Connection
        For writing, and the writer's lock is held. In the transaction that created the tables if `version` is 0, else
        in none.
    path : Path
    version : int
        That it has; 0 for one that is new.
    clock : callable
        Seconds since the epoch.

    Returns
    -------
    Path or None
        The backup; None for a new one, which needs none.

    Raises
    ------
    StoreError, sqlite3.Error
        If it could not be done; the database is as it was, once the connection is closed.
    """
    now = clock()
    backup = None
    if version:
        backup = _back_up(connection, path, version, now)
        # The backup's name must not outlive a power cut that the migration doesn't.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
    for later in range(max(version, 1) + 1, VERSION + 1):
        for statement in _STEPS[later]:
            connection.execute(statement)
    if backup is not None:
        fact = {"time": now, "from": version, "to": VERSION, "backup": str(backup)}
        connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (MIGRATED, json.dumps(fact)))
    note_writer(connection)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
    connection.execute("PRAGMA synchronous = NORMAL")
    if backup is not None:
        _LOG.warning(
            "the state database was migrated from format %d to %d; the older one is kept as %s, for going back to %s",
            *(version, VERSION, backup, _WRITERS.get(version, "the program that wrote it")),
        )
    return backup


def note_writer(connection: sqlite3.Connection) -> None:
    """Write down which program writes."""
    connection.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (WRITTEN_BY, PROGRAM))


def newer(connection: sqlite3.Connection, path: Path, version: int) -> StoreNewerError:
    """Refuse a database of a later format: what wrote it, what reads it, what to do."""
    kept = [backup for number in range(VERSION, 0, -1) for backup in _backups(path, number)]
    way_back = (
        f", or go back: stop whatever writes it, remove {path.name}-wal and {path.name}-shm, and rename {kept[0]} to "
        f"{path.name} (lines read since then are read again, from the logs that are still there)"
        if kept
        else f", or set state.directory to another place, where the dataset begins anew (this is {_this()})"
    )
    return StoreNewerError(
        f"open {path}: its format is version {version}, written by {_writer(connection)}; this is {_this()}, which "
        f"reads up to version {VERSION}: upgrade the program{way_back}"
    )


def older(path: Path, version: int) -> StoreError:
    """Say that a database must be migrated before it can be looked at."""
    return StoreError(
        f"open {path}: its format is version {version}, written by {_WRITERS.get(version, 'an older streamtrain')}; "
        f"this is {_this()}, which reads version {VERSION}: `ingest`, `once` or `run` migrates it, and keeps a backup"
    )


def _this() -> str:
    return f"streamtrain {__version__}"


def _writer(connection: sqlite3.Connection) -> str:
    try:
        row = connection.execute("SELECT value FROM facts WHERE key = ?", (WRITTEN_BY,)).fetchone()
        name = json.loads(row[0]) if row else None
    except (sqlite3.Error, ValueError, TypeError):
        name = None  # whatever that format looks like
    if not isinstance(name, str):
        return "a newer streamtrain"
    return "".join(char for char in name[:80] if char.isprintable())


def _back_up(connection: sqlite3.Connection, path: Path, version: int, now: float) -> Path:
    """Copy a database, with what its write-ahead log holds, to a single file with the version and the time in its name.

    It is complete and on the disk once it has its name. Of backups of the same version only this one is left.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    target = path.with_name(f"{path.name}.v{version}-{stamp}")
    beside = path.with_name(f".new-{path.name}.backup")
    try:
        for suffix in ("", "-journal", "-wal", "-shm"):
            beside.with_name(beside.name + suffix).unlink(missing_ok=True)  # of an attempt that was killed
        pages, page_bytes = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        needed, free = pages * page_bytes, shutil.disk_usage(path.parent).free
        if free < needed + _SPARE_BYTES:
            raise StoreError(
                f"migrate {path} from format {version} to {VERSION}: its backup takes {needed:,} bytes, and {free:,} "
                f"are free in {path.parent}; free some space and start again (nothing was changed)"
            )
        mode = path.stat().st_mode & 0o777
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        os.close(descriptor)
        with closing(sqlite3.connect(beside, isolation_level=None)) as copy:
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        _flush(beside)
        beside.rename(target)
        _flush(path.parent)
        for former in _backups(path, version):
            if former != target:
                former.unlink()
    except OSError as error:
        raise StoreError(
            f"migrate {path} from format {version} to {VERSION}: its backup {target} could not be written: "
            f"{error.strerror or error}; check free space and permissions of {path.parent} (nothing was changed)"
        ) from error
    return target


def _backups(path: Path, version: int) -> list[Path]:
    """List the backups of a version, the newest first."""
    name = re.compile(rf"{re.escape(path.name)}\.v{version}-[0-9]{{8}}T[0-9]{{6}}Z")
    return sorted((found for found in path.parent.iterdir() if name.fullmatch(found.name)), reverse=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
