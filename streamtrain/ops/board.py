"""What the daemon is doing right now: written by its threads, read by the status page and the metrics.

Nothing here waits for anything. What the daemon writes costs it a lock held for an assignment, and who reads gets
frozen values.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Activity:
    """What the two threads of a router do.

    Attributes
    ----------
    reading, training : str
        Stage: "reading" or "waiting"; "compile", "window", "train", "judge", "publish" or "waiting".
    detail : str
        Of the training, in words.
    reading_since, training_since : float
        When these stages began, in seconds since the epoch.
    queued : bool
        A training is due and waits for a processor.
    ready : bool
        The logs were read once, and the kernels are compiled.
    trouble : str
        What can't be done for now, and why; "" for nothing.
    """

    reading: str = "waiting"
    training: str = "waiting"
    detail: str = ""
    reading_since: float = 0.0
    training_since: float = 0.0
    queued: bool = False
    ready: bool = False
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Challenge:
    """How far one candidate of the training under way has come: `n_done` of at most `n_most` epochs."""

    name: str
    n_done: int
    n_most: int


@dataclass(frozen=True, slots=True)
class Desk:
    """One router, as of now."""

    activity: Activity
    challenges: tuple[Challenge, ...]


@dataclass(frozen=True, slots=True)
class Daemon:
    """What goes for all routers.

    Attributes
    ----------
    started : float
        Seconds since the epoch.
    ready : bool
    stalled : tuple of str
        Work that makes no progress, by its name.
    refused : tuple of (float, str) or None
        When the configuration file was refused, and why, where the daemon goes on under the one from before.
    """

    started: float
    ready: bool = False
    stalled: tuple[str, ...] = ()
    refused: tuple[float, str] | None = None


Observer = Callable[[str, str, float], None]


class Board:
    """Where the daemon writes what it does.

    Parameters
    ----------
    clock, monotonic : callable
        Seconds since the epoch; seconds of a clock that is never set back.
    """

    def __init__(self, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._daemon = Daemon(clock())
        self._probes: dict[str, Callable[[], Activity]] = {}
        self._challenges: dict[str, dict[str, Challenge]] = {}
        self._stages: dict[str, tuple[str, float]] = {}
        self._observers: list[Observer] = []

    @property
    def daemon(self) -> Daemon:
        """What goes for all routers, as of now."""
        return self._daemon

    def desk(self, router: str) -> Desk | None:
        """Look at one router, as of now; None if nobody works there."""
        with self._guard:
            probe = self._probes.get(router)
            challenges = tuple(self._challenges.get(router, {}).values())
        return None if probe is None else Desk(probe(), challenges)

    def sit_down(self, router: str, probe: Callable[[], Activity]) -> None:
        """Note who works for a router, and how to ask what is done; may be asked from any thread."""
        with self._guard:
            self._probes[router] = probe
            self._challenges.pop(router, None)
            self._stages.pop(router, None)

    def note_ready(self) -> None:
        """Note that each router's logs were read once."""
        with self._guard:
            self._daemon = replace(self._daemon, ready=True)

    def note_stalled(self, names: tuple[str, ...]) -> None:
        """Note which work makes no progress."""
        with self._guard:
            self._daemon = replace(self._daemon, stalled=names)

    def note_refusal(self, reason: str | None) -> None:
        """Note why the configuration file can't be used; None that it can."""
        with self._guard:
            self._daemon = replace(self._daemon, refused=None if reason is None else (self.clock(), reason))

    def note_stage(self, router: str, stage: str) -> None:
        """Note that another stage of a training begins, which ends the one before; "" for none."""
        now = self._monotonic()
        with self._guard:
            before, since = self._stages.get(router, ("", now))
            if before == stage:
                return
            self._stages[router] = (stage, now)
            if stage == "train":
                self._challenges[router] = {}
            elif stage in ("", "window"):
                self._challenges.pop(router, None)
        if before:
            self.note_time(router, before, now - since)

    def note_epoch(self, router: str, challenge: Challenge) -> None:
        """Note how far a candidate has come."""
        with self._guard:
            self._challenges.setdefault(router, {})[challenge.name] = challenge

    def note_time(self, router: str, stage: str, seconds: float) -> None:
        """Note how long a stage took, for whoever counts."""
        for observer in self._observers:
            observer(router, stage, seconds)

    def observe(self, observer: Observer) -> None:
        """Tell of each stage that ended: router, stage, seconds. From any thread."""
        with self._guard:
            self._observers = [*self._observers, observer]
