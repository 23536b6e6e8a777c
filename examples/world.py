"""The world that the demo's traffic comes from: requests, and whether the lightweight model would do for each.

Two laws of nature, one before and one after the lightweight model is swapped for a weaker one behind the same name.
Both are noisy: knowing the law exactly, one routes 91 % of the requests right; always giving the commoner answer
gets 62 % before the swap and 58 % after it, and a model of the first law is right half of the time after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEATURES = ("similarity_score", "recency_score", "popularity_score", "success_rate", "complexity_score")
STEEPNESS = 28.0  # of the logistic laws: the higher, the less noise in the outcomes
BLOCK = 256  # requests are drawn in blocks of this size, so that request i is the same however they are asked for


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests in the order in which they arrive.

    Attributes
    ----------
    first : int
        Number of the first one since the world began.
    features : float64, (N, 5)
        In 0..1, four decimals, in the order of `FEATURES`.
    truth : bool, (N,)
        Whether the lightweight model is good enough for it.
    """

    first: int
    features: NDArray[np.float64]
    truth: NDArray[np.bool_]


def strong(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability, (N,), that the lightweight model of the beginning is good enough.

    It builds on what it has seen: similar questions and a good record; complexity hurts only where nothing is similar.
    """
    similarity, _, _, success, complexity = features.T
    return _logistic(0.50 * similarity + 0.35 * success - 0.30 * complexity * (1.0 - similarity) - 0.38)


def weak(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability, (N,), that its weaker successor is good enough: for simple, fresh, popular requests only."""
    similarity, recency, popularity, _, complexity = features.T
    return _logistic(0.45 * recency + 0.30 * popularity - 0.60 * complexity - 0.05 * similarity - 0.06)


class World:
    """An endless, seeded stream of requests.

    Parameters
    ----------
    seed : int
        Same seed and same moment of the swap (counted in requests): same requests, same truth.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._features = np.empty((0, len(FEATURES)))
        self._luck = np.empty(0)
        self._n_drawn = 0
        self.swapped = False

    def swap(self) -> None:
        """From the next request on, the lightweight model is the weaker one."""
        self.swapped = True

    def draw(self, n: int) -> Requests:
        """The next `n` requests."""
        while len(self._luck) < n:
            self._features = np.concatenate([self._features, self._block()])
            self._luck = np.concatenate([self._luck, self._random.random(BLOCK)])
        features, self._features = self._features[:n], self._features[n:]
        luck, self._luck = self._luck[:n], self._luck[n:]
        first, self._n_drawn = self._n_drawn, self._n_drawn + n
        return Requests(first, features, luck < (weak if self.swapped else strong)(features))

    def _block(self) -> NDArray[np.float64]:
        beta = self._random.beta
        similarity = beta(2.2, 1.7, BLOCK)
        recency = beta(1.1, 1.1, BLOCK)
        popularity = beta(1.2, 2.4, BLOCK)
        success = 0.35 * similarity + 0.65 * beta(3.5, 2.0, BLOCK)  # what is familiar has a better record
        complexity = beta(1.5, 1.7, BLOCK)
        block: NDArray[np.float64] = np.stack([similarity, recency, popularity, success, complexity], axis=1)
        return block.round(4)


def _logistic(margin: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-STEEPNESS * margin))
