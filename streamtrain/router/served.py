"""All that belongs to the version that serves, behind the one reference that a swap replaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from streamtrain.router.breaker import Breaker
from streamtrain.router.counters import Counters
from streamtrain.router.scorer import Model
from streamtrain.router.sessions import Sessions

THRESHOLD = 0.85
MAX_UNCERTAINTY = 0.15
"""Tiny Dancer's defaults."""

_COUNTED_VERSIONS = 32


@dataclass(frozen=True, slots=True)
class Options:
    """What the application asks of its router; see there.

    Attributes
    ----------
    threshold, max_uncertainty : float or None
    max_sessions : int
    session_idle_s : float
    breaker : (int, float, float)
        Failures, the seconds within which they count, the seconds of the pause.
    """

    threshold: float | None
    max_uncertainty: float | None
    max_sessions: int
    session_idle_s: float
    breaker: tuple[int, float, float]


class Served:
    """A loaded model with its thresholds, hidden states, counters and circuit breaker.

    Attributes
    ----------
    model : Model
    version : str
    score : callable
        Of the model: a look-up less on the way of every request; so are the next two.
    count_request, count_lightweight : callable
    counters : Counters
    threshold, max_uncertainty : float
    breaker : Breaker
    sessions : Sessions or None
        None where the model was not trained on sequences.
    """

    __slots__ = (
        "breaker",
        "count_lightweight",
        "count_request",
        "counters",
        "max_uncertainty",
        "model",
        "score",
        "sessions",
        "threshold",
        "version",
    )

    def __init__(self, model: Model, options: Options, counters: Counters) -> None:
        self.model = model
        self.version = model.version or ""
        self.score = model.score
        self.counters = counters
        self.count_request: Callable[[], int] = counters.requests.add
        self.count_lightweight: Callable[[], int] = counters.lightweight.add
        self.threshold, self.max_uncertainty = thresholds(
            (options.threshold, options.max_uncertainty), (model.threshold, model.max_uncertainty)
        )
        self.breaker = Breaker(*options.breaker)
        self.sessions = (
            None if model.sequence_length == 1 else Sessions(model, options.max_sessions, options.session_idle_s)
        )

    def after_fork(self) -> None:
        """Replace locks that another thread of the parent may have held."""
        self.breaker.after_fork()
        if self.sessions is not None:
            self.sessions.after_fork()


def prepare(options: Options, counted: dict[str, Counters], model: Model) -> Served:
    """Make of a loaded model what is served.

    Parameters
    ----------
    options : Options
    counted : dict of str to Counters
        Of the versions so far, the one that served last at the end: a version that comes back goes on counting. Of
        more than a few dozen, those that have not served for longest are dropped.
    model : Model

    Returns
    -------
    Served
    """
    version = model.version or ""
    counters = counted.pop(version, None) or Counters()
    while len(counted) >= _COUNTED_VERSIONS:
        del counted[next(iter(counted))]
    counted[version] = counters
    return Served(model, options, counters)


def decide_by(model: Model) -> tuple[float, float]:
    """Return the threshold and most uncertainty that a router without options of its own decides by."""
    return thresholds((None, None), (model.threshold, model.max_uncertainty))


def thresholds(
    asked: tuple[float | None, float | None], advised: tuple[float | None, float | None]
) -> tuple[float, float]:
    """Return the threshold and the most uncertainty that a router decides by.

    Parameters
    ----------
    asked : (float or None, float or None)
        By the application.
    advised : (float or None, float or None)
        By the version's manifest.
    """
    threshold, max_uncertainty = asked
    is_advised = threshold is None and advised[0] is not None
    if threshold is None:
        threshold = THRESHOLD if advised[0] is None else advised[0]
    if max_uncertainty is None:
        max_uncertainty = advised[1]
    if max_uncertainty is None:
        # A threshold that was chosen for its error rate already says all: Tiny Dancer's 0.15 would mean 0.925.
        max_uncertainty = 1.0 if is_advised else MAX_UNCERTAINTY
    return threshold, max_uncertainty
