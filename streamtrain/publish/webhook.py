"""Tells a URL, signed, that ``current`` was changed; and checks such a signature.

The signature is HMAC-SHA256, keyed by the shared secret, over the timestamp's digits, a full stop and the bytes of the
body. Headers: ``X-Streamtrain-Timestamp`` (seconds since the epoch), ``X-Streamtrain-Signature`` (``sha256=`` and hex
digits), ``X-Streamtrain-Event`` and ``X-Streamtrain-Delivery`` (the same for every try of one delivery).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from streamtrain.model.signature import KeyFileError
from streamtrain.publish.artifact import rfc3339
from streamtrain.publish.change import Change
from streamtrain.publish.secret import read_secret

TRIES = 5
BACKOFF_S = (1.0, 2.0, 4.0, 8.0)
LEAST_SECRET_BYTES = 16

_PASSING = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to tell.

    Attributes
    ----------
    url : str
        http or https, without user and password.
    secret_file : Path or None
    secret_env : str or None
        Name of an environment variable; one of the two is given.
    """

    url: str
    secret_file: Path | None = None
    secret_env: str | None = None

    @property
    def place(self) -> str:
        """The URL without path and query, which may hold a token: what logs may show."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")

    def secret(self, environ: Callable[[str], str | None]) -> bytes:
        """Read the secret; white space around it does not count.

        Parameters
        ----------
        environ : callable
            Name of a variable to its value.

        Returns
        -------
        bytes

        Raises
        ------
        KeyFileError
            If there is none, or it is too short; it is in no message.
        """
        if self.secret_file is not None:
            where, secret = str(self.secret_file), read_secret(self.secret_file, "webhook secret").strip()
        else:
            where = f"the environment variable {self.secret_env}"
            secret = (environ(self.secret_env or "") or "").strip().encode()
        if len(secret) < LEAST_SECRET_BYTES:
            raise KeyFileError(
                f"read webhook secret: {where} holds {len(secret)} bytes; expected at least {LEAST_SECRET_BYTES}, "
                "such as `openssl rand -hex 32` gives"
            )
        return secret


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """Make the value of ``X-Streamtrain-Signature``.

    Parameters
    ----------
    secret : bytes
    timestamp : str
        As in ``X-Streamtrain-Timestamp``.
    body : bytes

    Returns
    -------
    str
    """
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def verify(
    secret: bytes, timestamp: str, body: bytes, signature: str, *, now_s: float, tolerance_s: float = 300.0
) -> bool:
    """Whether a delivery is genuine and fresh. Takes the same time wherever a wrong signature differs.

    Parameters
    ----------
    secret : bytes
    timestamp, signature : str
        Values of the headers.
    body : bytes
        As received.
    now_s : float
        Seconds since the epoch.
    tolerance_s : float
        An older or younger timestamp is refused: nobody can play an old delivery again.

    Returns
    -------
    bool
    """
    genuine = hmac.compare_digest(sign(secret, timestamp, body).encode(), signature.encode())
    return genuine and timestamp.isascii() and timestamp.isdigit() and abs(now_s - int(timestamp)) <= tolerance_s


def body_of(change: Change, delivery: str) -> bytes:
    """JSON that is sent.

    Parameters
    ----------
    change : Change
    delivery : str
        Identifies it: a receiver that knows it already may ignore it.

    Returns
    -------
    bytes
    """
    told = {
        "id": delivery,
        "event": change.event,
        "version": change.version,
        "previous": change.previous,
        "time": rfc3339(change.time_s),
    }
    return json.dumps(told).encode()


def deliver(
    webhook: Webhook,
    change: Change,
    *,
    timeout_s: float,
    environ: Callable[[str], str | None],
    clock: Callable[[], float],
    wait: Callable[[float], bool],
) -> str | None:
    """Send until it is taken (any 2xx), at most `TRIES` times.

    Connection errors, time-outs, 408, 425, 429 and 5xx are tried again, at growing intervals; other answers are not.
    Redirects are never followed: what was signed for one place is not sent to another.

    Parameters
    ----------
    webhook : Webhook
    change : Change
    timeout_s : float
        For each try, from the connection to the answer's head. The answer's body is not read.
    environ : callable
        Name of a variable to its value.
    clock : callable
        Seconds since the epoch.
    wait : callable
        Waits so many seconds; True if we are to stop.

    Returns
    -------
    str or None
        Why it was given up; None if it was taken.
    """
    try:
        secret = webhook.secret(environ)
    except KeyFileError as error:
        return str(error)
    delivery = str(uuid.uuid4())
    body = body_of(change, delivery)
    why = ""
    for nth in range(TRIES):
        if nth and wait(BACKOFF_S[min(nth, len(BACKOFF_S)) - 1]):
            return f"{why}; told to stop after {nth} of {TRIES} tries"
        timestamp = str(int(clock()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "streamtrain",
            "Connection": "close",
            "X-Streamtrain-Event": change.event,
            "X-Streamtrain-Delivery": delivery,
            "X-Streamtrain-Timestamp": timestamp,
            "X-Streamtrain-Signature": sign(secret, timestamp, body),
        }
        try:
            status = _post(webhook.url, body, headers, timeout_s)
        except (OSError, HTTPException, UnicodeError, RuntimeError) as error:
            # Some have no words, and those of HTTPException may quote what the other side sent.
            why = str(error) if isinstance(error, OSError) and str(error) else type(error).__name__
            continue
        if 200 <= status < 300:
            return None
        why = f"it answered {status}"
        if 300 <= status < 400:
            return f"{why}; redirects are not followed: configure the address itself"
        if status < 500 and status not in _PASSING:
            return why
    return f"{why}; given up after {TRIES} tries"


def _post(url: str, body: bytes, headers: dict[str, str], timeout_s: float) -> int:
    """Send once and return the status; the answer's body is left unread."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = HTTPConnection(host, port)
    deadline = time.monotonic() + timeout_s
    raw = socket.create_connection((host, port), timeout=timeout_s)
    # A socket's own time-out begins anew with every byte that drips in; this one ends the whole try.
    line = raw.dup()
    cut = threading.Event()

    def end() -> None:
        cut.set()
        try:
            line.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is closed already

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    try:
        connection.sock = raw
        if parts.scheme == "https":
            import ssl

            connection.sock = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    except (OSError, HTTPException) as error:
        if cut.is_set():
            raise TimeoutError(f"no answer within {timeout_s:g} s") from error
        raise
    finally:
        timer.cancel()
        line.close()
        connection.close()
        raw.close()
