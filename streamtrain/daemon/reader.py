"""The thread that reads the logs of one router, and says when there is enough new to train on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing

from streamtrain.cycle import Cycle
from streamtrain.daemon.pulse import Pulse
from streamtrain.daemon.trainer import RETRY_S, Trainer, told
from streamtrain.dataset.errors import StoreDamagedError, StoreError
from streamtrain.ingest.ingestor import IngestReport
from streamtrain.ingest.watch import Watcher
from streamtrain.intake import SUMMARY
from streamtrain.ops.logs import about, event

_LOG = logging.getLogger(__name__)

SCAN_INTERVAL_S = 2.0
"""A scan comes at least so often: events are hints, and some file systems send none."""
QUIET_S = 0.1
"""At most one scan in this time, however many events come."""
TELL_S = 10.0
"""What was read is logged at most so often, added up."""


class Reader:
    """Reads until it is stopped.

    Parameters
    ----------
    router : str
        Name for the log; "" for the only one.
    cycle : Cycle
    trainer : Trainer
        Asked to train when it is time.
    pulse : Pulse
    halting : callable
        Whether to stop.
    on_change : callable
        Called when there is something new to tell.
    on_read : callable
        Called after each pass that found lines, with the seconds it took.
    """

    def __init__(
        self,
        router: str,
        cycle: Cycle,
        trainer: Trainer,
        pulse: Pulse,
        halting: Callable[[], bool],
        on_change: Callable[[], None],
        on_read: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._router, self._cycle, self._trainer = router, cycle, trainer
        self._pulse, self._halting, self._on_change, self._on_read = pulse, halting, on_change, on_read
        self._watcher: Watcher | None = None
        self._not_before = self._told_at = -1e9
        self._n_lost = 0
        self._refused: set[tuple[str, str]] = set()
        self._read = dict.fromkeys(SUMMARY, 0)
        self.scanned = False
        self.n_samples = 0
        self.trouble = ""
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=f"read {router}".strip(), daemon=True)

    def wake(self) -> None:
        """End the wait for a change, to look at once."""
        if self._watcher is not None:
            self._watcher.wake()

    def on_progress(self) -> None:
        """Take from the cycle that a block was read."""
        self._pulse.beat("reading")

    def _run(self) -> None:
        try:
            with about(self._router), closing(Watcher(self._cycle.config.logs.directory)) as watcher:
                self._watcher = watcher
                while not self._halting():
                    started = time.monotonic()
                    self._pulse.beat("reading")
                    before = (self.scanned, self.n_samples, self.trouble)
                    self._ingest()
                    self._consider()
                    self.scanned = True
                    if (self.scanned, self.n_samples, self.trouble) != before:
                        self._on_change()
                    self._pulse.rest(SCAN_INTERVAL_S)
                    if self._halting():
                        break
                    watcher.wait(SCAN_INTERVAL_S)
                    while not self._halting() and (left := QUIET_S - (time.monotonic() - started)) > 0:
                        time.sleep(min(left, QUIET_S))
                self._tell_read(0.0)
        except BaseException as error:  # noqa: BLE001 - whoever looks after this thread raises it, or begins anew
            self.failure = error
        finally:
            self._pulse.rest()
            self._on_change()

    def _ingest(self) -> None:
        if time.monotonic() < self._not_before:
            return
        began = time.monotonic()
        try:
            report = self._cycle.ingest(self._halting)
        except StoreDamagedError:
            raise
        except (StoreError, OSError, MemoryError) as error:
            # A full disk passes, and a restart would not help: what was not committed is read again.
            self._not_before = time.monotonic() + RETRY_S
            self._trainer.postpone()
            self.trouble = f"nothing can be kept, trying again: {told(error)}"
            event(_LOG, logging.ERROR, "nothing can be kept", error=told(error), lost="nothing", next_s=RETRY_S)
            return
        self.trouble = ""
        if report.lines:
            self._on_read(time.monotonic() - began)
        self._report(report)

    def _consider(self) -> None:
        """Ask for a training if it is time for one."""
        if time.monotonic() < self._not_before:
            return
        try:
            counts = self._cycle.store.counts()
            self.n_samples = counts.n_samples
            if self._trainer.free and self._cycle.due(counts):
                self._trainer.ask()
        except StoreError as error:
            self._trainer.postpone()
            event(_LOG, logging.ERROR, "the state could not be read", error=told(error), next_s=RETRY_S)

    def _report(self, report: IngestReport) -> None:
        for path, reason in sorted(set(report.refused) - self._refused):
            event(_LOG, logging.WARNING, "left alone", path=path, reason=reason)
        self._refused = set(report.refused)
        for name in SUMMARY:
            self._read[name] = getattr(report, name) + (self._read[name] if name != "pending" else 0)
        self._tell_read(TELL_S)
        if report.n_lost > self._n_lost:
            n = report.n_lost - self._n_lost
            event(_LOG, logging.WARNING, "logs disappeared", n=n, before="they were read to their end")
        self._n_lost = report.n_lost

    def _tell_read(self, at_least_s: float) -> None:
        """Log what was read since the last time, if that was so long ago."""
        if self._read["lines"] and time.monotonic() - self._told_at >= at_least_s:
            event(_LOG, logging.INFO, "ingested", **self._read)
            self._read = dict.fromkeys(SUMMARY, 0)
            self._told_at = time.monotonic()
