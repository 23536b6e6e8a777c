"""Samples ↔ rows of the table `chunks`: arrays by the thousand, so that the database never holds a row per sample."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamtrain.dataset.reservoir import Pool
from streamtrain.dataset.select import concatenate, select
from streamtrain.types import F64, U64, Bools, Samples

# In the order of the table's columns.
_KINDS: Final = {
    "keys": "<u8",
    "timestamps": "<f8",
    "labels": "<f4",
    "groups": "<u8",
    "weights": "<f4",
    "teachers": "<f4",
    "propensities": "<f4",
    "slices": "<u8",
    "features": "<f4",
}
_MERGED: Final = 16  # so many small chunks in a row become one
_SMALL_BYTES: Final = (16 << 10, 256 << 10)  # what counts as small; a sample is rewritten about once for each


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is known of a chunk without reading its samples.

    Attributes
    ----------
    id : int
        Grows in the order of reading.
    n, dim : int
        Number of samples and features.
    oldest, newest : float
        Range of their timestamps.
    keys : uint64, (n,)
    """

    id: int
    n: int
    dim: int
    oldest: float
    newest: float
    keys: U64

    @property
    def n_bytes(self) -> int:
        """About how long its row is."""
        return self.n * (20 + 4 * self.dim)


def listed(db: sqlite3.Connection, schema: int) -> list[Chunk]:
    """List the chunks of a schema in the order of reading.

    Parameters
    ----------
    db : sqlite3.Connection
    schema : int

    Returns
    -------
    list of Chunk
    """
    query = "SELECT id, n, dim, oldest, newest, keys FROM chunks WHERE schema = ? ORDER BY id"
    return [
        Chunk(id_, n, dim, oldest, newest_, np.frombuffer(keys, "<u8"))
        for id_, n, dim, oldest, newest_, keys in db.execute(query, (schema,))
    ]


