"""Which keys are in the window: sorted arrays of 8 bytes a key, and a coarse table before them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from streamtrain.types import U64, Bools

_SLOTS_PER_KEY: Final = 4  # at least: more would no longer fit the cache
_LEAST_BITS: Final = 12


class KeyIndex:
    """A set of keys as a few sorted arrays, each at least twice as long as the next.

    Adding merges the short ones, so that a key is moved O(log n) times, and a look-up searches O(log n) arrays. Most
    look-ups are of new keys and end at a table of booleans, by the keys' upper bits, which are those of hashes.

    Parameters
    ----------
    parts : iterable of uint64 arrays
        Keys to begin with.
    """

    def __init__(self, parts: Iterable[U64] = ()) -> None:
        keys = list(parts)
        self._runs: list[U64] = [np.sort(np.concatenate(keys))] if keys else []
        self._make_table()

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
        fresh = ~self._contains(keys)
        ordered = np.sort(keys)
        if np.any(ordered[1:] == ordered[:-1]):
            first = np.zeros(len(keys), np.bool_)
            first[np.unique(keys, return_index=True)[1]] = True
            fresh &= first
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
        if len(self) * _SLOTS_PER_KEY > len(self._taken):
            self._make_table()
        else:
            self._taken[keys >> self._shift] = True

    def _contains(self, keys: U64) -> Bools:
        found: Bools = self._taken[keys >> self._shift]
        maybe = np.flatnonzero(found)
        if len(maybe):
            some = keys[maybe]
            known = np.zeros(len(some), np.bool_)
            for run in self._runs:
                place = np.searchsorted(run, some)
                place[place == len(run)] = 0
                known |= run[place] == some
            found[maybe] = known
        return found

    def _make_table(self) -> None:
        """Make room for as many keys again."""
        bits = max(_LEAST_BITS, (2 * len(self) * _SLOTS_PER_KEY - 1).bit_length())
        self._shift = np.uint64(64 - bits)
        self._taken = np.zeros(1 << bits, np.bool_)
        for run in self._runs:
            self._taken[run >> self._shift] = True
