"""Advisory locks on a models directory. The kernel lets go of them when their process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamtrain.publish.errors import PublishError

_RETRY_S = 0.01


class LockedError(PublishError):
    """Another process holds the lock."""


class Lock:
    """An exclusive lock on a file, held until `release` or the end of the process.

    Parameters
    ----------
    file : Path
        Created if missing; it holds the process id of the holder and is never removed (removing a lock file lets two
        processes lock two files of one name).
    purpose : str
        What holding it means, for the message to those who are refused.
    """

    def __init__(self, file: Path, purpose: str) -> None:
        self._file = file
        self._purpose = purpose
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock, and on the file that has its name now (not on one that was removed)."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._file.stat())
        except FileNotFoundError:
            return False

    def acquire(self, wait_s: float = 0.0) -> None:
        """Take the lock.

        Parameters
        ----------
        wait_s : float
            How long to keep trying, in seconds.

        Raises
        ------
        LockedError
            If another process (or object) still holds it then.
        OSError
            If the lock file cannot be opened.
        """
        if self.held:
            return
        self.release()
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
                    os.close(descriptor)
                    raise LockedError(
                        f"{self._file.parent}: {self._purpose} by process {holder}; stop it first, "
                        "or use another models directory"
                    ) from error
                time.sleep(_RETRY_S)
            except OSError:
                os.close(descriptor)
                raise
        self._descriptor = descriptor
        # Only for the message to others: a full disk must not keep anybody from, say, rolling back.
        with _ignoring_full_disk():
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go of the lock, if held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextmanager
    def holding(self, wait_s: float) -> Iterator[None]:
        """Hold the lock inside a ``with``.

        Parameters
        ----------
        wait_s : float
            As in `acquire`.
        """
        self.acquire(wait_s)
        try:
            yield
        finally:
            self.release()


@contextmanager
def _ignoring_full_disk() -> Iterator[None]:
    try:
        yield
    except OSError:
        return
