"""The Page-Hinkley test: how far a stream of values has risen above its own mean, added up.

Page 1954, "Continuous inspection schemes", as River defines it (0.26) in its mode "up", value by value to the last bit.
"""

from __future__ import annotations

import math
from typing import Any, Self


class PageHinkley:
    """Watches for a rise of the mean.

    Parameters
    ----------
    threshold : float
        Sum of deviations above which a rise is found (λ).
    delta : float
        Part of each deviation that is let pass.
    min_instances : int
        Values before anything can be found.
    alpha : float
        Forgetting factor of the sum, in 0..1. Below 1 the sum does not fall for ever while nothing changes but comes to
        rest at ``-delta / (1 - alpha)``, where chance moves it by more than any useful threshold: with River's own
        0.9999 a stream of errors that never changes is called changed several times in 100,000 samples.

    Attributes
    ----------
    since : int
        Values since the sum was lowest: since the rise began, if there is one.
    """

    def __init__(self, threshold: float, delta: float, min_instances: int = 30, alpha: float = 1.0) -> None:
        self._threshold, self._delta, self._alpha = threshold, delta, alpha
        self._min_instances = min_instances
        self._begin()

    def _begin(self) -> None:
        self._n = self.since = 0
        self._mean = self._sum = 0.0
        self._least = math.inf
        self.found = False

    @property
    def statistic(self) -> float:
        """How far the sum is towards the threshold: above 1 is a rise."""
        return (self._sum - self._least) / self._threshold if self._n >= self._min_instances else 0.0

    def add(self, value: float) -> bool:
        """Take a value in; tell whether a rise is found. The value after that begins anew."""
        if self.found:
            self._begin()
        self._n += 1
        self._mean += 1.0 / self._n * (value - self._mean)
        self._sum = self._alpha * self._sum + (value - self._mean) - self._delta  # in the order of River
        self.since += 1
        if self._sum < self._least:
            self._least = self._sum
            self.since = 0
        self.found = self._n >= self._min_instances and self._sum - self._least > self._threshold
        return self.found

    def state(self) -> dict[str, Any]:
        """All that the next values depend on, as JSON values."""
        return {
            "n": self._n,
            "mean": self._mean,
            "sum": self._sum,
            "least": None if math.isinf(self._least) else self._least,
            "since": self.since,
            "found": self.found,
        }

    def resume(self, state: dict[str, Any]) -> Self:
        """Go on from a `state`."""
        self._n, self._mean, self._sum = state["n"], state["mean"], state["sum"]
        self._least = math.inf if state["least"] is None else state["least"]
        self.since, self.found = state["since"], state["found"]
        return self
