"""The rolling window: the newest samples in the order of time, after a reservoir of older ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from streamtrain.dataset import chunks, reservoir
from streamtrain.dataset.chunks import Chunk
from streamtrain.dataset.reservoir import Pool
from streamtrain.dataset.retained import rows_of, together
from streamtrain.dataset.select import COLUMNS, empty, select
from streamtrain.dataset.store import Store
from streamtrain.types import F32, U64, Bools, Samples


@dataclass(frozen=True, slots=True)
class Window:
    """The window.

    Attributes
    ----------
    samples : Samples
        Sorted by timestamp; ties in the order of reading, within the reservoir by their keys.
    factors : float32, (R,)
        For the first R of them, which are the reservoir: none of them is newer than any of the others. Their weights
        are multiplied by these (`reservoir.tempered`), which undo half of the balancing of classes.
    """

    samples: Samples
    factors: F32 = field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def n_reservoir(self) -> int:
        """How many samples, the first, are the reservoir."""
        return len(self.factors)

    def weighted(self) -> Samples:
        """Return the samples, the weights of the reservoir multiplied by the factors."""
        if not len(self.factors):
            return self.samples
        weights = self.samples.weights.copy()
        weights[: len(self.factors)] *= self.factors
        return replace(self.samples, weights=weights)


def take(
    store: Store,
    count: int,
    share: float = 0.0,
    max_age_s: float | None = None,
    now: float | None = None,
    by_session: bool = False,
    eligible: Callable[[U64], Bools] = lambda groups: np.ones(len(groups), np.bool_),
) -> Window:
    """Take the window out of the store, with a reservoir.

    While everything that was ever read fits into the window, everything is in it and nothing is a reservoir. From then
    on the newest ``(1 - share) * count`` samples are, and of the others a class-balanced random choice. Of these, what
    is older than `max_age_s` is left out, without anything in its place.

    Parameters
    ----------
    store : Store
        Opened with a reservoir of that size, or samples that left it are missing.
    count : int
        At most so many samples.
    share : float
        Of the reservoir, in 0..1.
    max_age_s, now : float, optional
        As for `load`.
    by_session : bool
        The reservoir is one of whole sessions, each as likely as any other, whatever their labels.
    eligible : callable
        Which sessions, by `Samples.groups`, may be in the reservoir; to be told by a hash.

    Returns
    -------
    Window

    Raises
    ------
    ValueError, StoreError
        As `load`.
    """
    oldest = _oldest(max_age_s, now)
    size = reservoir.size_of(count, share)
    with store.snapshot():
        listed, kept = store.chunks(), store.retained(by_session)
        held = () if kept.chunk is None else (kept.chunk,)
        if not size or sum(chunk.n for chunk in (*listed, *held)) <= count:
            return Window(_newest(store, listed, count, oldest))
        recent = chunks.newest([store.timestamps(chunk) for chunk in listed], count - size, oldest)
        sources = [*((chunk, np.zeros(chunk.n, np.bool_)) for chunk in held), *zip(listed, recent, strict=True)]
        pools = [store.candidates(chunk) for chunk, _ in sources]
        older = [np.flatnonzero(~mask & eligible(pool.groups)) for (_, mask), pool in zip(sources, pools, strict=True)]
        choice = reservoir.choose(_rows(pools, older), size, kept.limits)
        edges = np.cumsum([len(rows) for rows in older])[:-1]
        chosen = [rows[mask] for rows, mask in zip(older, np.split(choice.rows, edges), strict=True)]
        drawn = _gathered(store, [chunk for chunk, _ in sources], chosen)
        order = np.lexsort((drawn.keys, drawn.timestamps))
        order = order[drawn.timestamps[order] >= oldest]
        weights = choice.weights[choice.rows][order]
        factors = reservoir.tempered(weights) if len(order) else np.empty(0, np.float32)
        newest = _newest(store, listed, count - size, oldest, select(drawn, order))
        return Window(newest, factors)


def load(store: Store, count: int, max_age_s: float | None = None, now: float | None = None) -> Samples:
    """Take the window out of the store.

    Parameters
    ----------
    store : Store
    count : int
        At most so many samples, the newest by timestamp (of equal times, the last ones read).
    max_age_s : float, optional
        None older than this before `now`, in seconds.
    now : float, optional
        Seconds since the epoch; needed with `max_age_s`.

    Returns
    -------
    Samples
        Sorted by timestamp, ties in the order of reading. Beside them, one chunk at a time is in memory.

    Raises
    ------
    ValueError
        If `max_age_s` comes without `now`.
    StoreError
    """
    oldest = _oldest(max_age_s, now)
    with store.snapshot():
        return _newest(store, store.chunks(), count, oldest)


def _oldest(max_age_s: float | None, now: float | None) -> float:
    if max_age_s is not None and now is None:
        raise ValueError(f"load the window: max_age_s is {max_age_s:g} but now is missing, expected the current time")
    return -math.inf if max_age_s is None or now is None else now - max_age_s


def _newest(store: Store, listed: Sequence[Chunk], count: int, oldest: float, before: Samples | None = None) -> Samples:
    """Take the newest samples, in the order of time, after those of a reservoir."""
    times = [store.timestamps(chunk) for chunk in listed]
    masks = chunks.newest(times, count, oldest)
    dim = listed[-1].dim if listed else 0
    first = 0 if before is None else len(before.keys)
    n = sum(int(mask.sum()) for mask in masks)
    window = _blank(first + n, dim)
    if before is not None:
        for name in COLUMNS:
            getattr(window, name)[:first] = getattr(before, name)
    if not n:
        return window
    taken = np.concatenate([part[mask] for part, mask in zip(times, masks, strict=True)])
    places = np.empty(n, np.int64)
    places[np.argsort(taken, kind="stable")] = first + np.arange(n)
    _fill(window, store, listed, masks, places)
    return window


def _gathered(store: Store, listed: Sequence[Chunk], rows: Sequence[NDArray[np.int64]]) -> Samples:
    """Read rows of chunks, one chunk after the other."""
    n = sum(map(len, rows))
    gathered = _blank(n, listed[-1].dim)
    _fill(gathered, store, listed, rows, np.arange(n))
    return gathered


def _fill(
    target: Samples,
    store: Store,
    listed: Sequence[Chunk],
    rows: Sequence[NDArray[np.int64] | Bools],
    places: NDArray[np.int64],
) -> None:
    """Copy rows of chunks to their places; beside these, one chunk at a time is in memory."""
    start = 0
    for chunk, chosen in zip(listed, rows, strict=True):
        stop = start + (int(chosen.sum()) if chosen.dtype == np.bool_ else len(chosen))
        if stop > start:
            part = store.read(chunk)
            for name in COLUMNS:
                getattr(target, name)[places[start:stop]] = getattr(part, name)[chosen]
        start = stop


def _blank(n: int, dim: int) -> Samples:
    none = empty(dim)
    return Samples(
        **{name: np.empty((n, *getattr(none, name).shape[1:]), getattr(none, name).dtype) for name in COLUMNS}
    )


def _rows(pools: Sequence[Pool], rows: Sequence[NDArray[np.int64]]) -> Pool:
    return together([rows_of(pool, of) for pool, of in zip(pools, rows, strict=True)])
