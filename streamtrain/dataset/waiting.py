"""Records that come in two lines ↔ rows of the table `pending`: what waits, for how long, and how much of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from streamtrain.reading import Bound, Pending


def read(db: sqlite3.Connection, schema: int, keys: Iterable[int]) -> Mapping[int, bytes]:
    """Read what is kept of some keys.

    Parameters
    ----------
    db : sqlite3.Connection
    schema : int
    keys : iterable of int

    Returns
    -------
    mapping of int to bytes
        Without those of which nothing is kept.
    """
    found = {}
    for key in keys:
        row = db.execute("SELECT record FROM pending WHERE schema = ? AND key = ?", (schema, key)).fetchone()
        if row is not None:
            found[key] = bytes(row[0])
    return found


def write(db: sqlite3.Connection, schema: int, pending: Iterable[Pending], now: float) -> None:
    """Write the state of keys.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    schema : int
    pending : iterable of Pending
    now : float
        Seconds since the epoch; they are waited for from here on.
    """
    db.executemany(
        """INSERT INTO pending (schema, key, waiting, seen, record) VALUES (?, ?, ?, ?, ?)
           ON CONFLICT (schema, key) DO UPDATE
           SET waiting = excluded.waiting, seen = excluded.seen, record = excluded.record""",
        [(schema, one.key, one.waiting, now, one.record) for one in pending],
    )


def expire(db: sqlite3.Connection, schema: int, bound: Bound, now: float) -> int:
    """Give up what waited too long, and what is too many; of those that were joined, forget as much.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    schema : int
    bound : Bound
    now : float
        Seconds since the epoch.

    Returns
    -------
    int
        How many were given up that were still waiting.
    """
    n_expired = 0
    for waiting in (True, False):
        row = (schema, waiting)
        gone = db.execute(
            "DELETE FROM pending WHERE schema = ? AND waiting = ? AND seen < ?", (*row, now - bound.max_age_s)
        ).rowcount
        n_more = count(db, schema, waiting) - bound.max_pending
        if n_more > 0:
            gone += db.execute(
                """DELETE FROM pending WHERE rowid IN (
                       SELECT rowid FROM pending WHERE schema = ? AND waiting = ? ORDER BY seen, rowid LIMIT ?)""",
                (*row, n_more),
            ).rowcount
        n_expired += gone if waiting else 0
    return n_expired


def count(db: sqlite3.Connection, schema: int, waiting: bool = True) -> int:
    """Count the keys that wait (or those that were joined and are remembered).

    Parameters
    ----------
    db : sqlite3.Connection
    schema : int
    waiting : bool

    Returns
    -------
    int
    """
    query = "SELECT count(*) FROM pending WHERE schema = ? AND waiting = ?"
    return int(db.execute(query, (schema, waiting)).fetchone()[0])


def since(db: sqlite3.Connection, schema: int) -> float | None:
    """Tell when the key that has waited longest last changed; None where none waits.

    Parameters
    ----------
    db : sqlite3.Connection
    schema : int

    Returns
    -------
    float or None
        Seconds since the epoch.
    """
    query = "SELECT min(seen) FROM pending WHERE schema = ? AND waiting = 1"
    found: float | None = db.execute(query, (schema,)).fetchone()[0]
    return found
