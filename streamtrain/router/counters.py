"""What the versions answered, counted exactly from many threads and cheaply enough for every request."""

from __future__ import annotations

from collections import deque
from itertools import count, islice
from typing import NamedTuple


class VersionStats(NamedTuple):
    """What one version answered in this process.

    Attributes
    ----------
    requests : int
        Decisions that were asked for while it served.
    lightweight : int
        Those that chose the lightweight model.
    failures : int
        Those that the version did not answer: the score was not a finite number, or scoring raised an error.
    mistaken : int
        Those whose features could not be scored by any model: the caller's mistake.
    short_circuited : int
        Those not tried because the circuit breaker was open.
    """

    requests: int
    lightweight: int
    failures: int
    mistaken: int
    short_circuited: int

    @property
    def lightweight_share(self) -> float:
        """Share of the requests that chose the lightweight model; NaN of none."""
        return self.lightweight / self.requests if self.requests else float("nan")


class Tally:
    """A number that goes up by one, from any thread, in one uninterrupted call and without a lock."""

    __slots__ = ("_count", "add")

    def __init__(self) -> None:
        self._count = count()
        self.add = self._count.__next__

    def add_many(self, n: int) -> None:
        """Go up by `n`."""
        deque(islice(self._count, n), maxlen=0)

    @property
    def value(self) -> int:
        """How often it went up."""
        # The one way to see where a count stands without moving it on: "count(5)".
        return int(repr(self._count)[6:-1])


class Counters:
    """Tallies of one version, under the names of `VersionStats`."""

    __slots__ = VersionStats._fields

    def __init__(self) -> None:
        self.requests = Tally()
        self.lightweight = Tally()
        self.failures = Tally()
        self.mistaken = Tally()
        self.short_circuited = Tally()

    def read(self) -> VersionStats:
        """Where they stand now."""
        return VersionStats(*(getattr(self, name).value for name in VersionStats._fields))
