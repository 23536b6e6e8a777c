"""Whether work goes on: marks that workers make as they get on, and how long the next one may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from streamtrain.train.meter import Meter

PATIENCE_S = 60.0
"""Without progress for so long, work is taken to hang: no block of a log, no batch of an epoch, no next stage."""
COMPILE_S = 600.0
"""One kernel may take so long to compile, on whatever machine."""
PER_VALUE_S = 2e-7
"""What stages between the kernels (reading the window, scaling, judging) may take longer for each number in it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a worker does, since when, and until when the next mark is awaited (infinite: for as long as it takes)."""

    stage: str
    detail: str
    since_s: float
    due_s: float


class Pulse:
    """Progress of one thread of work, for whoever decides whether the watchdog is told.

    Parameters
    ----------
    name : str
        What works, in words.
    patience_s : float
        See `PATIENCE_S`.
    monotonic : callable
        Seconds.

    Attributes
    ----------
    meter : Meter
        Counts what goes on within a stage.
    """

    def __init__(
        self, name: str, patience_s: float = PATIENCE_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name
        self.meter = Meter()
        self._patience_s, self._monotonic = patience_s, monotonic
        self._mark = Mark("waiting", "", monotonic(), float("inf"))
        self._read = self.meter.read()
        self._moved_s = monotonic()

    @property
    def mark(self) -> Mark:
        """The last mark."""
        return self._mark

    def beat(self, stage: str, detail: str = "", extra_s: float = 0.0) -> None:
        """Note that something was done, and what comes now.

        Parameters
        ----------
        stage, detail : str
        extra_s : float
            What it may take beyond the usual patience.
        """
        now, last = self._monotonic(), self._mark
        since = last.since_s if last.stage == stage else now
        self._mark = Mark(stage, detail, since, now + self._patience_s + extra_s)

    def rest(self, for_s: float = float("inf")) -> None:
        """Note that there is nothing to do, for so long at most."""
        now, last = self._monotonic(), self._mark
        since = last.since_s if last.stage == "waiting" else now
        self._mark = Mark("waiting", "", since, now + for_s + self._patience_s)

    def stalled_s(self) -> float | None:
        """For how long nothing was heard, in seconds, where that is longer than it may take; else None.

        Asked from one thread, again and again: what the meter shows counts from the time it was seen.
        """
        now, read, mark = self._monotonic(), self.meter.read(), self._mark
        if read != self._read:
            self._read, self._moved_s = read, now
        due = max(mark.due_s, self._moved_s + self._patience_s)
        return now - due + self._patience_s if now > due else None
