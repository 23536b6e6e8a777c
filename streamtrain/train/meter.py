"""How far training has come, read off the kernels' own counters while they run.

A kernel runs a whole epoch in one call, without the GIL. Its step count and the weight it has added up lie in arrays of
the caller's, so that another thread sees each batch go by: an epoch that takes an hour is told from one that hangs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from streamtrain.types import F64


class Meter:
    """Counters of one training, whatever threads it runs on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: list[F64] = []
        self._before = 0.0

    def add(self, counters: F64) -> None:
        """Count what kernels add up in an array from here on.

        Parameters
        ----------
        counters : float64
            Numbers that only grow while a kernel makes progress. Any change counts, a return to zero too.
        """
        with self._lock:
            self._counters.append(counters)

    def remove(self, counters: F64) -> None:
        """Look at an array no longer."""
        with self._lock:
            self._counters = [one for one in self._counters if one is not counters]
            self._before += 1.0

    def read(self) -> float:
        """Return a number that is another one whenever a kernel has made progress since the last call.

        Returns
        -------
        float
            Of no unit, and nothing to compare but for being equal.
        """
        with self._lock:
            return self._before + sum(float(one.sum()) for one in self._counters)


@contextmanager
def counted(meter: Meter | None, counters: F64) -> Iterator[None]:
    """Let a meter, if there is one, look at an array while the body runs.

    Parameters
    ----------
    meter : Meter or None
    counters : float64
        See `Meter.add`.
    """
    if meter is None:
        yield
        return
    meter.add(counters)
    try:
        yield
    finally:
        meter.remove(counters)
