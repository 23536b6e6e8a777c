"""Tells the outside that ``current`` was changed: hooks in order, each webhook by itself, all beside the work.

Each has a thread and a short queue. Where a queue is full, the oldest change in it gives way: whoever is told late
wants to know what is current now. Nothing here can undo a publish or keep the trainer waiting.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from streamtrain.publish.change import Change
from streamtrain.publish.hooks import PEACE_S, environment, run
from streamtrain.publish.webhook import Webhook, deliver

_LOG = logging.getLogger(__name__)

QUEUE = 16
"""Changes that may wait for a hook or a webhook."""
STOP_GRACE_S = 5.0
"""What is running when we are told to stop has so much longer, or what is left of its limit if that is less."""

_LOOK_S = 0.05
_SLACK_S = 0.5


class Announcer:
    """Runs hooks and sends webhooks.

    Starts no thread before there is something to tell.

    Parameters
    ----------
    hooks : sequence of commands
        Each a sequence of words.
    hook_timeout_s : float
        For each command.
    webhooks : sequence of Webhook
    webhook_timeout_s : float
        For each try.
    clock : callable
        Seconds since the epoch.
    environ : mapping, optional
        Where variables are looked up; ours if None.
    """

    def __init__(
        self,
        hooks: Sequence[Sequence[str]] = (),
        hook_timeout_s: float = 30.0,
        webhooks: Sequence[Webhook] = (),
        webhook_timeout_s: float = 5.0,
        *,
        clock: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._hooks, self._hook_timeout_s = hooks, hook_timeout_s
        self._webhooks, self._webhook_timeout_s = webhooks, webhook_timeout_s
        self._clock = clock
        self._environ = os.environ if environ is None else environ
        self._ends_at_s = float("inf")
        self._stopping = threading.Event()
        self._workers = [_Worker("hooks", self._run_hooks, self._stopping)] if hooks else []
        self._workers += [self._worker(webhook) for webhook in webhooks]

    def check(self) -> None:
        """Read every secret once.

        Raises
        ------
        KeyFileError
            If one cannot be used: better now than after the next publish.
        """
        for webhook in self._webhooks:
            webhook.secret(self._environ.get)

    def tell(self, change: Change) -> None:
        """Tell of a change, and return at once.

        Parameters
        ----------
        change : Change
        """
        for worker in self._workers:
            worker.add(change)

    def drain(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Wait until everything was told, or given up, which takes no longer than the limits allow.

        Parameters
        ----------
        should_stop : callable
            Ends the wait, as `close` does.
        """
        while any(worker.busy for worker in self._workers):
            if should_stop():
                self.close()
                return
            time.sleep(_LOOK_S)

    def ask_to_stop(self, grace_s: float | None = None) -> None:
        """Give up what waits; what is running may end within `STOP_GRACE_S` (or so many seconds). Returns at once.

        Asked again, it can only become less.
        """
        grace_s = STOP_GRACE_S if grace_s is None else grace_s
        self._ends_at_s = min(self._ends_at_s, time.monotonic() + grace_s)
        self._stopping.set()

    @property
    def ending(self) -> bool:
        """Whether something is still running, after `ask_to_stop`, for which `close` would wait."""
        return any(worker.busy for worker in self._workers) and time.monotonic() < self._over_at_s

    def close(self, grace_s: float | None = None) -> None:
        """Stop, as `ask_to_stop` says, and wait for the end of what is running."""
        self.ask_to_stop(grace_s)
        for worker in self._workers:
            worker.join(self._over_at_s)

    @property
    def _over_at_s(self) -> float:
        return self._ends_at_s + PEACE_S + _SLACK_S

    def _deadline(self, started: float) -> float:
        return min(started + self._hook_timeout_s, self._ends_at_s)

    def _run_hooks(self, change: Change) -> None:
        secrets = [webhook.secret_env for webhook in self._webhooks if webhook.secret_env]
        env = environment(change, self._environ, secrets)
        for command in self._hooks:
            if self._stopping.is_set():
                _LOG.warning("hook %s is not run for %s %s: told to stop", command[0], change.event, change.version)
                continue
            started = time.monotonic()
            ended = run(command, env, change.models_dir, partial(self._deadline, started))
            spent = f"{time.monotonic() - started:.1f} s"
            output = f"; it said:\n{ended.output}" if ended.output else ""
            if ended.failure is None:
                _LOG.info("hook %s after %s %s: done in %s%s", command[0], change.event, change.version, spent, output)
            else:
                _LOG.warning(
                    "hook %s after %s %s: %s, after %s; %s stays current%s",
                    *(command[0], change.event, change.version, ended.failure, spent, change.version, output),
                )

    def _worker(self, webhook: Webhook) -> _Worker:
        def send(change: Change) -> None:
            failure = deliver(
                webhook,
                change,
                timeout_s=self._webhook_timeout_s,
                environ=self._environ.get,
                clock=self._clock,
                wait=self._stopping.wait,
            )
            if failure is None:
                _LOG.info("webhook %s: told of %s %s", webhook.place, change.event, change.version)
            else:
                _LOG.warning("webhook %s: not told of %s %s: %s", webhook.place, change.event, change.version, failure)

        return _Worker(f"webhook {webhook.place}", send, self._stopping)


class _Worker:
    """One thread that tells one receiver of changes, in order."""

    def __init__(self, name: str, tell: Callable[[Change], None], stopping: threading.Event) -> None:
        self._name, self._tell, self._stopping = name, tell, stopping
        self._waiting: deque[Change] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether there is something left to tell."""
        with self._lock:
            return self._thread is not None

    def add(self, change: Change) -> None:
        with self._lock:
            if self._stopping.is_set():
                _LOG.warning("%s: not told of %s %s: told to stop", self._name, change.event, change.version)
                return
            if len(self._waiting) == QUEUE:
                old = self._waiting.popleft()
                _LOG.warning("%s: too slow, not told of %s %s", self._name, old.event, old.version)
            self._waiting.append(change)
            if self._thread is None:
                # A daemon thread: looking up a host's name has no time limit, and must not keep us from ending.
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                try:
                    self._thread.start()
                except RuntimeError as error:
                    # No more threads, no more memory: what was published stays published.
                    self._thread = None
                    _LOG.warning("%s: not told of %s %s yet: %s", self._name, change.event, change.version, error)

    def join(self, until: float) -> None:
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                _LOG.warning("%s: did not end in time and is left behind", self._name)

    def _work(self) -> None:
        try:
            while (change := self._next()) is not None:
                self._tell(change)
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _next(self) -> Change | None:
        with self._lock:
            if self._stopping.is_set():
                for left in self._waiting:
                    _LOG.warning("%s: not told of %s %s: told to stop", self._name, left.event, left.version)
                self._waiting.clear()
            if not self._waiting:
                self._thread = None
                return None
            return self._waiting.popleft()
