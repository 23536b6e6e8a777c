"""One connection to a web server, with an end to everything that is asked over it.

A socket's own time-out begins anew with every byte that drips in; `Line.limit` ends the whole request.
"""

from __future__ import annotations

import socket
import threading
from http.client import HTTPConnection
from urllib.parse import SplitResult


class Line:
    """A connection that is open, and can be used for one request after the other.

    Parameters
    ----------
    parts : SplitResult
        Of the URL.
    port : int
    timeout_s : float
        For the connection, and for silence on it.

    Attributes
    ----------
    connection : HTTPConnection
    cut : Event
        Set if a request took too long.

    Raises
    ------
    OSError
        If there is no connection to be had.
    """

    def __init__(self, parts: SplitResult, port: int, timeout_s: float) -> None:
        host = parts.hostname or ""
        self.cut = threading.Event()
        self._timer: threading.Timer | None = None
        self.connection = HTTPConnection(host, port)
        raw = socket.create_connection((host, port), timeout=timeout_s)
        self._line = raw.dup()
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if parts.scheme == "https":
                import ssl

                self.limit(2 * timeout_s)
                raw = ssl.create_default_context().wrap_socket(raw, server_hostname=host)
        except BaseException:  # an interrupt too leaves no socket behind; it goes on up
            self.pause()
            self._line.close()
            raw.close()
            raise
        self.connection.sock = raw

    def limit(self, longest_s: float) -> None:
        """End what is asked from now on after so many seconds, whatever comes until then."""
        self.pause()
        self._timer = threading.Timer(longest_s, self._end)
        self._timer.daemon = True
        self._timer.start()

    def pause(self) -> None:
        """Lift the limit: nothing is asked now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()  # it must not end the next request, nor a socket that has this one's number
            self._timer = None

    def close(self) -> None:
        """Close the connection."""
        self.pause()
        self.connection.close()
        self._line.close()

    def _end(self) -> None:
        self.cut.set()
        try:
            self._line.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is closed already
