"""The tables of the state database, and opening it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from streamtrain.dataset.errors import StoreBusyError, StoreDamagedError, StoreError, StoreMissingError
from streamtrain.dataset.migration import PROGRAM, VERSION, WRITTEN_BY, newer, note_writer, older, upgrade

_PAGE_BYTES: Final = 16384
_WAL_BYTES: Final = 64 << 20
_APPLICATION: Final = 0x5354524E  # "STRN"

# Everything that was read under one log schema belongs to it: samples of different schemas are never mixed, and going
# back to an earlier schema finds its samples and offsets as they were left.
_TABLES: Final = """
CREATE TABLE schemas (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    used REAL NOT NULL
);
CREATE TABLE totals (
    n_lines INTEGER NOT NULL,
    n_samples INTEGER NOT NULL,
    n_duplicates INTEGER NOT NULL,
    n_quarantined INTEGER NOT NULL,
    n_recognised INTEGER NOT NULL
);
INSERT INTO totals VALUES (0, 0, 0, 0, 0);
CREATE TABLE facts (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE sources (
    schema INTEGER NOT NULL,
    key INTEGER NOT NULL,
    path BLOB NOT NULL,
    head_hash BLOB NOT NULL,
    head_bytes INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    tail_hash BLOB NOT NULL,
    tail_bytes INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    oversize INTEGER NOT NULL,
    lost_bytes INTEGER NOT NULL,
    seen REAL NOT NULL,
    PRIMARY KEY (schema, key)
) WITHOUT ROWID;
CREATE TABLE files (
    schema INTEGER NOT NULL,
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    birth_ns INTEGER NOT NULL,
    source INTEGER NOT NULL,
    path BLOB NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    compressed INTEGER NOT NULL,
    waiting INTEGER NOT NULL,
    gone INTEGER NOT NULL,
    seen REAL NOT NULL,
    PRIMARY KEY (schema, device, inode, birth_ns)
) WITHOUT ROWID;
-- Columns of samples as little-endian arrays. NULL stands for the usual case: groups equal to the keys, weights of 1,
-- no teacher, no propensity. The features come last, so that the others are read without walking over them.
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    schema INTEGER NOT NULL,
    n INTEGER NOT NULL,
    dim INTEGER NOT NULL,
    oldest REAL NOT NULL,
    newest REAL NOT NULL,
    keys BLOB NOT NULL,
    timestamps BLOB NOT NULL,
    labels BLOB NOT NULL,
    groups BLOB,
    weights BLOB,
    teachers BLOB,
    propensities BLOB,
    features BLOB NOT NULL
);
CREATE INDEX chunks_by_schema ON chunks (schema, id);
CREATE TABLE ranges (
    chunk INTEGER NOT NULL,
    source INTEGER NOT NULL,
    start INTEGER NOT NULL,
    stop INTEGER NOT NULL
);
CREATE INDEX ranges_by_chunk ON ranges (chunk);
CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    schema INTEGER NOT NULL,
    source INTEGER NOT NULL,
    path BLOB NOT NULL,
    offset INTEGER NOT NULL,
    reason TEXT NOT NULL,
    line BLOB NOT NULL
);
"""


def connect(path: Path, readonly: bool) -> sqlite3.Connection:
    """Open the database, and create it if need be and allowed.

    Parameters
    ----------
    path : Path
    readonly : bool
        Never write, and work beside a process that does.

    Returns
    -------
    sqlite3.Connection
        In autocommit mode: transactions are begun and ended in so many words.

    Raises
    ------
    StoreMissingError, StoreNewerError, StoreDamagedError, StoreError
    """
    if readonly and not path.exists():
        raise StoreMissingError(f"open {path}: there is no state database yet; `ingest`, `once` or `run` creates it")
    uri = f"file:{quote(str(path))}?mode={'ro' if readonly else 'rwc'}"
    try:
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10.0)
    except sqlite3.Error as error:
        raise StoreError(f"open {path}: {error}; check that its directory exists and may be written") from error
    try:
        _prepare(connection, path, readonly)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        connection.close()
        raise failure(error, f"open {path}") from error
    except StoreError:
        connection.close()
        raise
    return connection


def failure(error: sqlite3.Error | UnicodeDecodeError, what: str, effect: str = "") -> StoreError:
    """Say what a database error means for its user.

    Parameters
    ----------
    error : sqlite3.Error or UnicodeDecodeError
        The latter where even the message of an error can't be read, for what the database holds.
    what : str
        What was being done, and where.
    effect : str
        What came of it, to be put into the message.

    Returns
    -------
    StoreError
        StoreDamagedError if the file is not a sound database.
    """
    # The low byte of an extended code is its kind.
    kind = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if isinstance(error, UnicodeDecodeError) or kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        advice = "move the file aside; the dataset is then rebuilt from the logs that are still there"
        return StoreDamagedError(f"{what}: {error}; {effect}{advice}")
    return StoreError(f"{what}: {error}; {effect}check free space and permissions")


def lock(path: Path) -> int:
    """Take the writer's lock, which goes with the process, however that ends.

    Parameters
    ----------
    path : Path
        The database; the lock is a file beside it.

    Returns
    -------
    int
        File descriptor; closing it releases the lock.

    Raises
    ------
    StoreBusyError, StoreError
    """
    name = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StoreError(f"lock {name}: {error.strerror}; create its directory and let this user write") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StoreBusyError(
            f"open {path}: another process has it open for writing; stop it, or name another state directory"
        ) from error
    return descriptor


@contextmanager
def lock_held(path: Path) -> Iterator[None]:
    """Hold the writer's lock of a database without opening it.

    Raises
    ------
    StoreBusyError, StoreError
    """
    descriptor = lock(path)
    try:
        yield
    finally:
        os.close(descriptor)


def _prepare(connection: sqlite3.Connection, path: Path, readonly: bool) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    if version > VERSION:
        raise newer(connection, path, version)
    if version and application != _APPLICATION:
        raise StoreDamagedError(
            f"open {path}: it is the database of another program; name another state directory", foreign=True
        )
    if readonly:
        if not version:
            raise StoreMissingError(f"open {path}: it is empty; `ingest`, `once` or `run` fills it")
        if version < VERSION:
            raise older(path, version)
        return
    if not version:
        # Chunks of samples are long: four times fewer pages to link, sum and write. An older database keeps its own.
        connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute("PRAGMA journal_mode = WAL")
    # A file that it can't open for writing SQLite opens for reading, and says nothing. Better to hear of it now.
    connection.execute(f"PRAGMA user_version = {version}")
    # In WAL mode a commit survives the death of the process either way; NORMAL leaves a power cut free to take back the
    # last transactions, offsets and samples alike.
    connection.execute("PRAGMA synchronous = NORMAL")
    # Between checkpoints pages are written again and again; each goes to the database once.
    page_bytes = int(connection.execute("PRAGMA page_size").fetchone()[0])
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_BYTES // page_bytes}")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    if not version:
        connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {_APPLICATION};")
    if version < VERSION:
        upgrade(connection, path, version)
    elif connection.execute("SELECT value FROM facts WHERE key = ?", (WRITTEN_BY,)).fetchone() != (PROGRAM,):
        note_writer(connection)
