"""The thread that compiles, trains and publishes for one router, beside the one that reads its logs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from streamtrain.cycle import Cycle, Interrupted, Progress
from streamtrain.daemon.pulse import COMPILE_S, PER_VALUE_S, Pulse
from streamtrain.daemon.turns import Turns
from streamtrain.dataset.errors import StoreError
from streamtrain.lessons import TeacherError
from streamtrain.ops.logs import about, event
from streamtrain.ops.memory import give_back
from streamtrain.publish.errors import PublishError
from streamtrain.publish.registry import VersionError
from streamtrain.types import Decision

_LOG = logging.getLogger(__name__)

RETRY_S = 10.0
"""Between two tries where the models directory or the state database cannot be written."""
FAILURES = (PublishError, VersionError, TeacherError, StoreError, OSError, MemoryError)
"""What can go wrong with a training through no fault of this program: it is told, and tried again."""


class Trainer:
    """Compiles at the start, then trains once each time it is asked to.

    Parameters
    ----------
    router : str
        Name for the log; "" for the only one.
    cycle : Cycle
    turns : Turns
    pulse : Pulse
    halting : callable
        Whether to stop.
    on_change : callable
        Called when there is something new to tell.
    """

    def __init__(
        self,
        router: str,
        cycle: Cycle,
        turns: Turns,
        pulse: Pulse,
        halting: Callable[[], bool],
        on_change: Callable[[], None],
    ) -> None:
        self._router, self._cycle, self._turns = router, cycle, turns
        self._pulse, self._halting, self._on_change = pulse, halting, on_change
        self._asked = threading.Event()
        self._not_before = -1e9
        self.warm = False
        self.busy = False
        self.trouble = ""
        self.last: Decision | None = None
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=f"train {router}".strip(), daemon=True)

    @property
    def free(self) -> bool:
        """Whether a training may be asked for now."""
        return self.warm and not self.busy and time.monotonic() >= self._not_before

    def ask(self) -> None:
        """Ask for a training."""
        self.busy = True
        self._asked.set()

    def postpone(self) -> None:
        """Begin no training for `RETRY_S`."""
        self._not_before = time.monotonic() + RETRY_S

    def wake(self) -> None:
        """Let the thread see that it is to stop."""
        self._asked.set()

    def on_progress(self, progress: Progress) -> None:
        """Take what the cycle says, from this thread and from those that it trains on."""
        extra = COMPILE_S if progress.stage == "compile" else progress.n_values * PER_VALUE_S
        self._pulse.beat(progress.stage, progress.detail, extra)
        self._on_change()

    def _run(self) -> None:
        try:
            with about(self._router):
                self._compile()
                while not self._halting():
                    self._pulse.rest()
                    self._asked.wait()
                    self._asked.clear()
                    if not self._halting():
                        self._learn()
                        give_back()
                        self.busy = False
                        self._on_change()
        except BaseException as error:  # noqa: BLE001 - whoever looks after this thread raises it, or begins anew
            self.failure = error
        finally:
            self._pulse.rest()
            self._on_change()

    def _compile(self) -> None:
        with self._turns.compiling(self._halting) as mine:
            if mine:
                try:
                    self._cycle.warm(self._halting)
                except FAILURES as error:
                    # The first training says it again, and goes on trying.
                    event(_LOG, logging.WARNING, "nothing compiled ahead", error=told(error))
        self._pulse.rest()
        give_back()
        self.warm = not self._halting()
        self._on_change()

    def _learn(self) -> None:
        started = time.monotonic()
        self._pulse.rest()
        try:
            with self._turns.turn(self._halting) as n_threads:
                if n_threads:
                    waited_s, began = time.monotonic() - started, time.monotonic()
                    decision = self._cycle.learn(self._halting, n_threads, self._pulse.meter)
                    self._report(decision, waited_s, time.monotonic() - began)
        except Interrupted as reason:
            event(_LOG, logging.INFO, "interrupted", reason=reason)
        except FAILURES as error:
            self.postpone()
            self.trouble = f"no version could be made, trying again: {told(error)}"
            event(
                _LOG, logging.ERROR, "no version could be made", error=told(error), kept="the samples", next_s=RETRY_S
            )

    def _report(self, decision: Decision, waited_s: float, took_s: float) -> None:
        self.last, self.trouble = decision, ""
        event(
            _LOG,
            logging.INFO,
            decision.outcome,
            version=decision.version,
            holdout_accuracy=decision.holdout_accuracy,
            current_accuracy=decision.current_accuracy,
            reason=decision.reason,
            advice=decision.advice,
            waited_s=round(waited_s, 3) or None,
            took_s=round(took_s, 3),
        )


def told(error: BaseException) -> str:
    """Say what an error is; some, such as MemoryError, have no words of their own."""
    return str(error) or type(error).__name__