def insert(db: sqlite3.Connection, schema: int, samples: Samples) -> Chunk:
    """Write a chunk.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    schema : int
    samples : Samples
        At least one.

    Returns
    -------
    Chunk
    """
    usual = {
        "groups": np.array_equal(samples.groups, samples.keys),
        "weights": bool(np.all(samples.weights == 1.0)),
        "teachers": bool(np.all(np.isnan(samples.teachers))),
        "propensities": bool(np.all(np.isnan(samples.propensities))),
        "slices": not samples.slices.any(),
    }
    blobs = [
        None if usual.get(name) else np.ascontiguousarray(getattr(samples, name), kind).reshape(-1).view(np.uint8)
        for name, kind in _KINDS.items()
    ]
    n, dim = samples.features.shape
    oldest, newest = float(samples.timestamps.min()), float(samples.timestamps.max())
    row = db.execute(
        """INSERT INTO chunks (schema, n, dim, oldest, newest,
               keys, timestamps, labels, groups, weights, teachers, propensities, slices, features)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (schema, n, dim, oldest, newest, *blobs),
    )
    return Chunk(int(row.lastrowid or 0), n, dim, oldest, newest, samples.keys.copy())


def read(db: sqlite3.Connection, chunk: Chunk) -> Samples:
    """Read a chunk's samples.

    Parameters
    ----------
    db : sqlite3.Connection
    chunk : Chunk

    Returns
    -------
    Samples
        Read-only views of the row.
    """
    row = db.execute(
        """SELECT keys, timestamps, labels, groups, weights, teachers, propensities, slices, features
           FROM chunks WHERE id = ?""",
        (chunk.id,),
    ).fetchone()
    columns: dict[str, NDArray[Any]] = {
        name: np.frombuffer(value, kind)
        for (name, kind), value in zip(_KINDS.items(), row, strict=True)
        if value is not None
    }
    columns.setdefault("groups", columns["keys"])
    columns.setdefault("weights", np.ones(chunk.n, np.float32))
    columns.setdefault("teachers", np.full(chunk.n, np.nan, np.float32))
    columns.setdefault("propensities", np.full(chunk.n, np.nan, np.float32))
    columns.setdefault("slices", np.zeros(chunk.n, np.uint64))
    columns["features"] = columns["features"].reshape(chunk.n, chunk.dim)
    return Samples(**columns)


def timestamps(db: sqlite3.Connection, chunk: Chunk) -> F64:
    """Read a chunk's timestamps only.

    Parameters
    ----------
    db : sqlite3.Connection
    chunk : Chunk

    Returns
    -------
    float64, (n,)
    """
    return np.frombuffer(db.execute("SELECT timestamps FROM chunks WHERE id = ?", (chunk.id,)).fetchone()[0], "<f8")


def candidates(db: sqlite3.Connection, chunk: Chunk) -> Pool:
    """Read what of a chunk's samples decides about a reservoir, without their features.

    Parameters
    ----------
    db : sqlite3.Connection
    chunk : Chunk

    Returns
    -------
    Pool
    """
    labels, groups = db.execute("SELECT labels, groups FROM chunks WHERE id = ?", (chunk.id,)).fetchone()
    return Pool(
        chunk.keys if groups is None else np.frombuffer(groups, "<u8"), chunk.keys, np.frombuffer(labels, "<f4")
    )


def delete(db: sqlite3.Connection, chunks: Iterable[Chunk]) -> None:
    """Delete chunks; the ranges they came from stay, for whoever keeps some of their samples.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    chunks : iterable of Chunk
    """
    db.executemany("DELETE FROM chunks WHERE id = ?", [(chunk.id,) for chunk in chunks])


def merge_small(
    db: sqlite3.Connection,
    schema: int,
    chunks: Sequence[Chunk],
    on_merge: Callable[[int, Sequence[int]], None] = lambda merged, parts: None,
) -> list[Chunk]:
    """Merge small chunks at the end of the list once there are many; big ones are never rewritten.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    schema : int
    chunks : sequence of Chunk
        All of the schema, in the order of reading.
    on_merge : callable
        Told of the id that several became.

    Returns
    -------
    list of Chunk
        All of the schema afterwards.
    """
    remaining = list(chunks)
    for limit in _SMALL_BYTES:
        n_small = 0
        while n_small < len(remaining) and remaining[-1 - n_small].n_bytes < limit:
            n_small += 1
        if n_small >= _MERGED:
            small = remaining[-n_small:]
            merged = insert(db, schema, concatenate([read(db, chunk) for chunk in small], small[0].dim))
            moved = [(merged.id, chunk.id) for chunk in small]
            db.executemany("UPDATE ranges SET chunk = ? WHERE chunk = ?", moved)
            delete(db, small)
            _join_ranges(db, merged.id)
            on_merge(merged.id, [chunk.id for chunk in small])
            remaining[-n_small:] = [merged]
    return remaining


def keep_newest(
    db: sqlite3.Connection,
    schema: int,
    chunks: Sequence[Chunk],
    count: int,
    older_than: float,
    let_go: Callable[[Sequence[tuple[Chunk, Bools]]], None] = lambda leaving: None,
) -> list[Chunk]:
    """Drop the chunks of which nothing is among the newest `count` samples, nor newer than `older_than`.

    Chunks that are partly inside are rewritten only when those that remain hold more than twice `count`.

    Parameters
    ----------
    db : sqlite3.Connection
        In a transaction.
    schema : int
    chunks : sequence of Chunk
        All of the schema.
    count : int
    older_than : float
        Seconds since the epoch.
    let_go : callable
        Told which samples of which chunks go, while they are still there.

    Returns
    -------
    list of Chunk
        All of the schema afterwards.
    """
    times = [timestamps(db, chunk) for chunk in chunks]
    chosen = newest(times, count, older_than)
    remaining: list[Chunk] = []
    gone: list[Chunk] = []
    for chunk, mask in zip(chunks, chosen, strict=True):
        (remaining if mask.any() else gone).append(chunk)
    masks = {chunk.id: mask for chunk, mask in zip(chunks, chosen, strict=True)}
    whole = sum(chunk.n for chunk in remaining) <= 2 * count
    leaving = [(chunk, ~masks[chunk.id]) for chunk in (gone if whole else chunks) if not masks[chunk.id].all()]
    if leaving:
        let_go(leaving)
    if not whole:
        cut: list[Chunk] = []
        for chunk in remaining:
            mask = masks[chunk.id]
            if mask.all():
                cut.append(chunk)
                continue
            # Not a new row: ids tell the order of reading.
            kept = insert(db, schema, select(read(db, chunk), mask))
            db.execute("DELETE FROM chunks WHERE id = ?", (chunk.id,))
            db.execute("UPDATE chunks SET id = ? WHERE id = ?", (chunk.id, kept.id))
            cut.append(Chunk(chunk.id, kept.n, kept.dim, kept.oldest, kept.newest, kept.keys))
        remaining = cut
    delete(db, gone)
    return remaining


def newest(times: Sequence[F64], count: int, older_than: float) -> list[NDArray[np.bool_]]:
    """Choose the newest `count` samples that are at least as new as `older_than`; of equal times, the last ones read.

    Parameters
    ----------
    times : sequence of float64 arrays
        Timestamps of each chunk, in the order of reading.
    count : int
    older_than : float

    Returns
    -------
    list of bool arrays
        A mask for each chunk.
    """
    everything = np.concatenate(times) if times else np.empty(0)
    mask = everything >= older_than
    if int(mask.sum()) > count:
        order = np.argsort(everything, kind="stable")
        mask[order[: len(order) - count]] = False
    edges = np.cumsum([len(part) for part in times])[:-1]
    return np.split(mask, edges) if times else []


def _join_ranges(db: sqlite3.Connection, chunk: int) -> None:
    """Join ranges of one chunk that meet."""
    joined: list[list[int]] = []
    query = "SELECT source, start, stop FROM ranges WHERE chunk = ? ORDER BY source, start"
    n_before = 0
    for source, start, stop in db.execute(query, (chunk,)):
        n_before += 1
        if joined and joined[-1][0] == source and joined[-1][2] >= start:
            joined[-1][2] = max(joined[-1][2], stop)
        else:
            joined.append([source, start, stop])
    if len(joined) < n_before:
        db.execute("DELETE FROM ranges WHERE chunk = ?", (chunk,))
        db.executemany("INSERT INTO ranges VALUES (?, ?, ?, ?)", [(chunk, *range_) for range_ in joined])
