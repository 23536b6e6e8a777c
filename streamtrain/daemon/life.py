"""The daemon's life: signals, systemd, the watchdog, and the workers it looks after. No maths, no formats."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from streamtrain.config import ConfigError, Service, load_service
from streamtrain.daemon.bell import Bell
from streamtrain.daemon.crew import REFUSALS, Crew
from streamtrain.daemon.pulse import PATIENCE_S
from streamtrain.daemon.trainer import told
from streamtrain.ops.board import Board
from streamtrain.ops.front import Front
from streamtrain.ops.logs import LineHandler, event
from streamtrain.ops.notify import Notifier, watchdog_interval_s

_LOG = logging.getLogger(__name__)

STOP_S = 2.0
"""Told to stop, threads have so long to come to the end of their block or epoch; then they are left to the kernel."""
HOOKS_S = 1.0
"""And hooks that run so much longer, then told to end and, a second later, killed: all in all within five seconds, also
where the receiver of a webhook doesn't answer."""
STATUS_S = 1.0
"""A status line comes at most so often."""
DAMPED_S = 0.25
"""Workers wake the main thread at most so often: an epoch may take a millisecond."""
START_S = 60.0
"""Until it is ready, systemd is asked again and again for so much more time: the first scan may find very much."""
_LONGEST_WAIT_S = 30.0


class StopAskedError(Exception):
    """Told to stop in the middle of a change."""


