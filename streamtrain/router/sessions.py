"""Hidden states of the sessions that one loaded model serves: a bounded number, and none for longer than it matters.

A hidden state means something only to the weights that made it, so a table belongs to one loaded model and is dropped
with it: after a swap every session starts anew. And a model was trained on at most T steps one after the other, from an
empty state: after T requests a session starts anew as well, so that what is served is what was trained and judged.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from streamtrain.router.scorer import Model
from streamtrain.types import F64

_EXPIRED_A_CALL = 2  # more than come in, so that the table shrinks, and few, so that no call takes long


class Sessions:
    """Scores the requests of sessions in turn. Safe to use from many threads.

    Parameters
    ----------
    model : Model
        Trained on sequences.
    max_sessions : int
        How many states are kept; the one that was not used for longest goes first.
    idle_s : float
        A session that was silent for longer starts anew.
    clock : callable
        Seconds of a clock that never goes back.
    """

    __slots__ = ("_clock", "_idle_s", "_lock", "_max_sessions", "_model", "_states")

    def __init__(
        self, model: Model, max_sessions: int, idle_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._model = model
        self._max_sessions = max_sessions
        self._idle_s = idle_s
        self._clock = clock
        # Least recently used first: time of the last request, requests so far, state after it.
        self._states: OrderedDict[Hashable, tuple[float, int, F64]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._states)

    def score(self, features: Sequence[float] | F64, session: Hashable) -> float:
        """Probability of label 1 for the next request of a session.

        Parameters
        ----------
        features : D numbers
            Raw, in the order of `Model.features`.
        session : hashable
            Its name.

        Returns
        -------
        float
            In 0..1.

        Raises
        ------
        ValueError
            If there are not D finite numbers; the session stays as it was.
        """
        now = self._clock()
        # Held to the end, so that two requests of one session never start from the same state.
        with self._lock:
            states = self._states
            last, n_steps, state = states.get(session, (now, 0, None))
            if n_steps >= self._model.sequence_length or now - last > self._idle_s:
                n_steps, state = 0, None
            confidence, state = self._model.step(features, state)
            states[session] = (now, n_steps + 1, state)
            states.move_to_end(session)
            if len(states) > self._max_sessions:
                states.popitem(last=False)
            for _ in range(_EXPIRED_A_CALL):
                oldest = next(iter(states))
                if now - states[oldest][0] <= self._idle_s:
                    break
                del states[oldest]
        return confidence

    def forget(self, session: Hashable) -> None:
        """Drop a session's state: its next request is its first."""
        with self._lock:
            self._states.pop(session, None)

    def after_fork(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.Lock()
