"""What is kept of samples that fell out of the window ↔ the table `reservoirs`.

The samples are one chunk more, under the negative number of their schema. It is written anew whenever samples leave, in
the transaction that drops them. The ranges of the chunks that they came from stay as long as any sample of these does,
so that it is known which bytes of which files the reservoir was drawn from.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamtrain.dataset import chunks
from streamtrain.dataset.chunks import Chunk
from streamtrain.dataset.reservoir import Pool, hold
from streamtrain.dataset.select import concatenate, select
from streamtrain.types import Bools

_ID: Final = "<i8"


@dataclass(frozen=True, slots=True)
class Retained:
    """What is known of it without reading its samples.

    Attributes
    ----------
    chunk : Chunk or None
        None where nothing is kept.
    limits : tuple of int
        As `reservoir.choose` takes them.
    """

    chunk: Chunk | None
    limits: tuple[int, ...]


def read(db: sqlite3.Connection, schema: int, fresh: tuple[int, ...]) -> Retained:
    """List what is kept of a schema.

    Parameters
    ----------
    db : sqlite3.Connection
    schema : int
    fresh : tuple of int
        The limits of a reservoir that has let go of nothing. What was kept for one of another kind is of no use.

    Returns
    -------
    Retained
    """
    row = db.execute("SELECT limits FROM reservoirs WHERE schema = ?", (schema,)).fetchone()
    limits = fresh if row is None else tuple(map(int, json.loads(row[0])))
    if row is None or len(limits) != len(fresh):
        return Retained(None, fresh)
    held = chunks.listed(db, -schema)
    return Retained(held[0] if held else None, limits)


def origins(db: sqlite3.Connection, schema: int) -> list[int]:
    """List the chunks that what is kept came from."""
    numbers: list[int] = np.unique(_origins(db, schema)).tolist()
    return numbers


def take_in(
    db: sqlite3.Connection,
    schema: int,
    size: int,
    fresh: tuple[int, ...],
    leaving: Sequence[tuple[Chunk, Bools]],
) -> None:
    """Keep of samples that leave what a reservoir needs, and let go of what it needs no longer.

    Parameters
    ----------
    db : sqlite3.Connection
        In the transaction that drops them, while they are still there.
    schema : int
    size : int
        Of the reservoir; 0 keeps nothing.
    fresh : tuple of int
        As for `read`.
    leaving : sequence of (Chunk, mask)
    """
    if not size:
        _clear(db, schema)
        db.execute("DELETE FROM reservoirs WHERE schema = ?", (schema,))
        return
    former = read(db, schema, fresh)
    leave = [(chunk, np.flatnonzero(mask)) for chunk, mask in leaving]
    if former.chunk is not None:
        leave.insert(0, (former.chunk, np.arange(former.chunk.n)))
    pools = [rows_of(chunks.candidates(db, chunk), rows) for chunk, rows in leave]
    chosen, limits = hold(together(pools), size, former.limits)
    kept, came_from = [], []
    for (chunk, rows), stays in zip(
        leave, np.split(chosen, np.cumsum([len(rows) for _, rows in leave])[:-1]), strict=True
    ):
        if stays.any():
            kept.append(select(chunks.read(db, chunk), rows[stays]))
            own = chunk is former.chunk
            came_from.append(_origins(db, schema)[stays] if own else np.full(int(stays.sum()), chunk.id, np.int64))
    _clear(db, schema)
    number = chunks.insert(db, -schema, concatenate(kept, leave[0][0].dim)).id if kept else 0
    origins_ = np.concatenate([np.empty(0, np.int64), *came_from]).astype(_ID).tobytes()
    db.execute(
        "INSERT OR REPLACE INTO reservoirs (schema, chunk, limits, origins) VALUES (?, ?, ?, ?)",
        (schema, number, json.dumps(limits), origins_),
    )


def move(db: sqlite3.Connection, schema: int, merged: int, parts: Sequence[int]) -> None:
    """Note that several chunks became one.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    schema : int
    merged : int
        Its id.
    parts : sequence of int
        Theirs.
    """
    came_from = _origins(db, schema)
    moved = np.isin(came_from, parts)
    if moved.any():
        blob = np.where(moved, merged, came_from).astype(_ID).tobytes()
        db.execute("UPDATE reservoirs SET origins = ? WHERE schema = ?", (blob, schema))


def forget_ranges(db: sqlite3.Connection) -> None:
    """Forget the ranges of chunks of which no sample is left.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    """
    kept = {
        number for (schema,) in db.execute("SELECT schema FROM reservoirs").fetchall() for number in origins(db, schema)
    }
    gone = db.execute("SELECT DISTINCT chunk FROM ranges WHERE chunk NOT IN (SELECT id FROM chunks)").fetchall()
    db.executemany("DELETE FROM ranges WHERE chunk = ?", [(number,) for (number,) in gone if number not in kept])


def together(pools: Sequence[Pool]) -> Pool:
    """Join pools in order; at least one."""
    groups, keys, labels = zip(*pools, strict=True)
    return Pool(np.concatenate(groups), np.concatenate(keys), np.concatenate(labels))


def rows_of(pool: Pool, rows: NDArray[np.int64] | Bools) -> Pool:
    """Take some rows of a pool."""
    return Pool(pool.groups[rows], pool.keys[rows], pool.labels[rows])


def _clear(db: sqlite3.Connection, schema: int) -> None:
    chunks.delete(db, chunks.listed(db, -schema))


def _origins(db: sqlite3.Connection, schema: int) -> NDArray[np.int64]:
    """Read the chunk that each kept sample came from."""
    row = db.execute("SELECT origins FROM reservoirs WHERE schema = ?", (schema,)).fetchone()
    return np.frombuffer(b"" if row is None else row[0], _ID)
