"""Wakes the main thread, from signal handlers and from other threads."""

from __future__ import annotations

import os
import select


class Bell:
    """Something to wait for.

    An event of `threading` must not be set in a signal handler: the handler may interrupt the very wait that holds its
    lock. A file descriptor has none.
    """

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def ring(self) -> None:
        """End the wait, or the next one."""
        os.eventfd_write(self._descriptor, 1)

    def wait(self, timeout_s: float) -> bool:
        """Wait for a ring, at most so long; tell whether there was one."""
        if not self._poll.poll(max(0.0, timeout_s) * 1000):
            return False
        os.eventfd_read(self._descriptor)
        return True

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)
