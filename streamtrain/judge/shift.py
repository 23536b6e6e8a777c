"""Do the features of requests still look like those that the champion learned from? The population stability index.

``PSI = Σ_b (p_b - q_b) ln(p_b / q_b)`` over bins b of a feature, with p of the requests now and q of the champion's
training samples: the symmetrised divergence of Kullback and Leibler 1951 ("Jeffreys' divergence"), in credit scoring
under this name (Siddiqi 2006: above 0.25 is a shift). Between equal distributions it has, times the number of samples,
about a χ² distribution with one degree of freedom less than there are bins (Yurdakul and Naranjo 2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from streamtrain.types import F32, F64, U64

BINS = 10
ROWS = 10_000
"""Rows that a reference is made from at most, evenly spread: more would only cost time."""
BLOCK = 1000
"""Samples that are compared at a time."""
CHANCE = 1e-7
"""Chance that a feature which did not shift is above the bound in a block: divided by the number of features, it leaves
one false alarm in ten billion samples. That the approximation is rough out there is what it is so small for."""
_LEAST = 1e-3  # a share counted as nothing would be infinitely far from any other

Counted = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reference:
    """How the features of training samples are distributed.

    Attributes
    ----------
    edges : tuple of tuples of float
        Of each feature, the inner edges between its bins, growing; a feature of few values has fewer.
    shares : tuple of tuples of float
        Of each feature, the share of samples in each bin, one more than edges.
    """

    edges: tuple[tuple[float, ...], ...]
    shares: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, features: F32) -> Self:
        """Cut the values of each feature at their deciles.

        Parameters
        ----------
        features : float32, (N, D)
        """
        step = max(1, -(-len(features) // ROWS))
        rows = features[::step]
        edges, shares = [], []
        for column in np.ascontiguousarray(rows.T):
            ordered = np.sort(column)
            inner = np.unique(ordered[[len(ordered) * k // BINS for k in range(1, BINS)]])
            inner = inner[inner > ordered[0]]
            if not len(inner):
                # Nearly all are the least: that value has a bin of its own, and what is below and above it another.
                inner = np.array([ordered[0], np.nextafter(ordered[0], np.float32(np.inf))], column.dtype)
            edges.append(tuple(inner.tolist()))
            counts = np.bincount(np.searchsorted(inner, column, "right"), minlength=len(inner) + 1)
            shares.append(tuple((counts / len(column)).round(6).tolist()))
        return cls(tuple(edges), tuple(shares))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"edges": self.edges, "shares": self.shares}

    @classmethod
    def from_json(cls, value: object, n_features: int) -> Self | None:
        """Read what `to_json` made; None of anything else."""
        if not isinstance(value, Mapping):
            return None
        try:
            edges, shares = (tuple(tuple(float(x) for x in row) for row in value[key]) for key in ("edges", "shares"))
        except (KeyError, TypeError, ValueError):
            return None
        fits = len(edges) == len(shares) == n_features
        fits = fits and all(len(a) + 1 == len(b) for a, b in zip(edges, shares, strict=True))
        return cls(edges, shares) if fits else None


class Shift:
    """Compares block after block of requests with a reference.

    Parameters
    ----------
    reference : Reference
    threshold : float
        PSI that is called a shift, beside what chance alone makes of it.
    name : str
        Whose reference it is.

    Attributes
    ----------
    psi : float64, (D,)
        Of the last whole block.
    statistic : float
        The largest of them, as a share of the bound that makes it an alarm.
    """

    def __init__(self, reference: Reference, threshold: float, name: str = "") -> None:
        self._reference, self._threshold, self._name = reference, threshold, name
        d = len(reference.edges)
        self._counts: Counted = np.zeros((d, BINS), np.int64)
        self._sessions: set[int] = set()
        self._n = 0
        self.psi: F64 = np.zeros(d)
        self.statistic = 0.0

    @property
    def room(self) -> int:
        """Samples until the block is whole."""
        return BLOCK - self._n

    def add(self, features: F32, sessions: U64) -> bool:
        """Take at most `room` samples in.

        Parameters
        ----------
        features : float32, (N, D)
        sessions : uint64, (N,)
            Requests of one session look alike: what counts as one in judging what is chance.

        Returns
        -------
        bool
            Whether a block became whole in which a feature has shifted, and in the one before none had.
        """
        for d, edges in enumerate(self._reference.edges):
            bins = np.searchsorted(np.array(edges, np.float32), features[:, d], "right")
            self._counts[d] += np.bincount(bins, minlength=BINS)
        self._sessions.update(sessions.tolist())
        self._n += len(features)
        if self._n < BLOCK:
            return False
        before = self.statistic
        self.psi = np.array([_psi(self._counts[d], shares) for d, shares in enumerate(self._reference.shares)])
        self.statistic = float(self.psi.max(initial=0.0)) / self.bound(len(self._sessions))
        self._counts[:] = 0
        self._sessions.clear()
        self._n = 0
        return self.statistic > 1.0 >= before

    def bound(self, n: int) -> float:
        """PSI that is an alarm in a block of so many sessions."""
        return self._threshold + _chi_square(CHANCE / max(1, len(self.psi)), BINS - 1) / max(1, n)

    def state(self) -> dict[str, Any]:
        """All that the next samples depend on, as JSON values."""
        return {
            "of": self._name,
            "counts": self._counts.tolist(),
            "sessions": sorted(self._sessions),
            "n": self._n,
            "psi": self.psi.tolist(),
            "statistic": self.statistic,
        }

    def resume(self, state: dict[str, Any]) -> Self:
        """Go on from a `state`; against another reference, with a new block."""
        if state["of"] == self._name:
            self._counts, self._n = np.array(state["counts"], np.int64), state["n"]
            self._sessions = {int(one) for one in state["sessions"]}
        self.psi, self.statistic = np.array(state["psi"], np.float64), state["statistic"]
        return self


def _psi(counts: Counted, shares: tuple[float, ...]) -> float:
    now = np.maximum(counts[: len(shares)] / counts.sum(), _LEAST)
    then = np.maximum(shares, _LEAST)
    return float(((now - then) * np.log(now / then)).sum())


def _chi_square(chance: float, degrees: int) -> float:
    """Return the value that a χ² variable exceeds with this chance (Wilson and Hilferty 1931)."""
    z = -NormalDist().inv_cdf(chance)
    part = 2.0 / (9.0 * degrees)
    return float(degrees * math.pow(1.0 - part + z * math.sqrt(part), 3))
