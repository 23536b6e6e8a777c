"""The client that serves: routes requests with the published model and swaps to the next one by itself.

Scoring reads one reference and never takes a lock. A background thread looks where ``current`` points; when it moved,
it loads and verifies the version there and then replaces the reference, so a request is scored wholly by one version.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from numpy.typing import ArrayLike

from streamtrain.model.seal import VersionError
from streamtrain.model.signature import PublicKey, read_public_key
from streamtrain.router.load import load_version
from streamtrain.router.scorer import Model
from streamtrain.types import F64

_LOG = logging.getLogger(__name__)

_REMEMBERED_FAILURES = 1000
_RETRY_FIRST_S = 0.1
_RETRY_LONGEST_S = 10.0


class NoModelError(RuntimeError):
    """There is no version to serve with (yet)."""


class RouteDecision(NamedTuple):
    """Answer to one request.

    Attributes
    ----------
    confidence : float
        Probability that the lightweight model is good enough, in 0..1.
    use_lightweight : bool
        ``confidence ≥ threshold and uncertainty ≤ max_uncertainty``, as in Tiny Dancer.
    uncertainty : float
        ``1 - 2 |confidence - 0.5|``: 0 when sure of either answer, 1 at a toss-up.
    version : str
        The version that gave this answer.
    """

    confidence: float
    use_lightweight: bool
    uncertainty: float
    version: str


class Router:
    """Routes with the version that ``current`` points to, and follows it.

    Safe to use from many threads, in asyncio (a call takes microseconds and never blocks) and after a fork.
    A models directory without a version, or not there yet, is fine: calls raise `NoModelError` until one is published.

    Parameters
    ----------
    models_dir : path
        Holds ``current`` and ``versions``.
    threshold : float
        Least confidence at which the lightweight model is used.
    max_uncertainty : float
        Most uncertainty at which the lightweight model is used.
    poll_interval_s : float or None
        How often the background thread looks at ``current``; None starts no thread, then `poll` is yours to call.
    public_key : path or PublicKey, optional
        If given, versions that are not signed by it are refused as damaged ones are.

    Raises
    ------
    ValueError
        If an argument is out of its range, or the public key cannot be used.
    """

    def __init__(
        self,
        models_dir: str | os.PathLike[str],
        *,
        threshold: float = 0.85,
        max_uncertainty: float = 0.15,
        poll_interval_s: float | None = 0.02,
        public_key: PublicKey | str | os.PathLike[str] | None = None,
    ) -> None:
        for name, value in (("threshold", threshold), ("max_uncertainty", max_uncertainty)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"Router: {name} is {value!r}; expected a number in 0..1")
        if poll_interval_s is not None and not 0.0 < poll_interval_s < threading.TIMEOUT_MAX:
            raise ValueError(f"Router: poll_interval_s is {poll_interval_s!r}; expected seconds > 0, or None")
        self._models_dir = Path(models_dir)
        self._current = self._models_dir / "current"
        self._threshold = threshold
        self._max_uncertainty = max_uncertainty
        self._poll_interval_s = poll_interval_s
        self._public_key = (
            public_key if public_key is None or isinstance(public_key, PublicKey) else read_public_key(public_key)
        )
        self._model: Model | None = None
        self._serving: str | None = None
        self._target: str | None = None
        self._failures: dict[str, str] = {}
        self._failure: str | None = None
        self._retry_at = 0.0
        self._retry_s = _RETRY_FIRST_S
        self._closed = threading.Event()
        self._poll_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.poll()
        self._start_thread()
        # A child of fork has no other threads, and the lock may have been held at the time of the fork.
        revive = weakref.WeakMethod(self._revive_after_fork)
        os.register_at_fork(after_in_child=lambda: _call(revive))

    @property
    def version(self) -> str | None:
        """Name of the version served with now; None if there is none yet."""
        model = self._model
        return None if model is None else model.version

    @property
    def model(self) -> Model:
        """The model served with now: hold on to it to score several times with one version.

        Raises
        ------
        NoModelError
            If there is none yet.
        """
        model = self._model
        if model is None:
            raise NoModelError(self._why_no_model())
        return model

    @property
    def failure(self) -> str | None:
        """Why the version that ``current`` points to is not the one served with; None if it is."""
        return self._failure

    def route(self, features: Sequence[float] | F64) -> RouteDecision:
        """Decide for one request.

        Parameters
        ----------
        features : D numbers
            Raw, as in the routing log, in the order of the log's features.

        Returns
        -------
        RouteDecision

        Raises
        ------
        ValueError
            If there are not D finite numbers.
        NoModelError
            If no version has been published yet.
        """
        model = self._model
        if model is None:
            raise NoModelError(self._why_no_model())
        confidence = model.score(features)
        uncertainty = 1.0 - 2.0 * abs(confidence - 0.5)
        use_lightweight = confidence >= self._threshold and uncertainty <= self._max_uncertainty
        return RouteDecision(confidence, use_lightweight, uncertainty, model.version or "")

    def score(self, features: Sequence[float] | F64) -> float:
        """Probability that the lightweight model is good enough, for one request.

        Parameters
        ----------
        features : D numbers

        Returns
        -------
        float
            In 0..1.

        Raises
        ------
        ValueError, NoModelError
            As in `route`.
        """
        return self.model.score(features)

    def score_batch(self, features: ArrayLike) -> F64:
        """Probabilities for many requests, all by one version.

        Parameters
        ----------
        features : (N, D) numbers

        Returns
        -------
        float64, (N,)

        Raises
        ------
        ValueError, NoModelError
            As in `route`.
        """
        return self.model.score_batch(features)

    def poll(self) -> bool:
        """Look at ``current`` now, and swap if it moved to a version that verifies.

        A version that does not verify is remembered and not tried again; the old one keeps serving. One that could not
        be read just now (permissions, too many open files) is tried again, at growing intervals.

        Returns
        -------
        bool
            True if another version serves now.
        """
        with self._poll_lock:
            return self._poll()

    def close(self) -> None:
        """Stop following ``current``. Scoring goes on with the version served with now."""
        self._closed.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def __enter__(self) -> Router:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _poll(self) -> bool:
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
                model = load_version(self._models_dir / target, Path(target).name, self._public_key)
            except VersionError as error:
                if self._read_current() != target:
                    continue
                self._remember(target, str(error))
                self._settle(target, str(error))
                _LOG.error("version refused, %s keeps serving: %s", self.version or "no version", error)
                return False
            except (OSError, MemoryError) as error:
                if self._failure is None:
                    _LOG.warning("version could not be read, %s keeps serving: %s", self.version or "no version", error)
                self._failure = f"{target} could not be read: {error}"
                self._retry_at = time.monotonic() + self._retry_s
                self._retry_s = min(2 * self._retry_s, _RETRY_LONGEST_S)
                return False
            self._model = model
            self._serving = target
            self._settle(target, None)
            return True
        return False

    def _settle(self, target: str, failure: str | None) -> None:
        self._target = target
        self._failure = failure
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
            # Not published yet, or the file system is away: what serves keeps serving, and the next poll looks again.
            return None

    def _why_no_model(self) -> str:
        if self._failure is not None:
            return f"route: {self._failure}"
        return f"route: no version has been published in {self._models_dir} yet ({self._current} does not exist)"

    def _start_thread(self) -> None:
        if self._poll_interval_s is None:
            return
        self._thread = threading.Thread(
            target=_follow,
            args=(weakref.ref(self), self._closed, self._poll_interval_s),
            name="streamtrain-router",
            daemon=True,
        )
        self._thread.start()

    def _revive_after_fork(self) -> None:
        self._poll_lock = threading.Lock()
        if not self._closed.is_set():
            self._closed = threading.Event()
            self._start_thread()


def _follow(router: weakref.ref[Router], closed: threading.Event, interval_s: float) -> None:
    """Poll until closed. Holds the router only while polling, so that one that is dropped can be collected."""
    while not closed.wait(interval_s):
        alive = router()
        if alive is None:
            return
        alive.poll()
        del alive


def _call(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    bound = method()
    if bound is not None:
        bound()
