"""A class-balanced random sample of the sessions that are no longer recent, so that a rare class is not forgotten.

Bottom-k sampling by a hash of the session (Cohen & Kaplan 2007, "Summarizing data using bottom-k sketches"): of each
class, the sessions with the smallest hashes, so many that they fill its half. Whatever came before or comes after, each
session of a class that ever left the recent part is as likely to be among them as any other, as in Vitter's reservoir
(1985); but the choice depends on nothing except which sessions there are: not on the order or the batches in which they
left, nor on how often it was made. The bottom k of two parts together are the bottom k of their bottom k, so that what
is not among the smallest can be let go of for good.

Without sessions, each sample is its own, and of n samples of a class exactly k are taken, each with probability k/n.
With sessions, one counts with all of its samples or not at all, for the class of one of them that is drawn by hash.
A half that its class cannot fill yet is lent to the other class. Of a session that goes on long after its beginning was
let go of, the rest is drawn as a session of its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtrain.dataset.split import mix
from streamtrain.types import F32, F64, U64, Bools

I64 = NDArray[np.int64]

NO_LIMITS: Final = (1 << 64, 1 << 64)
"""Nothing was let go of."""
_SALT: Final = np.uint64(int.from_bytes(hashlib.blake2b(b"reservoir", digest_size=8).digest(), "little"))
_SPARE: Final = (
    2  # a half as many again are held, so that sessions can be left out and a whole reservoir still be chosen
)
_PARTS: Final = 4  # a session that alone fills more than this part of the reservoir is not taken


class Pool(NamedTuple):
    """Samples to choose from: groups and keys (uint64), labels (float32), each (N,)."""

    groups: U64
    keys: U64
    labels: F32


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen.

    Attributes
    ----------
    rows : bool, (N,)
    weights : float64, (N,)
        One over the probability with which each was chosen (Horvitz & Thompson 1952), from the smallest hash that was
        not; 1 where all of its class were.
    """

    rows: Bools
    weights: F64


def size_of(window: int, share: float) -> int:
    """Say how many samples of a window are a reservoir's: `share` of it, rounded down."""
    return int(window * share)


def choose(pool: Pool, beside: Pool, size: int, limits: tuple[int, int] = NO_LIMITS) -> Choice:
    """Choose a reservoir.

    Parameters
    ----------
    pool : Pool
        Samples that are not recent. Of those that left the store, the ones that `hold` kept are enough. Sessions may be
        left out, by a hash of their own.
    beside : Pool
        Other samples at hand, which are not to choose from, but may belong to the same sessions.
    size : int
        At most so many samples.
    limits : (int, int)
        The least hash of each class that was ever let go of; from there on sessions may be missing.

    Returns
    -------
    Choice
    """
    sessions = _Sessions(pool, beside, size)
    rows = np.zeros(len(pool.groups), np.bool_)
    weights = np.ones(len(pool.groups))
    taken = [sessions.of_class(label, limits[label]) for label in (0, 1)]
    sizes = [int(sessions.sizes[order].sum()) for order in taken]
    halves = (size // 2, size - size // 2)
    for label, order in enumerate(taken):
        room = min(sizes[label], max(halves[label], size - sizes[1 - label]))
        n_taken = int(np.searchsorted(np.cumsum(sessions.sizes[order]), room, side="right"))
        least_left = int(sessions.hashes[order[n_taken]]) if n_taken < len(order) else limits[label]
        of_these = sessions.rows_of(order[:n_taken])
        rows |= of_these
        weights[of_these] = 2.0**64 / max(least_left, 1)
    return Choice(rows, weights)


def hold(pool: Pool, beside: Pool, size: int, limits: tuple[int, int]) -> tuple[Bools, tuple[int, int]]:
    """Find what must be kept of samples that leave, so that `choose` goes on as if nothing had been let go of.

    Parameters
    ----------
    pool : Pool
        What was kept before, and the samples that leave now.
    beside, size, limits
        As for `choose`.

    Returns
    -------
    rows : bool, (N,)
        Of each class, the samples of the smallest hashes: half as many again as the reservoir, and a session more,
        which tells how far they reach.
    limits : (int, int)
        From now on.
    """
    sessions = _Sessions(pool, beside, size)
    rows = np.zeros(len(pool.groups), np.bool_)
    new = list(limits)
    for label in (0, 1):
        order = sessions.of_class(label, limits[label])
        before = np.cumsum(sessions.sizes[order]) - sessions.sizes[order]
        n_kept = int(np.searchsorted(before, size + size // _SPARE, side="right")) if size else 0
        rows |= sessions.rows_of(order[:n_kept])
        if n_kept < len(order):
            new[label] = min(new[label], int(sessions.hashes[order[n_kept]]))
    return rows, (new[0], new[1])


class _Sessions:
    """The sessions of a pool, with the hash, the class and the number of samples of each."""

    def __init__(self, pool: Pool, beside: Pool, size: int) -> None:
        if np.array_equal(pool.groups, pool.keys):  # each sample is its own session
            groups, self._of_row = pool.groups, np.arange(len(pool.groups))
            self.sizes = np.ones(len(groups), np.int64)
            labels = pool.labels
        else:
            groups, self._of_row, self.sizes = np.unique(pool.groups, return_inverse=True, return_counts=True)
            labels = self._drawn_labels(groups, pool, beside)
        self.hashes = mix(mix(groups) ^ _SALT)
        self._classes = labels >= 0.5
        self._fits = self.sizes <= max(1, size // _PARTS)

    def _drawn_labels(self, groups: U64, pool: Pool, beside: Pool) -> F32:
        """Take for each session the label of its sample with the smallest hash of all that are at hand."""
        at = np.minimum(np.searchsorted(groups, beside.groups), max(0, len(groups) - 1))
        same = groups[at] == beside.groups if len(groups) else np.zeros(len(beside.groups), np.bool_)
        sessions = np.concatenate((self._of_row, at[same]))
        keys = np.concatenate((pool.keys, beside.keys[same]))
        labels = np.concatenate((pool.labels, beside.labels[same]))
        order = np.lexsort((mix(keys ^ _SALT), sessions))
        first = np.searchsorted(sessions[order], np.arange(len(groups)))
        return labels[order[first]]

    def of_class(self, label: int, limit: int) -> I64:
        """List the sessions of a class below a limit, the smallest hash first."""
        found = np.flatnonzero(self._fits & (self._classes == bool(label)))
        if limit < 1 << 64:
            found = found[self.hashes[found] < np.uint64(limit)]
        return found[np.argsort(self.hashes[found], kind="stable")]

    def rows_of(self, sessions: I64) -> Bools:
        """Tell which samples belong to some of the sessions."""
        chosen = np.zeros(len(self.hashes), np.bool_)
        chosen[sessions] = True
        return chosen[self._of_row]
