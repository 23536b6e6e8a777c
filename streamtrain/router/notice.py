"""Waiting until ``current`` may have moved: the kernel says so (inotify), and a look now and then makes sure.

Nothing but a hint ever comes from here. A router that looked every few milliseconds instead would take the interpreter
lock from scoring threads each time, and still notice late. Called by `ctypes`, because the standard library has no
inotify and the router takes no dependency for two system calls.
"""

from __future__ import annotations

import ctypes
import os
import select
import threading
from pathlib import Path

_IN_MOVED_TO, _IN_CREATE, _IN_DELETE_SELF, _IN_MOVE_SELF = 0x80, 0x100, 0x400, 0x800
_IN_ONLYDIR = 0x01000000
_MASK = _IN_MOVED_TO | _IN_CREATE | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
_QUEUE_BYTES = 64 * 1024


class Notice:
    """Waits for changes in one directory; where the system can't tell of them, for a short time.

    Parameters
    ----------
    folder : Path
        May not be there yet.
    poll_interval_s : float
        How long a wait lasts where there is no inotify, or no directory.
    longest_s : float
        How long it lasts at most where there is: a network file system tells of no changes made elsewhere.

    Raises
    ------
    OSError
        If no file descriptor is left to be woken by.
    """

    def __init__(self, folder: Path, poll_interval_s: float, longest_s: float) -> None:
        self._folder = os.fsencode(folder)
        self._poll_interval_s = poll_interval_s
        self._longest_s = max(longest_s, poll_interval_s)
        self._watched = False
        self._lock = threading.Lock()
        self._is_closed = False
        self._libc = ctypes.CDLL(None)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._inotify: int = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        if self._inotify >= 0:  # there may be none left: each user has a number of them
            self._poll.register(self._inotify, select.POLLIN)

    def watch(self) -> None:
        """Watch the directory that has the name now; whoever looks after this call misses nothing.

        For a directory that is watched already this changes nothing; another one under its name gets a new watch.
        """
        self._watched = self._inotify >= 0 and self._libc.inotify_add_watch(self._inotify, self._folder, _MASK) >= 0

    def wait(self) -> bool:
        """Return when something changed, `wake` was called, or it is time for a look anyway.

        Returns
        -------
        bool
            True if something changed.
        """
        seconds = self._longest_s if self._watched else self._poll_interval_s
        if not self._poll.poll(1000 * seconds):
            return False
        try:
            return self._inotify >= 0 and bool(os.read(self._inotify, _QUEUE_BYTES))
        except BlockingIOError:  # it was `wake`
            return False

    def wake(self) -> None:
        """End a wait of another thread, and each further one."""
        with self._lock:
            if not self._is_closed:
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Give the file descriptors back. Nobody may be waiting."""
        with self._lock:
            if not self._is_closed:
                self.abandon()

    def abandon(self) -> None:
        """`close` in the child of a fork, where another thread may have held the lock."""
        self._is_closed = True
        os.close(self._wake)
        if self._inotify >= 0:
            os.close(self._inotify)
