"""Events of the file system, as a hint that a scan is worth while; never as the truth."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

# Opening and closing for reading are events too, and the scan itself does both.
_CHANGES: Final = frozenset({"created", "modified", "moved", "deleted", "closed"})
_RETRY_S: Final = 1.0


class Watcher:
    """Wait for something to happen in a directory or below.

    The directory need not exist, and may be removed and made again. Where it can't be watched (not there, no inotify
    watches left), waiting goes on to its time limit, and a scan finds out.

    Parameters
    ----------
    directory : Path
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._changed = _Changed()
        self._observer: BaseObserver | None = None
        self._watched: tuple[int, int] | None = None
        self._watch()

    @property
    def watching(self) -> bool:
        """Events arrive; without, a scan at intervals is all there is."""
        return self._observer is not None

    def wait(self, timeout_s: float) -> bool:
        """Wait for a change.

        Parameters
        ----------
        timeout_s : float
            At most so long.

        Returns
        -------
        bool
            Something changed since the last call. False says nothing for certain.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if self._watch():
                return True
            left = deadline - time.monotonic()
            if self._changed.happened.wait(max(0.0, min(left, _RETRY_S))):
                self._changed.happened.clear()
                return True
            if left <= _RETRY_S:
                return False

    def wake(self) -> None:
        """End a `wait`, from another thread or a signal handler."""
        self._changed.happened.set()

    def close(self) -> None:
        """Stop watching."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
            self._observer = None

    def _alive(self) -> bool:
        """Tell whether events still arrive: a directory made anew may get the inode of the one that was removed."""
        return self._observer is None or all(emitter.is_alive() for emitter in self._observer.emitters)

    def _watch(self) -> bool:
        """Watch the directory that is there now; tells whether it is another than before."""
        try:
            status = self._directory.stat()
            there: tuple[int, int] | None = (status.st_dev, status.st_ino)
        except OSError:
            there = None
        if there == self._watched and self._alive():
            return False
        self.close()
        self._watched = there
        if there is not None:
            observer = Observer()
            try:
                observer.schedule(self._changed, str(self._directory), recursive=True)
                observer.start()
            except OSError:
                return True
            self._observer = observer
        return True


class _Changed(FileSystemEventHandler):
    def __init__(self) -> None:
        self.happened = threading.Event()

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in _CHANGES:
            self.happened.set()
