"""The samples at the end of the store, in the order of reading, and a place in that order that stays what it is.

Chunks are merged and dropped, so neither their ids nor how many samples lie before one is a stable place. The keys of
samples are: each is in the store once. A place is therefore the keys of the last few samples before it, and how many
samples had ever been ingested by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamtrain.dataset.chunks import Chunk
from streamtrain.dataset.select import concatenate, select
from streamtrain.dataset.store import Store
from streamtrain.types import Samples

ANCHORS = 16
"""Keys that a place is known by: the last one would do, were it never dropped from the window."""
CONTEXT = 20_000
"""Samples before a place by which the sessions that go on after it are known."""


@dataclass(frozen=True, slots=True)
class Place:
    """Between two samples, in the order of reading.

    Attributes
    ----------
    n : int
        Samples ever ingested until there.
    anchors : tuple of int
        Keys of the last ones held before it, the latest first.
    """

    n: int = 0
    anchors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """Samples that follow on each other.

    Attributes
    ----------
    samples : Samples
    end : Place
        Behind them.
    context : Samples
        Those just before them.
    """

    samples: Samples
    end: Place
    context: Samples


def end(store: Store) -> Place:
    """Place behind everything that is held."""
    with store.snapshot():
        return Place(store.counts().n_total_ingested, _anchors(store.chunks()))


def after(store: Store, place: Place, limit: int, context: int = 0) -> Piece | None:
    """Read what follows on a place.

    Parameters
    ----------
    store : Store
    place : Place
    limit : int
        At most so many samples.
    context : int
        And so many before the place.

    Returns
    -------
    Piece or None
        None where nothing follows. Samples that were dropped from the window meanwhile are passed over.

    Raises
    ------
    StoreError
    """
    with store.snapshot():
        n_total = store.counts().n_total_ingested
        listed = store.chunks()
        if n_total <= place.n or not listed:
            return None
        n_after = min(_n_after(listed, place), n_total - place.n)
        if not n_after:
            return None
        n_taken = min(limit, n_after)
        rows = _read(store, listed, n_after + context, n_after - n_taken)
        n_before = len(rows.labels) - n_taken
        taken = select(rows, slice(n_before, None))
        keys = rows.keys[::-1][:ANCHORS].tolist()
        # What was dropped lies somewhere before; counted with the last piece, it is with it that the end is reached.
        n = n_total if n_taken == n_after else place.n + n_taken
        return Piece(taken, Place(n, tuple(keys)), select(rows, slice(None, n_before)))


def time_at(store: Store, n: int) -> float | None:
    """Timestamp of the sample before which `n` had ever been ingested; None where it is not held."""
    with store.snapshot():
        left = store.counts().n_total_ingested - n
        for chunk in reversed(store.chunks()):
            if 0 < left <= chunk.n:
                return float(store.timestamps(chunk)[chunk.n - left])
            left -= chunk.n
    return None


def _anchors(listed: Sequence[Chunk]) -> tuple[int, ...]:
    keys: list[int] = []
    for chunk in reversed(listed):
        keys += chunk.keys[::-1][: ANCHORS - len(keys)].tolist()
        if len(keys) >= ANCHORS:
            break
    return tuple(keys)


def _n_after(listed: Sequence[Chunk], place: Place) -> int:
    """How many samples held follow on a place; all of them where nothing before it is held any more."""
    n = 0
    for chunk in reversed(listed):
        found = np.flatnonzero(np.isin(chunk.keys, np.array(place.anchors, np.uint64)))
        if len(found):
            return n + chunk.n - 1 - int(found[-1])
        n += chunk.n
    return n


def _read(store: Store, listed: Sequence[Chunk], start: int, stop: int) -> Samples:
    """Read the samples from the `start`-th to the `stop`-th before the end, as far as they are held."""
    parts: list[Samples] = []
    n = 0
    for chunk in reversed(listed):
        first, last = max(0, chunk.n - (start - n)), chunk.n - max(0, stop - n)
        if last > first:
            parts.append(select(store.read(chunk), slice(first, last)))
        n += chunk.n
        if n >= start:
            break
    return concatenate(parts[::-1], listed[-1].dim)
