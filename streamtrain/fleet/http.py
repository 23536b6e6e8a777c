"""A remote over HTTP: conditional requests, byte ranges, and a limit to the time and length of everything.

One connection is kept open from request to request. Redirects are not followed and no encodings are asked for: what is
stored is what comes, from the place that was named.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, RemoteDisconnected
from urllib.parse import SplitResult, unquote, urlsplit

from streamtrain import __version__
from streamtrain.fleet.errors import AbsentError, FleetError, RemoteError
from streamtrain.fleet.line import Line
from streamtrain.fleet.remote import LEAST_BYTES_PER_S, Fetched, Remote

_PIECE_BYTES = 64 * 1024
_LONGEST_VALIDATOR = 256
_LONGEST_RETRY_AFTER_S = 600.0
_SETTLED_S = 2.0
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_DROPPED = (RemoteDisconnected, ConnectionResetError, BrokenPipeError)
_HINTS = {
    401: "give the user and password in the URL",
    403: "let this host read it; some stores answer so where there is no such object",
    404: "nothing was pushed there, or it is gone",
    410: "it is gone",
}


class HttpRemote(Remote):
    """See `Remote`. A user and password in the URL are sent as basic authentication; its query goes with each request.

    Parameters
    ----------
    url : str
    timeout_s : float

    Raises
    ------
    FleetError
        If the URL names no host.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__(url, timeout_s)
        try:
            self._parts = urlsplit(url)
            self._port = self._parts.port or (443 if self._parts.scheme == "https" else 80)
        except ValueError as error:
            raise FleetError(f"{self.place!r} is not a URL: {error}") from error
        if not self._parts.hostname or not url.isascii() or not url.isprintable() or " " in url:
            raise FleetError(f"{self.place!r} names no host, or has characters that a URL cannot have")
        self._headers = {"User-Agent": f"streamtrain/{__version__}", "Accept-Encoding": "identity"}
        self._headers |= _authorization(self._parts)
        self._line: Line | None = None
        self._is_whole = False

    def read(self, path: str, limit_bytes: int, validator: str | None = None) -> Fetched | None:
        """See `Remote.read`; the validator is an ETag, or a Last-Modified where there is none."""
        with self._asking(path, _condition(validator), limit_bytes) as response:
            if response.status == 304 and validator is not None:
                self._is_whole = True
                return None
            if response.status != 200:
                raise self._unexpected(path, response)
            if (response.length or 0) > limit_bytes:
                raise RemoteError(f"{self._named(path)} has {response.length} bytes; expected {limit_bytes} at most")
            data = b"".join(self._pieces(path, response, limit_bytes))
            return Fetched(data, _validator(response))

    def stream(self, path: str, offset: int, size: int) -> Iterator[tuple[int, bytes]]:
        """See `Remote.stream`."""
        asked = {"Range": f"bytes={offset}-"} if offset else {}
        with self._asking(path, asked, size - offset) as response:
            if offset and response.status == 206:
                found = _RANGE.fullmatch(response.getheader("Content-Range", ""))
                if found is None or (int(found[1]), int(found[3])) != (offset, size):
                    raise RemoteError(f"{self._named(path)}: asked for bytes {offset} to {size} and got others")
                position = offset
            elif response.status == 200:
                position = 0
            else:
                raise self._unexpected(path, response)
            if response.length is not None and response.length != size - position:
                raise RemoteError(f"{self._named(path)} has {response.length} bytes; expected {size - position}")
            for piece in self._pieces(path, response, size - position):
                yield position, piece
                position += len(piece)
            if position < size:
                raise RemoteError(f"{self._named(path)} ended after {position} of {size} bytes")

    def close(self) -> None:
        """Close the connection."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _pieces(self, path: str, response: HTTPResponse, limit_bytes: int) -> Iterator[bytes]:
        """Give the body as it comes; its length, where it has one, is at most `limit_bytes`."""
        length, n_read = response.length, 0
        # By our own count: not every Python's `read1` knows where the body of a kept connection ends.
        while length is None or n_read < length:
            piece = response.read1(_PIECE_BYTES if length is None else min(_PIECE_BYTES, length - n_read))
            if not piece:
                if length is not None:
                    raise RemoteError(f"{self._named(path)} ended after {n_read} of {length} bytes")
                break
            n_read += len(piece)
            self.n_bytes += len(piece)
            if n_read > limit_bytes:
                raise RemoteError(f"{self._named(path)} is longer than {limit_bytes} bytes")
            yield piece
        self._is_whole = True

    @contextmanager
    def _asking(self, path: str, headers: dict[str, str], n_bytes: int) -> Iterator[HTTPResponse]:
        """Ask, and give the response; the connection is kept if its body was read to the end."""
        self._is_whole = kept = False
        try:
            response = self._ask(path, headers, self._timeout_s + n_bytes / LEAST_BYTES_PER_S)
            yield response
            kept = self._is_whole and not response.will_close
            response.close()
        except (OSError, HTTPException, ValueError) as error:
            # Those of HTTPException may quote what the other side sent, and some have no words.
            why = str(error) if isinstance(error, OSError) and str(error) else type(error).__name__
            if self._line is not None and self._line.cut.is_set():
                why = f"it took too long (under {LEAST_BYTES_PER_S} bytes a second)"
            raise RemoteError(f"{self._named(path)}: {why}") from error
        finally:
            if self._line is not None:
                self._line.pause()
            if not kept:
                self.close()

    def _ask(self, path: str, headers: dict[str, str], longest_s: float) -> HTTPResponse:
        target = f"{self._parts.path.rstrip('/')}/{path}" + (f"?{self._parts.query}" if self._parts.query else "")
        while True:
            self.n_requests += 1
            reused = self._line is not None
            if self._line is None:
                self._line = Line(self._parts, self._port, self._timeout_s)
            self._line.limit(longest_s)
            try:
                self._line.connection.request("GET", target, headers=self._headers | headers)
                return self._line.connection.getresponse()
            except _DROPPED:
                if not reused or self._line.cut.is_set():
                    raise
                self.close()  # a server may drop an idle connection at any time

    def _unexpected(self, path: str, response: HTTPResponse) -> RemoteError:
        status = response.status
        hint = _HINTS.get(status, "")
        if 300 <= status < 400:
            hint = "redirects are not followed: give the address itself"
        message = f"{self._named(path)}: the server answered {status}" + (f"; {hint}" if hint else "")
        if status in (404, 410):
            return AbsentError(message)
        asked = response.getheader("Retry-After", "").strip()
        is_number = asked.isascii() and asked.isdecimal() and len(asked) < 10
        return RemoteError(message, min(float(asked), _LONGEST_RETRY_AFTER_S) if is_number else None)

    def _named(self, path: str) -> str:
        return f"read {self.place}/{path}"


def _authorization(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _validator(response: HTTPResponse) -> str | None:
    for kind, header in (("etag", "ETag"), ("date", "Last-Modified")):
        value = response.getheader(header)
        if value and len(value) <= _LONGEST_VALIDATOR and value.isascii() and value.isprintable():
            return f"{kind}:{value}" if kind == "etag" or _is_past(value, response.getheader("Date", "")) else None
    return None


def _is_past(modified: str, date: str) -> bool:
    """Whether the second of `modified` is over by the server's clock: changes within it have the same date."""
    try:
        return (parsedate_to_datetime(date) - parsedate_to_datetime(modified)).total_seconds() >= _SETTLED_S
    except (ValueError, TypeError):  # no dates, or one with a time zone and one without
        return False


def _condition(validator: str | None) -> dict[str, str]:
    kind, _, value = (validator or "").partition(":")
    if not value.isascii() or not value.isprintable():
        return {}
    return {"etag": {"If-None-Match": value}, "date": {"If-Modified-Since": value}}.get(kind, {})
