"""The daemon's life: signals, systemd, wake-ups and when to train. No maths, no formats."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from streamtrain.config import Config, ConfigError
from streamtrain.config import load as load_config
from streamtrain.cycle import Cycle, Interrupted, Progress
from streamtrain.dataset.errors import StoreDamagedError, StoreError
from streamtrain.ingest.watch import Watcher
from streamtrain.intake import SUMMARY
from streamtrain.lessons import TeacherError
from streamtrain.ops.notify import Notifier, watchdog_interval_s
from streamtrain.publish.errors import PublishError
from streamtrain.publish.lock import LockedError
from streamtrain.publish.registry import VersionError
from streamtrain.types import Decision

_LOG = logging.getLogger(__name__)

SCAN_INTERVAL_S = 2.0
"""A scan comes at least so often: events are hints, and some file systems send none."""
QUIET_S = 0.1
"""At most one scan in this time, however many events come."""
RETRY_S = 10.0
"""Between two tries where the models directory or the state database cannot be written."""


class Daemon:
    """Watches, ingests, trains and publishes until told to stop.

    Parameters
    ----------
    config_file : Path
        Read at the start and again at every SIGHUP.
    notifier : Notifier
    clock, monotonic : callable
        Seconds since the epoch; seconds of a clock that is never set back.

    Raises
    ------
    ConfigError
        If the file cannot be used.
    """

    def __init__(
        self,
        config_file: Path,
        notifier: Notifier,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = config_file
        self.config = load_config(config_file)
        self._notifier, self._clock, self._monotonic = notifier, clock, monotonic
        self._previous: Config | None = None
        self._stopping = threading.Event()
        self._reloading = threading.Event()
        self._watchdog_s = watchdog_interval_s(os.environ, os.getpid())
        self._kicked_at = -1e9
        self._not_before = -1e9
        self._read_not_before = -1e9
        self._n_lost = 0
        self._refused: set[tuple[str, str]] = set()

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; returns when everything is committed and closed.

        Raises
        ------
        StoreError, LockedError
            If the state database or the models directory belongs to another process, or can't be used.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)
        ready = False
        while not self._stopping.is_set():
            with self._open() as cycle:
                self._acquire(cycle)
                warming = threading.Thread(target=cycle.warm, name="warm", daemon=True)
                warming.start()
                with closing(Watcher(self.config.logs.directory)) as watcher:
                    self._ingest_while(cycle, warming)
                    if not self._halting():
                        self._say_ready(cycle, again=ready)
                        ready = True
                    self._serve(cycle, watcher)
            if self._reloading.is_set():
                self._reload()
        self._notifier.stopping("stopped")
        _LOG.info("stopped")

    def _ingest_while(self, cycle: Cycle, warming: threading.Thread) -> None:
        """Read logs until the kernels are compiled: only then can anything be trained, and systemd is told."""
        self._ingest(cycle)
        while warming.is_alive() and not self._halting():
            warming.join(QUIET_S)
            self._ingest(cycle)
            self._kick()

    def _serve(self, cycle: Cycle, watcher: Watcher) -> None:
        while not (self._stopping.is_set() or self._reloading.is_set()):
            started = self._monotonic()
            self._ingest(cycle)
            if self._due(cycle):
                self._learn(cycle)
            self._kick()
            if self._stopping.is_set() or self._reloading.is_set():
                return
            watcher.wait(self._wait_s())
            remaining = QUIET_S - (self._monotonic() - started)
            if remaining > 0:
                self._stopping.wait(remaining)

    def _wait_s(self) -> float:
        return SCAN_INTERVAL_S if self._watchdog_s is None else min(SCAN_INTERVAL_S, self._watchdog_s / 3)

    def _acquire(self, cycle: Cycle) -> None:
        try:
            cycle.registry.acquire()
        except LockedError:
            raise
        except PublishError as error:
            # Reading logs needs no models directory: samples are kept and publishing is tried again later.
            _LOG.error("the models directory cannot be written; logs are read on, training waits: %s", error)

    def _ingest(self, cycle: Cycle) -> None:
        if self._monotonic() < self._read_not_before:
            return
        try:
            report = cycle.ingest(self._halting)
        except StoreDamagedError:
            raise
        except (StoreError, OSError, MemoryError) as error:
            # A full disk passes, and a restart would not help: what was not committed is read again.
            self._not_before = self._read_not_before = self._monotonic() + RETRY_S
            _LOG.error("nothing can be kept, and nothing is lost; next try in %g s: %s", RETRY_S, _told(error))
            self._notifier.status(f"nothing can be kept, trying again: {_told(error)}")
            return
        for path, reason in sorted(set(report.refused) - self._refused):
            _LOG.warning("left alone: %r: %s", path, reason)
        self._refused = set(report.refused)
        if report.lines:
            _LOG.info("ingested %s", " ".join(f"{name}={getattr(report, name)}" for name in SUMMARY))
        if report.n_lost > self._n_lost:
            _LOG.warning("%d logs disappeared before they were read to their end", report.n_lost - self._n_lost)
        self._n_lost = report.n_lost

    def _due(self, cycle: Cycle) -> bool:
        if self._monotonic() < self._not_before:
            return False
        try:
            return cycle.due()
        except StoreError as error:
            self._not_before = self._monotonic() + RETRY_S
            _LOG.error("the state could not be read, next try in %g s: %s", RETRY_S, _told(error))
            return False

    def _learn(self, cycle: Cycle) -> None:
        try:
            decision = cycle.learn(self._halting)
        except Interrupted as reason:
            _LOG.info("%s", reason)
        except (PublishError, VersionError, TeacherError, StoreError, OSError, MemoryError) as error:
            self._not_before = self._monotonic() + RETRY_S
            _LOG.error("no version could be made; the samples are kept, next try in %g s: %s", RETRY_S, _told(error))
            self._notifier.status(f"no version could be made, trying again: {_told(error)}")
        else:
            self._not_before = -1e9
            self._report(decision)

    def _report(self, decision: Decision) -> None:
        told = {key: value for key, value in asdict(decision).items() if key in ("version", "holdout_accuracy")}
        _LOG.info("%s %s: %s", decision.outcome, told, decision.reason)
        if decision.advice is not None:
            _LOG.info("advice: %s", decision.advice)
        self._notifier.status(f"{decision.outcome}: {decision.reason}")

    def _say_ready(self, cycle: Cycle, again: bool) -> None:
        counts = cycle.store.counts()
        try:
            current = cycle.registry.current()
        except PublishError as error:
            current = f"nothing ({error})"
        text = f"watching {self.config.logs.directory}, {counts.n_samples} samples, serving {current or 'nothing yet'}"
        self._notifier.ready(text)
        _LOG.info("%s: %s", "reloaded" if again else "ready", text)

    def _reload(self) -> None:
        """Take the configuration file anew as a whole, or not at all."""
        self._notifier.reloading()
        self._reloading.clear()  # before the file is read: a signal that comes meanwhile counts
        try:
            self._previous, self.config = self.config, load_config(self._file)
        except (ConfigError, OSError) as error:
            self._previous = None
            _LOG.error("the configuration is refused and the old one stays: %s", error)
            self._notifier.ready("the new configuration is refused, the old one stays")

    def _open(self) -> Cycle:
        """Open the stages; after a reload that can't be carried out, under the configuration from before."""
        try:
            return Cycle(self.config, self._clock, self._on_progress)
        except (StoreError, PublishError, OSError, ValueError) as error:
            if self._previous is None:
                raise
            _LOG.error("the configuration can't be used and the old one stays: %s", _told(error))
            self.config, self._previous = self._previous, None
            return Cycle(self.config, self._clock, self._on_progress)

    def _halting(self) -> bool:
        return self._stopping.is_set() or self._reloading.is_set()

    def _on_progress(self, progress: Progress) -> None:
        self._kick()

    def _kick(self) -> None:
        """Tell the watchdog of progress, not more often than it needs to know."""
        if self._watchdog_s is None:
            return
        now = self._monotonic()
        if now - self._kicked_at >= self._watchdog_s / 4:
            self._kicked_at = now
            self._notifier.watchdog()

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping.set()

    def _on_reload(self, number: int, frame: FrameType | None) -> None:
        self._reloading.set()


def _told(error: Exception) -> str:
    """Say what an error is; some, such as MemoryError, have no words of their own."""
    return str(error) or type(error).__name__
