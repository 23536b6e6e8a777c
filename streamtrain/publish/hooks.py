"""Runs one command after ``current`` was changed: no shell, a time limit, bounded output, nothing left behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from streamtrain.publish.change import Change

OUTPUT_BYTES = 8192
"""So much of a command's output is kept: its end, where the error stands."""

PEACE_S = 1.0
"""Between SIGTERM and SIGKILL, at the time limit."""

_LOOK_S = 0.05
# Ours alone: a command that speaks to systemd or listens in our name would confuse both.
_PRIVATE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended.

    Attributes
    ----------
    failure : str or None
        None if it ended with exit code 0.
    output : str
        The end of what it wrote to stdout and stderr, printable.
    """

    failure: str | None
    output: str


def environment(change: Change, base: Mapping[str, str], without: Sequence[str] = ()) -> dict[str, str]:
    """Environment of a command.

    Parameters
    ----------
    change : Change
    base : mapping
        What it inherits.
    without : sequence of str
        Names of variables with secrets.

    Returns
    -------
    dict
        ``STREAMTRAIN_EVENT``, ``_VERSION``, ``_PREVIOUS`` (empty if there was none), ``_MODELS``, ``_VERSION_PATH``,
        ``_PREVIOUS_PATH`` and ``_MODEL_PATH`` besides.
    """
    models = change.models_dir.absolute()
    version = models / "versions" / change.version
    told = {
        "STREAMTRAIN_EVENT": change.event,
        "STREAMTRAIN_VERSION": change.version,
        "STREAMTRAIN_PREVIOUS": change.previous or "",
        "STREAMTRAIN_MODELS": str(models),
        "STREAMTRAIN_VERSION_PATH": str(version),
        "STREAMTRAIN_PREVIOUS_PATH": str(models / "versions" / change.previous) if change.previous else "",
        "STREAMTRAIN_MODEL_PATH": str(version / "fastgrnn.safetensors"),
    }
    inherited = {name: value for name, value in base.items() if name not in _PRIVATE and name not in without}
    return inherited | told


def run(
    command: Sequence[str], env: Mapping[str, str], cwd: str | os.PathLike[str], deadline: Callable[[], float]
) -> Finished:
    """Run a command to its end, or to the deadline.

    It leads a process group of its own. At the deadline the group gets SIGTERM, a second later SIGKILL. Whatever of the
    group is left when the command itself has ended is killed too: a hook leaves nothing behind, unless it starts a
    session of its own.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; no shell reads them.
    env : mapping
        Its whole environment.
    cwd : path
    deadline : callable
        On the monotonic clock, in seconds; asked again and again, because it comes nearer when we are told to stop.

    Returns
    -------
    Finished
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - the operator's own command; no shell
            list(command),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return Finished(f"it could not be started: {error}", "")
    tail, failure = _Tail(process), None
    try:
        if not tail.follow(deadline):
            failure = "it did not end within its time limit and was killed"
            _signal(process, signal.SIGTERM)
            ends_at = time.monotonic() + PEACE_S
            tail.follow(lambda: ends_at)
    except OSError as error:
        failure = f"it was killed, because it could not be watched: {error}"
    finally:
        # Before it is waited for: until then its number cannot become another group's.
        _signal(process, signal.SIGKILL)
        code = process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if failure is not None:
        return Finished(failure, tail.text())
    if code < 0:
        return Finished(f"it was killed by signal {-code}", tail.text())
    return Finished(f"it ended with exit code {code}" if code else None, tail.text())


class _Tail:
    """Waits for a process while keeping the end of its output."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._kept = b""
        self._n_bytes = 0

    def follow(self, deadline: Callable[[], float]) -> bool:
        """Whether the process ended (it is not waited for yet) before the deadline."""
        ended = os.pidfd_open(self._process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(ended, selectors.EVENT_READ)
                if self._process.stdout is not None:
                    os.set_blocking(self._process.stdout.fileno(), False)
                    selector.register(self._process.stdout, selectors.EVENT_READ, self._process.stdout)
                while (left := deadline() - time.monotonic()) > 0:
                    ready = selector.select(min(left, _LOOK_S))
                    for key, _ in ready:
                        if key.data is not None and not self._take(key.data):
                            selector.unregister(key.fileobj)
                    if any(key.fileobj == ended for key, _ in ready):
                        if self._process.stdout is not None:
                            self._take(self._process.stdout)
                        return True
                return False
        finally:
            os.close(ended)

    def _take(self, stream: IO[bytes]) -> bool:
        """Read what is there, at most so much that nothing can keep us here; False at the end."""
        for _ in range(16):
            try:
                data = os.read(stream.fileno(), 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._n_bytes += len(data)
            self._kept = (self._kept + data)[-OUTPUT_BYTES:]
        return True

    def text(self) -> str:
        """Return the end of the output; what a terminal would obey is escaped."""
        text = self._kept.decode("utf-8", "replace").strip()
        shown = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
        left_out = self._n_bytes - len(self._kept)
        return f"({left_out} bytes before this are left out)\n{shown}" if left_out else shown


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        # The group is gone, or what is left of it runs as another user.
        return
