"""One router's work: a thread that reads its logs and one that trains, on the stages opened for its configuration."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from streamtrain.config import Config
from streamtrain.cycle import Cycle, Progress
from streamtrain.daemon.pulse import PATIENCE_S, Pulse
from streamtrain.daemon.reader import Reader
from streamtrain.daemon.trainer import Trainer, told
from streamtrain.daemon.turns import Turns
from streamtrain.ops.board import Activity, Board, Challenge
from streamtrain.ops.logs import about, event
from streamtrain.publish.errors import PublishError
from streamtrain.publish.lock import LockedError

_LOG = logging.getLogger(__name__)


class Worker:
    """Looks after one router from `start` to `close`.

    Parameters
    ----------
    name : str
        "" for the only router.
    config : Config
    turns : Turns
        Shared with the workers of other routers.
    clock : callable
        Seconds since the epoch.
    on_change : callable
        Called, from any thread, when there is something new to tell.
    patience_s : float
        See `streamtrain.daemon.pulse`.
    board : Board, optional
        Where it is written what is done.

    Raises
    ------
    StoreError, LockedError, OSError, ValueError
        If the state database or the models directory belongs to another process, or can't be used.
    """

    def __init__(
        self,
        name: str,
        config: Config,
        turns: Turns,
        clock: Callable[[], float] = time.time,
        on_change: Callable[[], None] = lambda: None,
        patience_s: float = PATIENCE_S,
        board: Board | None = None,
    ) -> None:
        self.name, self.config = name, config
        self._board = board or Board(clock)
        self._stopping = False
        whose = f" of {name}" if name else ""
        reading, training = (Pulse(f"{what}{whose}", patience_s) for what in ("reading", "training"))
        self.pulses = (reading, training)
        self.cycle = Cycle(config, clock, self._on_progress)
        parts = (name, self.cycle)
        self.trainer = Trainer(*parts, turns, training, self._halting, self._trained)
        self.reader = Reader(*parts, self.trainer, reading, self._halting, on_change, self._read)
        self._on_change = on_change
        try:
            self._acquire()
        except LockedError:
            self.cycle.close()
            raise

    @property
    def ready(self) -> bool:
        """Whether the logs were read once and the kernels are compiled."""
        return self.reader.scanned and self.trainer.warm

    @property
    def failure(self) -> BaseException | None:
        """What ended one of the threads, and should not have happened."""
        return self.reader.failure or self.trainer.failure

    @property
    def running(self) -> bool:
        """Whether a thread still works."""
        return self.reader.thread.is_alive() or self.trainer.thread.is_alive()

    def start(self) -> None:
        """Begin to read, and to compile beside it."""
        self._board.sit_down(self.name, self.activity)
        self.reader.thread.start()
        self.trainer.thread.start()

    def ask_to_stop(self) -> None:
        """Let the threads end: between two blocks of a log, two epochs, two kernels."""
        self._stopping = True
        self.reader.wake()
        self.trainer.wake()

    def join(self, deadline_s: float) -> bool:
        """Wait until the threads have ended, or for the deadline on the monotonic clock; tell whether they have."""
        for thread in (self.reader.thread, self.trainer.thread):
            if thread.ident is not None:
                thread.join(max(0.0, deadline_s - time.monotonic()))
        return not self.running

    def hush(self) -> None:
        """Let hooks and webhooks come to their end; `telling` says whether they have."""
        self.cycle.announcer.ask_to_stop()

    @property
    def telling(self) -> bool:
        """Whether a hook or webhook is still running that `close` would wait for."""
        return self.cycle.announcer.ending

    def close(self, grace_s: float | None = None) -> None:
        """Give everything back; hooks that run may end within so many seconds.

        What a thread that did not end holds stays as it is: the end of the process releases it.
        """
        if not self.running:
            self.cycle.close(grace_s)
            return
        self.cycle.announcer.close(grace_s)
        if not self.reader.thread.is_alive():
            self.cycle.intake.close()

    def told(self) -> str:
        """Say what is done now, in one line."""
        reading, training = (pulse.mark for pulse in self.pulses)
        trouble = self.reader.trouble or self.trainer.trouble
        if trouble:
            return trouble
        doing = "reading logs" if reading.stage == "reading" else f"watching {self.config.logs.directory}"
        parts = [doing, f"{self.reader.n_samples:,} samples"]
        if training.stage == "waiting":
            parts.append("waiting for its turn to train" if self.trainer.busy else "")
        else:
            parts.append(f"{_DOING.get(training.stage, training.stage)} {training.detail}".strip())
        parts.append(f"serving {self.current() or 'nothing yet'}")
        last = self.trainer.last
        if training.stage == "waiting" and last is not None:
            parts.append(f"last: {last.outcome}, {last.reason}")
        return "; ".join(part for part in parts if part)

    def activity(self) -> Activity:
        """Say what is done now, for the status page; may be asked from any thread."""
        reading, training = (pulse.mark for pulse in self.pulses)
        ago = self._board.clock() - time.monotonic()
        return Activity(
            reading.stage,
            training.stage,
            training.detail,
            reading.since_s + ago,
            training.since_s + ago,
            queued=self.trainer.busy and training.stage == "waiting",
            ready=self.ready,
            trouble=self.reader.trouble or self.trainer.trouble,
        )

    def current(self) -> str:
        """Name the version that is served; "" for none."""
        try:
            return self.cycle.registry.current() or ""
        except (PublishError, OSError) as error:
            return f"nothing ({told(error)})"

    def _halting(self) -> bool:
        return self._stopping

    def _acquire(self) -> None:
        try:
            self.cycle.registry.acquire()
        except LockedError:
            raise
        except PublishError as error:
            # Reading logs needs no models directory: samples are kept and publishing is tried again later.
            with about(self.name):
                event(
                    _LOG, logging.ERROR, "the models directory cannot be written", error=told(error), goes_on="reading"
                )

    def _on_progress(self, progress: Progress) -> None:
        if progress.stage == "ingest":
            self.reader.on_progress()
        else:
            self._board.note_stage(self.name, progress.stage)
            if progress.task:
                done = Challenge(progress.task, progress.n_done, progress.n_total)
                self._board.note_epoch(self.name, done)
            self.trainer.on_progress(progress)

    def _read(self, seconds: float) -> None:
        self._board.note_time(self.name, "ingest", seconds)

    def _trained(self) -> None:
        if not self.trainer.busy:
            if self.pulses[1].mark.stage != "compile":
                self._board.note_stage(self.name, "")
            self.reader.wake()
        self._on_change()


_DOING = {
    "compile": "compiling,",
    "window": "reading the window",
    "train": "training",
    "judge": "judging",
    "publish": "publishing:",
}
