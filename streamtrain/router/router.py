"""The client that serves: routes requests with the published model and swaps to the next one by itself.

Scoring reads one reference and takes no lock. A background thread follows ``current``; when it moved, it loads and
verifies the version there and then replaces the reference, so a request is scored wholly by one version.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Hashable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal

from numpy.typing import ArrayLike

from streamtrain.model.signature import PublicKey, read_public_key
from streamtrain.router.counters import Counters, VersionStats
from streamtrain.router.decision import NoModelError, RouteDecision, ScoringError
from streamtrain.router.follow import Follower
from streamtrain.router.scorer import Model
from streamtrain.router.served import Options, Served, prepare
from streamtrain.types import F64

__all__ = ["NoModelError", "RouteDecision", "Router", "ScoringError"]

OnError = Literal["raise", "powerful"]


_NOT_A_NUMBER = "the confidence is not a number"
_tuple = tuple.__new__  # what RouteDecision(…) comes to, without checking arguments by name


class Router:
    """Routes with the version that ``current`` points to, and follows it.

    Safe to use from many threads, in asyncio (a call takes microseconds and never blocks) and after a fork.
    A models directory without a version, or not there yet, is fine: there is an answer once one is published.

    Parameters
    ----------
    models_dir : path
        Holds ``current`` and ``versions``.
    threshold : float, optional
        Least confidence at which the lightweight model is used. None takes what the version's manifest advises
        (``router.threshold``), and where it advises nothing 0.85.
    max_uncertainty : float, optional
        Most uncertainty at which the lightweight model is used. None takes the manifest's ``router.max_uncertainty``;
        where there is none, 0.15, but 1 (no further condition) if the threshold is the manifest's.
    on_error : {"raise", "powerful"}
        What `route` does with a request that no model answers: raise, or decide for the powerful model and say why in
        `RouteDecision.failure`.
    max_sessions : int
        Hidden states that are kept; the least recently used one goes first. Only for models trained on sequences.
    session_idle_s : float
        A session that was silent for longer starts anew.
    breaker_failures : int
        After so many failures of a version within `breaker_within_s`, it is not asked for `breaker_pause_s`; then one
        request is the trial. What it means that it is not asked, `on_error` says.
    breaker_within_s, breaker_pause_s : float
        Seconds.
    poll_interval_s : float or None
        How often the background thread looks at ``current`` where the system cannot tell it of a change (where it can,
        it looks then, and four times a second at least); None starts no thread, then `poll` is yours to call.
    public_key : path or PublicKey, optional
        If given, versions that are not signed by it are refused as damaged ones are.
    compiled : bool
        Score by a compiled kernel: a call takes a third of the time, a batch of 32 a fifth. The compiler is loaded for
        it: 130 MB and half a second, some seconds where the kernel is not in the cache yet.

    Raises
    ------
    ValueError
        If an argument is out of its range, or the public key cannot be used.
    OSError
        If no file descriptor is left for the thread to be told by.
    """

    def __init__(
        self,
        models_dir: str | os.PathLike[str],
        *,
        threshold: float | None = None,
        max_uncertainty: float | None = None,
        on_error: OnError = "raise",
        max_sessions: int = 10_000,
        session_idle_s: float = 1800.0,
        breaker_failures: int = 5,
        breaker_within_s: float = 10.0,
        breaker_pause_s: float = 5.0,
        poll_interval_s: float | None = 0.02,
        public_key: PublicKey | str | os.PathLike[str] | None = None,
        compiled: bool = False,
    ) -> None:
        for name, share in (("threshold", threshold), ("max_uncertainty", max_uncertainty)):
            if share is not None and not 0.0 <= share <= 1.0:
                raise ValueError(f"Router: {name} is {share!r}; expected a number in 0..1, or None")
        if on_error not in ("raise", "powerful"):
            raise ValueError(f"Router: on_error is {on_error!r}; expected 'raise' or 'powerful'")
        for name, number in (("max_sessions", max_sessions), ("breaker_failures", breaker_failures)):
            if not isinstance(number, int) or number < 1:
                raise ValueError(f"Router: {name} is {number!r}; expected a whole number ≥ 1")
        for name, seconds in (
            ("session_idle_s", session_idle_s),
            ("breaker_within_s", breaker_within_s),
            ("breaker_pause_s", breaker_pause_s),
        ):
            if not seconds > 0.0:
                raise ValueError(f"Router: {name} is {seconds!r}; expected seconds > 0")
        if poll_interval_s is not None and not 0.0 < poll_interval_s < threading.TIMEOUT_MAX:
            raise ValueError(f"Router: poll_interval_s is {poll_interval_s!r}; expected seconds > 0, or None")
        breaker = (breaker_failures, breaker_within_s, breaker_pause_s)
        options = Options(threshold, max_uncertainty, max_sessions, session_idle_s, breaker)
        key = public_key if public_key is None or isinstance(public_key, PublicKey) else read_public_key(public_key)
        self._raises = on_error == "raise"
        self._counted: dict[str, Counters] = {}
        self._follower: Follower[Served] = Follower(
            Path(models_dir), partial(prepare, options, self._counted), key, _model_type(compiled)
        )
        self._follower.look()
        if poll_interval_s is not None:
            self._follower.start(poll_interval_s)
        _follow_forks(self)

    @property
    def version(self) -> str | None:
        """Name of the version served with now; None if there is none yet."""
        served = self._follower.served
        return None if served is None else served.model.version

    @property
    def model(self) -> Model:
        """The model served with now: hold on to it to score several times with one version.

        Raises
        ------
        NoModelError
            If there is none yet.
        """
        return self._served().model

    @property
    def threshold(self) -> float:
        """Least confidence at which the lightweight model is used now.

        Raises
        ------
        NoModelError
            If there is no version yet that could advise one.
        """
        return self._served().threshold

    @property
    def failure(self) -> str | None:
        """Why the version that ``current`` points to is not the one served with; None if it is."""
        return self._follower.failure

    @property
    def circuit_is_open(self) -> bool:
        """Whether the version served with now failed so often that it is not asked for a while."""
        served = self._follower.served
        return served is not None and served.breaker.is_open

    def stats(self) -> dict[str, VersionStats]:
        """Return what each of the last versions answered in this process, oldest first.

        Returns
        -------
        dict of str to VersionStats
        """
        return {version: counters.read() for version, counters in tuple(self._counted.items())}

    def route(self, features: Sequence[float] | F64, *, session: Hashable = None) -> RouteDecision:
        """Decide for one request.

        Parameters
        ----------
        features : D numbers
            Raw, as in the routing log, in the order of the log's features.
        session : hashable, optional
            What the request belongs to, as in the log's session field. A model trained on sequences
            (``model.sequence_length`` > 1) then goes on from the session's hidden state; any other takes no notice.
            After ``sequence_length`` requests, after a swap and after `session_idle_s` a session starts anew.

        Returns
        -------
        RouteDecision

        Raises
        ------
        ValueError
            If there are not D finite numbers.
        NoModelError
            If no version has been published yet.
        ScoringError
            If the version gives no finite number, or gave none so often that it is not asked for a while.
        """
        served = self._follower.served
        if served is None:
            return self._unanswered(NoModelError(f"route: {self._follower.why_nothing()}"), "")
        served.count_request()
        if served.breaker.is_open and not served.breaker.may_try():
            served.counters.short_circuited.add()
            return self._unanswered(ScoringError(f"route: {served.version} failed again and again"), served.version)
        try:
            if session is None or served.sessions is None:
                confidence = served.score(features)
            else:
                confidence = served.sessions.score(features, session)
        except (ValueError, TypeError) as error:
            served.counters.mistaken.add()
            return self._unanswered(error, served.version)
        except (ArithmeticError, MemoryError) as error:
            return self._failed(served, f"{type(error).__name__}: {error}")
        if confidence != confidence:  # NaN, and quicker than asking math
            return self._failed(served, _NOT_A_NUMBER)
        if served.breaker.is_open:
            served.breaker.succeeded()
        return self._decided(served, confidence)

    def route_batch(self, features: Sequence[Sequence[float]] | F64) -> list[RouteDecision]:
        """Decide for many requests, each by itself and all by one version.

        With ``on_error="powerful"``, a batch that cannot be scored as a whole is decided row by row, as by `route`.

        Parameters
        ----------
        features : (N, D) numbers

        Returns
        -------
        list of RouteDecision

        Raises
        ------
        ValueError, NoModelError, ScoringError
            As in `route`.
        """
        served = self._follower.served
        if served is None or served.breaker.is_open:
            return [self.route(row) for row in features]
        try:
            confidences = served.model.score_batch(features)
        except ValueError:
            if self._raises:
                raise
            return [self.route(row) for row in features]
        served.counters.requests.add_many(len(confidences))
        return [
            self._decided(served, confidence) if confidence == confidence else self._failed(served, _NOT_A_NUMBER)
            for confidence in confidences.tolist()
        ]

    def score(self, features: Sequence[float] | F64) -> float:
        """Probability that the lightweight model is good enough, for one request; nothing is decided or counted.

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
        return self._follower.look()

    def end_session(self, session: Hashable) -> None:
        """Drop the hidden state of a session that is over; its next request would be its first.

        Parameters
        ----------
        session : hashable
        """
        served = self._follower.served
        if served is not None and served.sessions is not None:
            served.sessions.forget(session)

    def close(self) -> None:
        """Stop following ``current``. Scoring goes on with the version served with now."""
        self._follower.close()

    def __enter__(self) -> Router:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _served(self) -> Served:
        served = self._follower.served
        if served is None:
            raise NoModelError(f"route: {self._follower.why_nothing()}")
        return served

    def _decided(self, served: Served, confidence: float) -> RouteDecision:
        uncertainty = 1.0 - 2.0 * abs(confidence - 0.5)
        if confidence >= served.threshold and uncertainty <= served.max_uncertainty:
            served.count_lightweight()
            return _tuple(RouteDecision, (confidence, True, uncertainty, served.version, None))
        return _tuple(RouteDecision, (confidence, False, uncertainty, served.version, None))

    def _failed(self, served: Served, reason: str) -> RouteDecision:
        served.counters.failures.add()
        served.breaker.failed()
        return self._unanswered(ScoringError(f"route: {served.version} could not score: {reason}"), served.version)

    def _unanswered(self, error: Exception, version: str) -> RouteDecision:
        if self._raises:
            raise error
        return RouteDecision(0.0, False, 1.0, version, str(error))

    def _after_fork(self) -> None:
        served = self._follower.served
        if served is not None:
            served.after_fork()
        self._follower.after_fork()


def _model_type(compiled: bool) -> type[Model]:
    if not compiled:
        return Model
    # Here and not above: the compiler is for those who ask for it.
    from streamtrain.router.compiled import CompiledModel

    return CompiledModel


_routers: weakref.WeakSet[Router] = weakref.WeakSet()


def _follow_forks(router: Router) -> None:
    """Have the child of a fork follow too. Python calls what is registered for ever, so that is done once."""
    global _forks_are_followed
    _routers.add(router)
    if not _forks_are_followed:
        _forks_are_followed = True
        os.register_at_fork(after_in_child=_after_fork)


_forks_are_followed = False


def _after_fork() -> None:
    for router in tuple(_routers):
        router._after_fork()
