"""ADWIN: a window of the recent past that grows while nothing changes and drops its old part when something does.

Bifet and Gavaldà 2007, "Learning from time-changing data with adaptive windowing", as River defines it (0.26): the
exponential histogram of ADWIN2 with River's cut and River's order of operations, so that both agree sample by sample,
to the last bit.
"""

from __future__ import annotations

import math
from typing import Any, Self

CLOCK = 32
"""Cuts are looked for every so many values."""
MAX_BUCKETS = 5
MIN_LENGTH = 5
"""Neither side of a cut is shorter."""
GRACE = 10


class Adwin:
    """Watches the mean of a stream of values in 0..1.

    Parameters
    ----------
    delta : float
        Significance of a cut, in 0..1.

    Attributes
    ----------
    width : int
        Values in the window. When `add` has said that a change was found, the window holds what came after it, until
        the next value begins a new one.
    ago : int
        Once a change was found: how many values ago it most likely was. That is where the two sides differ most for
        their lengths (Hinkley 1970), not where the window begins: a cut may be found while most of the window is from
        before the change.
    statistic : float
        How far the clearest rise of the mean was towards a cut when last looked for: 1 would have been one.
    """

    def __init__(self, delta: float) -> None:
        self._delta = delta
        self.statistic = 0.0
        self.ago = 0
        self._begin()

    def _begin(self) -> None:
        # Per level i, buckets of 2**i values, the oldest first: their totals and their sums of squared deviations.
        self._totals: list[list[float]] = [[]]
        self._variances: list[list[float]] = [[]]
        self.width = 0
        self._total = self._variance = 0.0
        self._tick = 0
        self.found = False

    @property
    def mean(self) -> float:
        """Of the window; 0 of none."""
        return self._total / self.width if self.width else 0.0

    def add(self, value: float) -> float:
        """Take a value in.

        Returns
        -------
        float
            0 while nothing changes; else by how much the mean is higher after the change than before it (negative
            where it fell), in the first cut that was found.
        """
        if self.found:
            self._begin()
        totals = self._totals
        before = self.width
        self.width = width = before + 1
        if before:
            distance = value - self._total / before
            self._variance += before * distance * distance / width
        self._total += value
        totals[0].append(value)
        self._variances[0].append(0.0)
        if len(totals[0]) > MAX_BUCKETS:
            self._merge()
        self._tick += 1
        if self._tick % CLOCK or width <= GRACE:
            return 0.0
        return self._shrink()

    def state(self) -> dict[str, Any]:
        """All that the next values depend on, as JSON values."""
        return {
            "totals": [list(level) for level in self._totals],
            "variances": [list(level) for level in self._variances],
            "total": self._total,
            "variance": self._variance,
            "tick": self._tick,
            "found": self.found,
            "ago": self.ago,
            "statistic": self.statistic,
        }

    @classmethod
    def of(cls, delta: float, state: dict[str, Any]) -> Self:
        """Go on from a `state`."""
        made = cls(delta)
        made._totals = [list(level) for level in state["totals"]]
        made._variances = [list(level) for level in state["variances"]]
        made._total, made._variance = state["total"], state["variance"]
        made._tick, made.found = state["tick"], state["found"]
        made.ago, made.statistic = state["ago"], state["statistic"]
        made.width = sum(len(level) << i for i, level in enumerate(made._totals))
        return made

    def _merge(self) -> None:
        """Make two buckets of a level that has too many into one of the next."""
        i = 0
        while len(self._totals[i]) > MAX_BUCKETS:
            totals, variances = self._totals[i], self._variances[i]
            if i + 1 == len(self._totals):
                self._totals.append([])
                self._variances.append([])
            size = float(1 << i)
            distance = totals[0] / size - totals[1] / size
            between = size * size * distance * distance / (size + size)
            self._totals[i + 1].append(totals[0] + totals[1])
            self._variances[i + 1].append(variances[0] + variances[1] + between)
            del totals[:2], variances[:2]
            i += 1

    def _shrink(self) -> float:
        """Drop the oldest bucket as long as a cut is found; the first one's difference of means."""
        first = 0.0
        while True:
            difference = self._cut()
            if difference == 0.0:
                return first
            if not self.found:
                first, self.ago, self.found = difference, self._clearest(), True
            self._drop()

    def _cut(self) -> float:
        """Find where the means before and after differ too much: their difference, or 0."""
        n0, n1, u0, u1 = 0.0, float(self.width), 0.0, self._total
        spread = math.log(2.0 * math.log(self.width) / self._delta)
        scale, bias = 2.0 * self._variance / self.width * spread, 2.0 / 3.0 * spread
        most = 0.0
        for i in range(len(self._totals) - 1, -1, -1):
            size = float(1 << i)
            totals = self._totals[i]
            for k in range(len(totals) - (i == 0)):
                n0 += size
                n1 -= size
                u0 += totals[k]
                u1 -= totals[k]
                if n0 < MIN_LENGTH or n1 < MIN_LENGTH:
                    continue
                rise = u1 / n1 - u0 / n0
                reciprocal = 1.0 / (n0 - MIN_LENGTH + 1) + 1.0 / (n1 - MIN_LENGTH + 1)
                bound = math.sqrt(scale * reciprocal) + bias * reciprocal
                if abs(rise) > bound:
                    self.statistic = max(most, rise / bound)
                    return rise
                most = max(most, rise / bound)
        self.statistic = most
        return 0.0

    def _clearest(self) -> int:
        """Values after the cut whose sides differ most: the likeliest place of one change of the mean."""
        n0, n1, u0, u1 = 0.0, float(self.width), 0.0, self._total
        most, length = -1.0, self.width
        for i in range(len(self._totals) - 1, -1, -1):
            for total in self._totals[i]:
                n0, n1, u0, u1 = n0 + (1 << i), n1 - (1 << i), u0 + total, u1 - total
                if n1 < MIN_LENGTH:
                    break
                difference = u1 / n1 - u0 / n0
                likelihood = difference * difference * n0 * n1
                if likelihood > most:
                    most, length = likelihood, int(n1)
        return length

    def _drop(self) -> None:
        """Forget the oldest bucket."""
        i = len(self._totals) - 1
        size = 1 << i
        total, variance = self._totals[i].pop(0), self._variances[i].pop(0)
        self.width -= size
        self._total -= total
        distance = total / size - self._total / self.width
        self._variance -= variance + size * self.width * distance * distance / (size + self.width)
        if not self._totals[i]:
            self._totals.pop()
            self._variances.pop()