class Daemon:
    """Watches, ingests, trains and publishes until told to stop.

    Parameters
    ----------
    config_file : Path
        Read at the start and again at every SIGHUP.
    notifier : Notifier
    clock, monotonic : callable
        Seconds since the epoch; seconds of a clock that is never set back.
    patience_s : float
        Work without progress for so long hangs, and the watchdog is not told of anything any more.
    configure_logs : callable, optional
        Called with the configuration at the start and after each reload; returns what writes the log.

    Attributes
    ----------
    crew : Crew
        The workers, and what each does now.
    refused : str
        What is wrong with the configuration file as it is now, where the one from before stays; else empty.
    abandoned : bool
        A thread did not end in time: whoever started this must end the process, which is safe at any moment.

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
        patience_s: float = PATIENCE_S,
        configure_logs: Callable[[Service], LineHandler | None] = lambda service: None,
    ) -> None:
        self._file = config_file
        self.service = load_service(config_file)
        self._notifier, self._monotonic = notifier, monotonic
        self._configure_logs = configure_logs
        self._bell = Bell()
        self.board = Board(clock, monotonic)
        self._front = Front(self.board)
        self.crew = Crew(clock, monotonic, patience_s, self._on_change, self._while_waiting, self.board)
        self._stop_asked = self._reload_asked = False
        self._watchdog_s = watchdog_interval_s(os.environ, os.getpid())
        self._kicked_at = self._told_at = self._rang_at = self._extended_at = -1e9
        self._told = ""
        self._stalled: tuple[str, ...] = ()
        self._ready = False
        self.refused = ""
        self._refused_shortly = ""
        self._logs: LineHandler | None = None
        self.abandoned = False

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; returns when everything is committed and closed.

        Raises
        ------
        StoreError, LockedError
            If the state database or the models directory of the only router (or of every one) belongs to another
            process, or can't be used.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)
        self._logs = self._configure_logs(self.service)
        try:
            self._show()
            self.crew.hire(self.service.routers)
            rung = True
            while not self._stop_asked:
                self.crew.look_after()
                self._tick()
                if self._reload_asked:
                    self._reload()
                elif not self._ready and self.crew.ready:
                    self._ready = True
                    self._say_ready()
                    event(_LOG, logging.INFO, "ready", status=self._told)
                # What changes soon after a change rings no bell, and is looked at a little later.
                rung = self._bell.wait(DAMPED_S if rung else self._wait_s())
        except StopAskedError:
            pass  # which is what we do now
        finally:
            self._stop()

    def _show(self) -> None:
        status = self.service.status
        self._front.show(self.service.routers, status.listen, status.textfile)

    def _stop(self) -> None:
        self._notifier.stopping("stopping")
        deadline = time.monotonic() + STOP_S
        self.crew.ask_to_stop()
        self._front.close()  # meanwhile
        self.abandoned = not self.crew.dismiss(deadline, HOOKS_S)
        if self.abandoned:
            event(_LOG, logging.INFO, "stopped in the middle", kept="everything that was read", lost="nothing")
        event(_LOG, logging.INFO, "stopped")
        self._notifier.status("stopped")

    def _reload(self) -> None:
        """Take the configuration file anew as a whole, or not at all."""
        if self._ready:
            self._notifier.reloading()
        self._reload_asked = False  # before the file is read: a signal that comes meanwhile counts
        try:
            service = load_service(self._file)
            self.crew.change(service.routers)
        except REFUSALS as error:
            self._refuse(error)
        else:
            self.service, self.refused = service, ""
            self._logs = self._configure_logs(service) or self._logs
            self.crew.note_refusal(None)
            self._show()
            event(_LOG, logging.INFO, "reloaded")
        if self._ready:
            self._say_ready()

    def _refuse(self, error: Exception) -> None:
        self.refused = "; ".join(line.strip() for line in told(error).splitlines())
        # A status line is short: what goes on has its place in it too, and the log has the whole.
        given = [one.given for one in error.mistakes] if isinstance(error, ConfigError) else []
        self._refused_shortly = ", ".join(dict.fromkeys(given)) or self.refused
        how = "is refused" if isinstance(error, ConfigError) else "can't be used"
        what = f"the configuration {how} and the old one stays"
        event(_LOG, logging.ERROR, what, error=self.refused)
        self.crew.note_refusal(self.refused)

    def _say_ready(self) -> None:
        self.board.note_ready()
        self._told, self._told_at = self._status(), self._monotonic()
        self._notifier.ready(self._told)

    def _status(self) -> str:
        refused = (
            f"the new configuration is refused, the old one stays: {self._refused_shortly}" if self.refused else ""
        )
        stalled = f"NO PROGRESS: {', '.join(self._stalled)}" if self._stalled else ""
        return " | ".join(part for part in (stalled, refused, self.crew.told()) if part)

    def _tick(self) -> None:
        """Tell systemd what is new, and the watchdog of progress if there is any."""
        now = self._monotonic()
        if self._watchdog_s is not None and now - self._kicked_at >= self._watchdog_s / 4:
            stalled = self.crew.stalled()
            if stalled and tuple(stalled) != self._stalled:
                for name, seconds in stalled.items():
                    event(_LOG, logging.ERROR, "no progress", of=name, for_s=round(seconds, 1))
            self._stalled = tuple(stalled)
            self.board.note_stalled(self._stalled)
            if not stalled:
                self._kicked_at = now
                self._notifier.watchdog()
        if not self._ready and now - self._extended_at >= START_S / 6 and not self.crew.stalled():
            self._extended_at = now
            self._notifier.extend_timeout(START_S)
        if now - self._told_at >= STATUS_S:
            status = self._status()
            if status != self._told and self._notifier.address is not None:
                self._told, self._told_at = status, now
                self._notifier.status(status)
        if self._logs is not None:
            self._logs.tick()

    def _while_waiting(self) -> None:
        self._tick()
        if self._stop_asked:
            raise StopAskedError

    def _wait_s(self) -> float:
        longest = _LONGEST_WAIT_S if self._watchdog_s is None else self._watchdog_s / 4
        if not self._ready:
            longest = min(longest, START_S / 6)
        elif self._notifier.address is not None and self._status() != self._told:
            longest = min(longest, max(0.0, self._told_at + STATUS_S - self._monotonic()))
        return min(longest, self.crew.retry_in_s())

    def _on_change(self) -> None:
        now = self._monotonic()
        if now - self._rang_at >= DAMPED_S:
            self._rang_at = now
            self._bell.ring()

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop_asked = True
        self._bell.ring()

    def _on_reload(self, number: int, frame: FrameType | None) -> None:
        self._reload_asked = True
        self._bell.ring()
