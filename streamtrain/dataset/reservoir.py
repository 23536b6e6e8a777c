"""A random sample of what is no longer recent, balanced by class, so that a rare class is not forgotten.

Bottom-k sampling by a hash of the sample's key (Cohen & Kaplan 2007, "Summarizing data using bottom-k sketches"): of
each class, the k samples with the smallest hashes. Whatever came before or comes after, each of the n samples of a
class that ever left the recent part is among them with probability k/n, as in Vitter's reservoir (1985); but the choice
depends on nothing except which samples there are: not on the order or the batches in which they left, nor on how often
it was made. The bottom k of two parts together are the bottom k of their bottom k, so that what is not among the
smallest can be let go of for good. A half that its class cannot fill yet is lent to the other class.

By session (for models that are trained on sequences) the hash is that of the session, which is taken with all of its
samples or not at all, and each as likely as any other; then classes are not balanced, because a session has no class.
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

_NO_LIMIT: Final = 1 << 64
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


def no_limits(by_session: bool) -> tuple[int, ...]:
    """Return the limits where nothing was let go of: one for each class, by session one."""
    return (_NO_LIMIT,) if by_session else (_NO_LIMIT, _NO_LIMIT)


def choose(pool: Pool, size: int, limits: tuple[int, ...] = no_limits(False)) -> Choice:
    """Choose a reservoir.

    Parameters
    ----------
    pool : Pool
        Samples that are not recent. Of those that left the store, the ones that `hold` kept are enough. Sessions may be
        left out, by a hash of their own.
    size : int
        At most so many samples.
    limits : tuple of int
        The least hash of each class that was ever let go of, from where on samples may be missing; one limit alone
        means that whole sessions are chosen.

    Returns
    -------
    Choice
    """
    units = _Units(pool, size, by_session=len(limits) == 1)
    rows = np.zeros(len(pool.groups), np.bool_)
    weights = np.ones(len(pool.groups))
    orders = [units.below(label, limit) for label, limit in enumerate(limits)]
    sizes = [int(units.sizes[order].sum()) for order in orders]
    for label, (order, limit) in enumerate(zip(orders, limits, strict=True)):
        # The second of two halves is the larger one of an odd size.
        half = (size + label) // len(limits)
        room = min(sizes[label], max(half, size - (sum(sizes) - sizes[label])))
        n_taken = int(np.searchsorted(np.cumsum(units.sizes[order]), room, side="right"))
        least_left = int(units.hashes[order[n_taken]]) if n_taken < len(order) else limit
        of_these = units.rows_of(order[:n_taken])
        rows |= of_these
        weights[of_these] = 2.0**64 / max(least_left, 1)
    return Choice(rows, weights)


def tempered(weights: F64) -> F32:
    """Weigh the samples of a reservoir: by the square root of what would undo the balancing of classes.

    As they are, the weights of `choose` would give each class its true share again: probabilities stay right, but of a
    class that has nearly died out hardly anything is left to learn from. Without any, the model takes the rare class
    for commoner than it is. Between the two (measured by `bench/reservoir.py`), the log loss of what comes next hardly
    rises, and the rare class is not forgotten.

    Parameters
    ----------
    weights : float64, (N,)
        Of those that were chosen.

    Returns
    -------
    float32, (N,)
        Of mean 1.
    """
    roots = np.sqrt(weights)
    return np.asarray(roots / max(float(roots.mean()), 1e-300) if len(roots) else roots, np.float32)


def hold(pool: Pool, size: int, limits: tuple[int, ...]) -> tuple[Bools, tuple[int, ...]]:
    """Find what must be kept of samples that leave, so that `choose` goes on as if nothing had been let go of.

    Parameters
    ----------
    pool : Pool
        What was kept before, and the samples that leave now.
    size, limits
        As for `choose`.

    Returns
    -------
    rows : bool, (N,)
        Of each class, the samples of the smallest hashes: half as many again as the reservoir, and one more, which
        tells how far they reach.
    limits : tuple of int
        From now on.
    """
    units = _Units(pool, size, by_session=len(limits) == 1)
    rows = np.zeros(len(pool.groups), np.bool_)
    reached = []
    for label, limit in enumerate(limits):
        order = units.below(label, limit)
        before = np.cumsum(units.sizes[order]) - units.sizes[order]
        n_kept = int(np.searchsorted(before, size + size // _SPARE, side="right")) if size else 0
        rows |= units.rows_of(order[:n_kept])
        reached.append(min(limit, int(units.hashes[order[n_kept]])) if n_kept < len(order) else limit)
    return rows, tuple(reached)


class _Units:
    """What is chosen or not as one, samples or sessions: hash, class and number of samples of each."""

    def __init__(self, pool: Pool, size: int, by_session: bool) -> None:
        if by_session:
            units, self._of_row, self.sizes = np.unique(pool.groups, return_inverse=True, return_counts=True)
            self._classes = np.zeros(len(units), np.int64)
        else:
            units, self._of_row = pool.keys, np.arange(len(pool.keys))
            self.sizes = np.ones(len(units), np.int64)
            self._classes = (pool.labels >= 0.5).astype(np.int64)
        self.hashes = mix(mix(units) ^ _SALT)
        self._fits = self.sizes <= max(1, size // _PARTS)

    def below(self, label: int, limit: int) -> I64:
        """List the units of a class below a limit, the smallest hash first."""
        found = np.flatnonzero(self._fits & (self._classes == label))
        if limit < _NO_LIMIT:
            found = found[self.hashes[found] < np.uint64(limit)]
        return found[np.argsort(self.hashes[found], kind="stable")]

    def rows_of(self, units: I64) -> Bools:
        """Tell which samples belong to some of the units."""
        chosen = np.zeros(len(self.hashes), np.bool_)
        chosen[units] = True
        return chosen[self._of_row]
