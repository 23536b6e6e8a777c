"""Circuit breaker: a model that keeps failing is not asked for a while, so that requests lose no time with it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable


class Breaker:
    """Opens after several failures within a time, lets one trial through after a pause, closes when that succeeds.

    Parameters
    ----------
    n_failures : int
        How many failures open it.
    within_s : float
        Failures longer ago do not count.
    pause_s : float
        How long it stays open before a trial; again after each that fails.
    clock : callable
        Seconds of a clock that never goes back.

    Attributes
    ----------
    is_open : bool
        Read on the way of every request, without a lock.
    """

    __slots__ = ("_clock", "_failed_at", "_lock", "_pause_s", "_try_at", "_within_s", "is_open")

    def __init__(
        self, n_failures: int, within_s: float, pause_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failed_at: deque[float] = deque(maxlen=n_failures)
        self._within_s = within_s
        self._pause_s = pause_s
        self._clock = clock
        self._try_at = 0.0
        self._lock = threading.Lock()
        self.is_open = False

    def failed(self) -> None:
        """Record a failure."""
        now = self._clock()
        with self._lock:
            self._failed_at.append(now)
            full = len(self._failed_at) == self._failed_at.maxlen
            if self.is_open or (full and now - self._failed_at[0] <= self._within_s):
                self.is_open = True
                self._try_at = now + self._pause_s

    def may_try(self) -> bool:
        """Say whether this request is the trial that an open breaker lets through."""
        now = self._clock()
        with self._lock:
            if now < self._try_at:
                return False
            self._try_at = now + self._pause_s  # for the others; this one closes it or fails
            return True

    def succeeded(self) -> None:
        """Close it: the trial went well."""
        with self._lock:
            self._failed_at.clear()
            self.is_open = False

    def after_fork(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()
