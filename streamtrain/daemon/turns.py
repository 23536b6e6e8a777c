"""Who may train when: as many routers at once as there are processors, whoever has waited longest first."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_S = 0.2


class Turns:
    """Shares the processors among trainings.

    Parameters
    ----------
    n_processors : int, optional
        Those that this process may use if None.
    """

    def __init__(self, n_processors: int | None = None) -> None:
        self._n = n_processors or len(os.sched_getaffinity(0))
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._n_active = 0
        self._compiling = threading.Lock()

    @contextmanager
    def turn(self, should_stop: Callable[[], bool]) -> Iterator[int]:
        """Wait for a turn, and hold it in the body.

        Parameters
        ----------
        should_stop : callable
            Ends the wait.

        Yields
        ------
        int
            Threads to train on: a fair share of the processors, 0 if it was told to stop instead.
        """
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while not should_stop() and (self._waiting[0] is not ticket or self._n_active >= self._n):
                    self._changed.wait(_LOOK_S)
                n_competing = min(self._n, self._n_active + len(self._waiting))
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
            stopped = should_stop()
            self._n_active += not stopped
        try:
            yield 0 if stopped else max(1, self._n // n_competing)
        finally:
            with self._changed:
                self._n_active -= not stopped
                self._changed.notify_all()

    @contextmanager
    def compiling(self, should_stop: Callable[[], bool]) -> Iterator[bool]:
        """Wait until nobody else compiles (the cache has room for one at a time); False if told to stop instead."""
        held = self._compiling.acquire(timeout=_LOOK_S)
        while not held and not should_stop():
            held = self._compiling.acquire(timeout=_LOOK_S)
        try:
            yield held
        finally:
            if held:
                self._compiling.release()
