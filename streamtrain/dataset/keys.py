"""Which keys are in the window: sorted arrays, 8 bytes a key."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from streamtrain.types import U64, Bools


class KeyIndex:
    """A set of keys as a few sorted arrays, each at least twice as long as the next.

    Adding merges the short ones, so that a key is moved O(log n) times, and a look-up searches O(log n) arrays.

    Parameters
    ----------
    parts : iterable of uint64 arrays
        Keys to begin with.
    """

    def __init__(self, parts: Iterable[U64] = ()) -> None:
        keys = list(parts)
        self._runs: list[U64] = [np.sort(np.concatenate(keys))] if keys else []

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def fresh(self, keys: U64) -> Bools:
        """Tell which keys are new, counting the first of several equal ones only.

        Parameters
        ----------
        keys : uint64, (N,)

        Returns
        -------
        bool, (N,)
        """
        ordered = np.sort(keys)
        if not np.any(ordered[1:] == ordered[:-1]) and not np.any(self._contains(ordered)):
            return np.ones(len(keys), np.bool_)
        _, first = np.unique(keys, return_index=True)
        fresh = np.zeros(len(keys), np.bool_)
        fresh[first] = True
        fresh &= ~self._contains(keys)
        return fresh

    def add(self, keys: U64) -> None:
        """Add keys that `fresh` called new.

        Parameters
        ----------
        keys : uint64, (N,)
        """
        if not len(keys):
            return
        self._runs.append(np.sort(keys))
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            last, before = self._runs.pop(), self._runs.pop()
            self._runs.append(np.sort(np.concatenate((before, last)), kind="stable"))

    def _contains(self, keys: U64) -> Bools:
        found = np.zeros(len(keys), np.bool_)
        for run in self._runs:
            place = np.searchsorted(run, keys)
            place[place == len(run)] = 0
            found |= run[place] == keys
        return found
