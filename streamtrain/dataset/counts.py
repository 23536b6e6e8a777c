"""Figures of the state database."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from streamtrain.dataset import waiting
from streamtrain.reading import Batch, Committed


@dataclass(frozen=True, slots=True)
class Counts:
    """Figures of the store.

    Attributes
    ----------
    n_samples : int
        Samples held now; the window is taken from these.
    n_total_ingested : int
        Samples ever added; never falls.
    n_lines, n_duplicates, n_quarantined, n_recognised : int
        Lines ever read; of these, those seen before and those that are no samples; files recognised as already read.
    n_waiting : int
        Files whose end is not a complete line yet.
    n_pending : int
        Halves of records that wait for the other half.
    n_unlabelled, n_expired : int
        Outcomes ever read that no label can be made from; halves ever given up.
    n_lost, lost_bytes : int
        Sources that disappeared before they were read to their end, and the bytes known to be missing.
    oldest, newest : float or None
        Range of the timestamps held.
    """

    n_samples: int
    n_total_ingested: int
    n_lines: int
    n_duplicates: int
    n_quarantined: int
    n_recognised: int
    n_waiting: int
    n_pending: int
    n_unlabelled: int
    n_expired: int
    n_lost: int
    lost_bytes: int
    oldest: float | None
    newest: float | None


def count(db: sqlite3.Connection, schema: int) -> Counts:
    """Read the figures of a schema (the totals are of all).

    Parameters
    ----------
    db : sqlite3.Connection
    schema : int

    Returns
    -------
    Counts
    """
    n_lines, n_samples, n_duplicates, n_quarantined, n_recognised, n_unlabelled, n_expired = db.execute(
        """SELECT n_lines, n_samples, n_duplicates, n_quarantined, n_recognised, n_unlabelled, n_expired
           FROM totals"""
    ).fetchone()
    (n_waiting,) = db.execute(
        "SELECT count(*) FROM files WHERE schema = ? AND waiting AND NOT gone", (schema,)
    ).fetchone()
    n_lost, lost_bytes = db.execute(
        "SELECT count(*), coalesce(sum(lost_bytes), 0) FROM sources WHERE schema = ? AND lost_bytes > 0", (schema,)
    ).fetchone()
    n_held, oldest, newest = db.execute(
        "SELECT coalesce(sum(n), 0), min(oldest), max(newest) FROM chunks WHERE schema = ?", (schema,)
    ).fetchone()
    return Counts(
        n_samples=n_held,
        n_total_ingested=n_samples,
        n_lines=n_lines,
        n_duplicates=n_duplicates,
        n_quarantined=n_quarantined,
        n_recognised=n_recognised,
        n_waiting=n_waiting,
        n_pending=waiting.count(db, schema),
        n_unlabelled=n_unlabelled,
        n_expired=n_expired,
        n_lost=n_lost,
        lost_bytes=lost_bytes,
        oldest=oldest,
        newest=newest,
    )


def add_up(db: sqlite3.Connection, batch: Batch, committed: Committed) -> None:
    """Add a batch to the totals.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    batch : Batch
    committed : Committed
    """
    db.execute(
        """UPDATE totals SET n_lines = n_lines + ?, n_samples = n_samples + ?, n_duplicates = n_duplicates + ?,
           n_quarantined = n_quarantined + ?, n_recognised = n_recognised + ?, n_unlabelled = n_unlabelled + ?,
           n_expired = n_expired + ?""",
        (
            batch.n_lines,
            committed.n_samples,
            committed.n_duplicates + batch.n_repeated,
            batch.n_quarantined,
            batch.n_recognised,
            batch.n_unlabelled,
            committed.n_expired,
        ),
    )
