"""Waitress in a thread of its own: bounded in threads, connections, header sizes and patience."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from waitress.server import create_server

_LOG = logging.getLogger(__name__)

_N_THREADS = 2
_LOOP_S = 10
_LIMITS: dict[str, Any] = {
    "connection_limit": 64,
    "channel_timeout": 20,
    "cleanup_interval": 10,
    "max_request_header_size": 16 << 10,
    "max_request_body_size": 1 << 10,
    "backlog": 64,
    "outbuf_overflow": 4 << 20,
}


class Server:
    """Answers at ready sockets until closed, and closes them.

    Parameters
    ----------
    app : WSGI application
        Called from two threads at most.
    sockets : sequence of socket.socket
        Listening, at least one.
    """

    def __init__(self, app: Any, sockets: Sequence[socket.socket]) -> None:
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # that a page waits for a thread is no news
        self._map: dict[int, Any] = {}
        self._server: Any = create_server(
            app, self._map, sockets=list(sockets), threads=_N_THREADS, ident="", asyncore_use_poll=True, **_LIMITS
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering; what is being answered ends first, within a second or two."""
        self._stopping.set()
        wakers = [one for one in list(self._map.values()) if hasattr(one, "pull_trigger")]
        with suppress(OSError):  # the loop may have ended by itself meanwhile, and closed what would wake it
            wakers[0].pull_trigger()
        self._thread.join()

    def _run(self) -> None:
        loop = self._server.asyncore
        while not self._stopping.is_set():
            loop.loop(timeout=_LOOP_S, use_poll=True, map=self._map, count=1)
        self._server.task_dispatcher.shutdown(timeout=1)
        loop.close_all(self._map)
