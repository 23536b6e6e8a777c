"""Sources, files and quarantined lines ↔ rows."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable

from streamtrain.reading import Quarantined, Source, SourceFile

_KEPT_SOURCES = 20_000  # sources without a file are remembered, in case they come back compressed or copied


def write_sources(db: sqlite3.Connection, schema: int, sources: Iterable[Source], now: float) -> None:
    """Write the state of sources.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    schema : int
    sources : iterable of Source
    now : float
        Seconds since the epoch.
    """
    db.executemany(
        "INSERT OR REPLACE INTO sources VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                schema,
                source.key,
                os.fsencode(source.path),
                source.head_hash,
                source.head_bytes,
                source.offset,
                source.tail_hash,
                source.tail_bytes,
                source.checksum,
                source.oversize,
                source.lost_bytes,
                now,
            )
            for source in sources
        ],
    )


def read_sources(db: sqlite3.Connection, schema: int) -> list[Source]:
    """Read the state of all sources of a schema, oldest news first.

    Parameters
    ----------
    db : sqlite3.Connection
    schema : int

    Returns
    -------
    list of Source
    """
    query = """SELECT key, path, head_hash, head_bytes, offset, tail_hash, tail_bytes, checksum, oversize, lost_bytes
               FROM sources WHERE schema = ? ORDER BY seen, key"""
    return [
        Source(
            key=row[0],
            path=os.fsdecode(row[1]),
            head_hash=row[2],
            head_bytes=row[3],
            offset=row[4],
            tail_hash=row[5],
            tail_bytes=row[6],
            checksum=row[7],
            oversize=bool(row[8]),
            lost_bytes=row[9],
        )
        for row in db.execute(query, (schema,))
    ]


def write_files(db: sqlite3.Connection, schema: int, files: Iterable[SourceFile], now: float) -> None:
    """Write the state of files.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    schema : int
    files : iterable of SourceFile
    now : float
        Seconds since the epoch.
    """
    db.executemany(
        "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                schema,
                file.device,
                file.inode,
                file.birth_ns,
                file.source,
                os.fsencode(file.path),
                file.size,
                file.mtime_ns,
                file.ctime_ns,
                file.compressed,
                file.waiting,
                file.gone,
                now,
            )
            for file in files
        ],
    )


def read_files(db: sqlite3.Connection, schema: int) -> list[SourceFile]:
    """Read the state of all files of a schema, oldest news first.

    Parameters
    ----------
    db : sqlite3.Connection
    schema : int

    Returns
    -------
    list of SourceFile
    """
    query = """SELECT device, inode, birth_ns, source, path, size, mtime_ns, ctime_ns, compressed, waiting, gone
               FROM files WHERE schema = ? ORDER BY seen, device, inode, birth_ns"""
    return [
        SourceFile(
            device=row[0],
            inode=row[1],
            birth_ns=row[2],
            source=row[3],
            path=os.fsdecode(row[4]),
            size=row[5],
            mtime_ns=row[6],
            ctime_ns=row[7],
            compressed=bool(row[8]),
            waiting=bool(row[9]),
            gone=bool(row[10]),
        )
        for row in db.execute(query, (schema,))
    ]


def write_quarantined(db: sqlite3.Connection, schema: int, lines: Iterable[Quarantined], kept: int) -> None:
    """Write quarantined lines and let go of all but the latest `kept`.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    schema : int
    lines : iterable of Quarantined
    kept : int
    """
    db.executemany(
        "INSERT INTO quarantine (schema, source, path, offset, reason, line) VALUES (?, ?, ?, ?, ?, ?)",
        [(schema, line.source, os.fsencode(line.path), line.offset, line.reason, line.line) for line in lines],
    )
    # Ids are handed out in order and never again, so that no more rows than this remain.
    db.execute("DELETE FROM quarantine WHERE id <= (SELECT max(id) FROM quarantine) - ?", (kept,))


def read_quarantined(db: sqlite3.Connection, schema: int, limit: int, skip: int) -> list[Quarantined]:
    """Read quarantined lines, the latest first.

    Parameters
    ----------
    db : sqlite3.Connection
    schema : int
    limit, skip : int
        At most `limit` of them after the first `skip`.

    Returns
    -------
    list of Quarantined
    """
    query = """SELECT source, path, offset, reason, line, id FROM quarantine
               WHERE schema = ? ORDER BY id DESC LIMIT ? OFFSET ?"""
    return list(map(_quarantined, db.execute(query, (schema, limit, skip))))


def read_quarantined_after(db: sqlite3.Connection, number: int, limit: int) -> list[Quarantined]:
    """Read quarantined lines of every schema, the earliest first.

    Parameters
    ----------
    db : sqlite3.Connection
    number : int
        Only those with a greater one.
    limit : int

    Returns
    -------
    list of Quarantined
    """
    query = "SELECT source, path, offset, reason, line, id FROM quarantine WHERE id > ? ORDER BY id LIMIT ?"
    return list(map(_quarantined, db.execute(query, (number, limit))))


def release(db: sqlite3.Connection, numbers: Iterable[int]) -> None:
    """Let go of quarantined lines that became samples.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    numbers : iterable of int
    """
    db.executemany("DELETE FROM quarantine WHERE id = ?", [(number,) for number in numbers])


def _quarantined(row: tuple[int, bytes, int, str, bytes, int]) -> Quarantined:
    source, path, offset, reason, line, number = row
    return Quarantined(source, os.fsdecode(path), offset, reason, line, number)


def forget_old_sources(db: sqlite3.Connection, schema: int) -> None:
    """Forget the longest gone files, and sources that neither a file nor a sample refers to, beyond 20,000.

    What was lost of them is kept, added up under the key 0, which no source has.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    schema : int
    """
    db.execute(
        """DELETE FROM files WHERE schema = ?1 AND gone AND (device, inode, birth_ns) IN (
               SELECT device, inode, birth_ns FROM files WHERE schema = ?1 AND gone
               ORDER BY seen DESC LIMIT -1 OFFSET ?2)""",
        (schema, _KEPT_SOURCES),
    )
    old = db.execute(
        """SELECT key, lost_bytes, seen FROM sources WHERE schema = ?1 AND key
           AND key NOT IN (SELECT source FROM files WHERE schema = ?1)
           AND key NOT IN (SELECT source FROM ranges)
           ORDER BY seen DESC LIMIT -1 OFFSET ?2""",
        (schema, _KEPT_SOURCES),
    ).fetchall()
    lost_bytes = sum(row[1] for row in old)
    if lost_bytes:
        db.execute(
            """INSERT INTO sources VALUES (?, 0, x'', x'', 0, 0, x'', 0, 0, 0, ?, ?)
               ON CONFLICT (schema, key) DO UPDATE SET lost_bytes = lost_bytes + excluded.lost_bytes""",
            (schema, lost_bytes, max(row[2] for row in old)),
        )
    db.executemany("DELETE FROM sources WHERE schema = ? AND key = ?", [(schema, row[0]) for row in old])
