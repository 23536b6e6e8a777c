"""Follows ``current``: loads and verifies the version that it points to, then replaces one reference.

A version that does not verify is remembered and not tried again; whatever is served goes on being served.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from streamtrain.model.seal import VersionError
from streamtrain.model.signature import PublicKey
from streamtrain.router.load import load_version
from streamtrain.router.notice import Notice
from streamtrain.router.scorer import Model

_LOG = logging.getLogger(__name__)

_REMEMBERED_FAILURES = 1000
_RETRY_FIRST_S = 0.1
_RETRY_LONGEST_S = 10.0
_LONGEST_WAIT_S = 0.25

Served = TypeVar("Served")


class Follower(Generic[Served]):
    """Keeps `served` at the version that ``current`` points to.

    Parameters
    ----------
    models_dir : Path
    prepare : callable
        Makes what is served of a loaded model.
    public_key : PublicKey, optional
        If given, a version that it did not sign is refused as a damaged one is.
    model_type : type of Model
        What versions are loaded as.

    Attributes
    ----------
    served : Served or None
        One reference, replaced as a whole; None while there was no version that verifies.
    version : str or None
        Its name.
    failure : str or None
        Why the version that ``current`` points to is not the one that is served; None if it is.
    """

    def __init__(
        self,
        models_dir: Path,
        prepare: Callable[[Model], Served],
        public_key: PublicKey | None = None,
        model_type: type[Model] = Model,
    ) -> None:
        self.served: Served | None = None
        self.version: str | None = None
        self.failure: str | None = None
        self._models_dir = models_dir
        self._current = models_dir / "current"
        self._prepare = prepare
        self._public_key = public_key
        self._model_type = model_type
        self._serving: str | None = None
        self._target: str | None = None
        self._failures: dict[str, str] = {}
        self._retry_at = 0.0
        self._retry_s = _RETRY_FIRST_S
        self._lock = threading.Lock()
        self._is_closed = False
        self._interval_s: float | None = None
        self._notice: Notice | None = None
        self._thread: threading.Thread | None = None

    def look(self) -> bool:
        """Look at ``current`` now, and swap if it moved to a version that verifies.

        Returns
        -------
        bool
            True if another version is served now.
        """
        with self._lock:
            return self._look()

    def start(self, interval_s: float) -> None:
        """Go on looking in a thread of its own: when the system tells of a change, else every `interval_s`.

        Raises
        ------
        OSError
            If no file descriptor is left.
        """
        self._interval_s = interval_s
        self._notice = Notice(self._models_dir, interval_s, _LONGEST_WAIT_S)
        arguments = (weakref.ref(self), self._notice)
        self._thread = threading.Thread(target=_follow, args=arguments, name="streamtrain-router", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking; what is served stays."""
        self._is_closed = True
        if self._notice is not None:
            self._notice.wake()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def why_nothing(self) -> str:
        """Why nothing is served, in a sentence."""
        if self.failure is not None:
            return self.failure
        return f"no version has been published in {self._models_dir} yet ({self._current} does not exist)"

    def after_fork(self) -> None:
        """Follow in the child too: it has none of its parent's threads, and shares its file descriptors."""
        self._lock = threading.Lock()
        if self._notice is not None and self._interval_s is not None:
            self._notice.abandon()
            if not self._is_closed:
                self.start(self._interval_s)

    def _look(self) -> bool:
        # `current` may move on, and the version be retired, while it is read: then what it points to now counts.
        for _ in range(10):
            target = self._read_current()
            if target is None or target == self._target:
                return False
            if self._retry_at and time.monotonic() < self._retry_at:
                return False
            if target == self._serving:
                self._settle(target, None)
                return False
            if target in self._failures:
                self._settle(target, self._failures[target])
                return False
            try:
                directory = self._models_dir / target
                model = load_version(directory, Path(target).name, self._public_key, self._model_type)
                served = self._prepare(model)
            except VersionError as error:
                if self._read_current() != target:
                    continue
                self._remember(target, str(error))
                self._settle(target, str(error))
                _LOG.error("version refused, %s keeps serving: %s", self.version or "no version", error)
                return False
            except (OSError, MemoryError) as error:
                if self.failure is None:
                    _LOG.warning("version could not be read, %s keeps serving: %s", self.version or "no version", error)
                self.failure = f"{target} could not be read: {error}"
                self._retry_at = time.monotonic() + self._retry_s
                self._retry_s = min(2 * self._retry_s, _RETRY_LONGEST_S)
                return False
            self.served = served
            self.version = model.version
            self._serving = target
            self._settle(target, None)
            return True
        return False

    def _settle(self, target: str, failure: str | None) -> None:
        self._target = target
        self.failure = failure
        self._retry_at = 0.0
        self._retry_s = _RETRY_FIRST_S

    def _remember(self, target: str, reason: str) -> None:
        if len(self._failures) >= _REMEMBERED_FAILURES:
            del self._failures[next(iter(self._failures))]
        self._failures[target] = reason

    def _read_current(self) -> str | None:
        try:
            return str(self._current.readlink())
        except OSError:
            # Not published yet, or the file system is away: what serves keeps serving, and the next look tries again.
            return None


def _follow(follower: weakref.ref[Follower[Served]], notice: Notice) -> None:
    """Look until closed. Holds the follower only while looking, so that one that is dropped can be collected."""
    changed = False
    try:
        while True:
            if not changed:
                notice.watch()
            alive = follower()
            if alive is None or alive.is_closed:
                return
            alive.look()
            del alive
            changed = notice.wait()
    finally:
        notice.close()
