"""The rolling window: the newest samples, in the order of time."""

from __future__ import annotations

import math

import numpy as np

from streamtrain.dataset import chunks
from streamtrain.dataset.select import COLUMNS, empty
from streamtrain.dataset.store import Store
from streamtrain.types import Samples


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
    if max_age_s is not None and now is None:
        raise ValueError(f"load the window: max_age_s is {max_age_s:g} but now is missing, expected the current time")
    oldest = -math.inf if max_age_s is None or now is None else now - max_age_s
    with store.snapshot():
        listed = store.chunks()
        times = [store.timestamps(chunk) for chunk in listed]
        masks = chunks.newest(times, count, oldest)
        n = sum(int(mask.sum()) for mask in masks)
        if not n:
            return empty(listed[-1].dim if listed else 0)
        taken = np.concatenate([part[mask] for part, mask in zip(times, masks, strict=True)])
        places = np.empty(n, np.int64)
        places[np.argsort(taken, kind="stable")] = np.arange(n)
        window = empty(listed[-1].dim)
        window = Samples(
            **{name: np.empty((n, *getattr(window, name).shape[1:]), getattr(window, name).dtype) for name in COLUMNS}
        )
        start = 0
        for chunk, mask in zip(listed, masks, strict=True):
            stop = start + int(mask.sum())
            if stop > start:
                part = store.read(chunk)
                for name in COLUMNS:
                    getattr(window, name)[places[start:stop]] = getattr(part, name)[mask]
            start = stop
        return window
