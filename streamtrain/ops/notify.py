"""Tells systemd what the service is doing, by the sd_notify protocol: datagrams to the socket in NOTIFY_SOCKET."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# systemd refuses longer datagrams; a status line a person reads is far shorter.
_MAX_STATUS_CHARS = 500
_TIMEOUT_S = 1.0


def watchdog_interval_s(environ: Mapping[str, str], pid: int) -> float | None:
    """Return the time within which systemd wants to hear from this process.

    Parameters
    ----------
    environ : mapping
        The process environment, with WATCHDOG_USEC and WATCHDOG_PID when the unit has WatchdogSec.
    pid : int
        Of this process.

    Returns
    -------
    float or None
        Seconds; None when no watchdog watches this process. Half of it is a good interval to notify at.
    """
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or int(usec) == 0:
        return None
    watched = environ.get("WATCHDOG_PID", "")
    if watched and watched != str(pid):
        return None
    return int(usec) / 1e6


@dataclass(frozen=True, slots=True)
class Notifier:
    """A line to systemd; every call does nothing when the service was not started with one.

    No call raises when systemd cannot be reached: a service that works but cannot say so goes on working. Each returns
    whether the message was delivered, within a second.

    Attributes
    ----------
    address : str or None
        A path, or an abstract socket's name after "@"; None for no systemd.
    monotonic_ns : callable
        CLOCK_MONOTONIC in nanoseconds.
    """

    address: str | None
    monotonic_ns: Callable[[], int] = time.monotonic_ns

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Notifier:
        """Return the notifier that NOTIFY_SOCKET asks for.

        Parameters
        ----------
        environ : mapping, optional
            `os.environ` without.
        """
        address = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
        return cls(address if address.startswith(("/", "@")) and len(address) > 1 else None)

    def ready(self, status: str = "") -> bool:
        """Say that start-up, or a reload, is complete."""
        return self._send("READY=1", *_status(status))

    def status(self, status: str) -> bool:
        """Say in one line what the service is doing now; `systemctl status` shows it."""
        return self._send(*_status(status))

    def watchdog(self) -> bool:
        """Say that the service makes progress."""
        return self._send("WATCHDOG=1")

    def reloading(self) -> bool:
        """Say that the configuration is being read again; `ready` must follow.

        MONOTONIC_USEC goes with it, as systemd 253 and later ask of Type=notify-reload; older ones ignore it.
        """
        return self._send("RELOADING=1", f"MONOTONIC_USEC={self.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> bool:
        """Say that the service is shutting down."""
        return self._send("STOPPING=1", *_status(status))

    def extend_timeout(self, seconds: float) -> bool:
        """Ask for more time to start, reload or stop, from now on."""
        return self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _send(self, *lines: str) -> bool:
        if self.address is None or not lines:
            return False
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(_TIMEOUT_S)
            try:
                sender.sendto("\n".join(lines).encode(errors="replace"), address)
            except OSError:
                # systemd being restarted, or its queue being full, is not this service's failure.
                return False
        return True


def _status(text: str) -> tuple[str, ...]:
    # A line break would start another assignment, such as a forged READY=1.
    line = "".join(char if char.isprintable() else " " for char in text)[:_MAX_STATUS_CHARS]
    return (f"STATUS={line}",) if line else ()
