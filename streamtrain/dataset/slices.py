"""Names of slices ↔ rows of the table `slices`: a bounded number, those read last."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

_MOST: Final = 1000
_CHARACTERS: Final = 200
_SIGN: Final = 1 << 63  # the database has signed numbers only


def write(db: sqlite3.Connection, schema: int, names: Mapping[int, str], now: float) -> None:
    """Write names of slices, and let go of those that were not read for longest.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    schema : int
    names : mapping of int to str
        By the slice's hash, as in `Samples.slices`.
    now : float
        Seconds since the epoch.
    """
    if not names:
        return
    db.executemany(
        """INSERT INTO slices (schema, hash, seen, name) VALUES (?, ?, ?, ?)
           ON CONFLICT (schema, hash) DO UPDATE SET seen = excluded.seen""",
        [(schema, _signed(hash_), now, name[:_CHARACTERS]) for hash_, name in names.items()],
    )
    db.execute(
        """DELETE FROM slices WHERE schema = ?1 AND hash IN (
               SELECT hash FROM slices WHERE schema = ?1 ORDER BY seen DESC, hash LIMIT -1 OFFSET ?2)""",
        (schema, _MOST),
    )


def read(db: sqlite3.Connection, schema: int) -> Mapping[int, str]:
    """Read the names of the slices of a schema.

    Parameters
    ----------
    db : sqlite3.Connection
    schema : int

    Returns
    -------
    mapping of int to str
        As they stood in the logs: to be escaped wherever they are shown.
    """
    query = "SELECT hash, name FROM slices WHERE schema = ? ORDER BY hash"
    return {hash_ % (2 * _SIGN): name for hash_, name in db.execute(query, (schema,))}


def _signed(hash_: int) -> int:
    return hash_ - 2 * _SIGN if hash_ >= _SIGN else hash_
