"""How often the holdout was used already, and how much stricter that makes the next judgement.

A candidate of no value gets past a test at 95 % confidence in one of twenty tries. A daemon tries at every cycle, and
most of its holdout is the same from one to the next: without a budget, repetition alone would get anything published.

Why a budget that is spent (alpha spending), and what it is that is spent:

- What comes back from a judgement to the next training is one bit: published or not. While nothing was published that
  bit has told nothing, so the candidates so far are as good as chosen before the holdout was looked at; the chance that
  any of them passes wrongly is then at most the sum of the chances of each (Bonferroni). That a refusal tells nothing
  is the idea of the Ladder (Blum and Hardt 2015). Its remedy, to tell only of gains above a step, guards the value of a
  published score; here the score trains nothing. `versus` asks for a least gain all the same, for another reason.
- Thresholdout (Dwork et al. 2015) answers many more and freely chosen questions, for noise added to each answer. That
  makes verdicts random, wants holdouts far larger than the hundreds that a log starts with, and buys nothing where one
  bit a cycle comes back.
- So each use gets a part of what may go wrong: the k-th use gets ``2 / (k (k + 1))`` of it. The first use gets all
  that `gate.confidence` leaves, and all uses together, without end, get twice as much (the sum telescopes).

The holdout rolls: sessions arrive, old ones leave. A use counts by the share of today's samples that it looked at, so
that k is ``1 + the mean, over today's holdout samples, of how often each was used before``. Where the window turns over
between two cycles, k stays at 1; where nothing new arrives, it is the number of uses.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamtrain.types import F32, U64, Bools

MOST_KEPT = 8192
"""Samples whose uses are remembered. Of a larger holdout it is those with the smallest keys: keys are hashes, so that
they are a fair sample, and the same ones at the next cycle."""


def allowance(uses: float) -> float:
    """Return which part of the chance to err goes to a use: ``2 / (k (k + 1))``, all of it to the first.

    Parameters
    ----------
    uses : float
        k ≥ 1: this use, and those before by how much of today's holdout they saw.
    """
    return 2.0 / (uses * (uses + 1.0))


def confidence_after(confidence: float, uses: float) -> float:
    """Return the confidence that a use needs so that all uses of a holdout keep to the given one."""
    return 1.0 - (1.0 - confidence) * allowance(uses)


@dataclass(frozen=True, slots=True)
class HoldoutUses:
    """How often each of (a sample of) the holdout's samples was used.

    Attributes
    ----------
    keys : uint64, (M,)
        Of samples, in ascending order.
    counts : float32, (M,)
        Uses of each. Not whole where a sample was not among those remembered before.
    limit : int
        Only samples with keys below it are remembered.
    """

    keys: U64
    counts: F32
    limit: int = 2**64

    @classmethod
    def none(cls) -> HoldoutUses:
        """Nothing was used yet."""
        return cls(np.empty(0, np.uint64), np.empty(0, np.float32))

    @classmethod
    def from_json(cls, value: object) -> HoldoutUses:
        """Read what `to_json` returned; anything else is nothing used yet."""
        if not isinstance(value, Mapping):
            return cls.none()
        try:
            keys = np.frombuffer(base64.b64decode(value["keys"], validate=True), "<u8").astype(np.uint64)
            counts = np.frombuffer(base64.b64decode(value["counts"], validate=True), "<f4").astype(np.float32)
            limit = int(value["limit"])
        except (KeyError, TypeError, ValueError, binascii.Error):
            return cls.none()
        sound = len(keys) == len(counts) and bool(np.isfinite(counts).all() and (counts >= 0).all())
        return cls(keys, counts, limit) if sound and bool((keys[1:] > keys[:-1]).all()) else cls.none()

    def to_json(self) -> dict[str, object]:
        """Return it as JSON values: about 16 bytes a sample."""
        return {
            "keys": base64.b64encode(self.keys.astype("<u8").tobytes()).decode(),
            "counts": base64.b64encode(self.counts.astype("<f4").tobytes()).decode(),
            "limit": self.limit,
        }

    def of(self, keys: U64) -> float:
        """Return the number of uses k that a use of the samples with these keys would be, itself included.

        Parameters
        ----------
        keys : uint64, (N,)
            Of the holdout, in any order.
        """
        chosen, _ = _remembered(keys)
        known, counts = self._look_up(chosen)
        return 1.0 + (float(counts[known].mean()) if known.any() else 0.0)

    def after(self, keys: U64, holdout: U64 | None = None) -> HoldoutUses:
        """Return what is to be remembered once the samples with these keys have been used.

        Parameters
        ----------
        keys : uint64, (N,)
        holdout : uint64, (M,), optional
            All samples of today's holdout, where only a part of it was used; those that left it are forgotten.
        """
        chosen, limit = _remembered(keys if holdout is None else holdout)
        known, counts = self._look_up(chosen)
        # Of samples that were not remembered before, the others tell how many uses to expect.
        counts[~known] = counts[known].mean() if known.any() else 0.0
        counts[np.isin(chosen, keys)] += np.float32(1.0)
        return HoldoutUses(chosen, counts, limit)

    def _look_up(self, keys: U64) -> tuple[Bools, F32]:
        """Tell which keys would be remembered if they had been used, and how often each was."""
        counts = np.zeros(len(keys), np.float32)
        if len(self.keys):
            places = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
            found = self.keys[places] == keys
            counts[found] = self.counts[places[found]]
        known = np.array(keys <= np.uint64(self.limit - 1), np.bool_)
        return known, counts


def _remembered(keys: U64) -> tuple[U64, int]:
    """Choose the keys to remember, and the limit that all of them, and no others, are below."""
    ordered = np.unique(keys)
    if len(ordered) <= MOST_KEPT:
        return ordered, 2**64
    return ordered[:MOST_KEPT], int(ordered[MOST_KEPT])
