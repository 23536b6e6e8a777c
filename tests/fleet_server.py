"""A web server over a directory that does to its clients what servers and networks do."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULTS = ("truncate", "stall", "error", "changed byte", "no ranges", "old pointer", "old manifest", "drop", "slow")


def until(condition) -> None:
    """Wait for what another process does; give up after a minute, in which it hangs."""
    for _ in range(12_000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it never came to that")


class Server:
    """Serves a directory at `url`, in threads.

    Attributes
    ----------
    fault : callable
        Given the path and how often it was asked for, the name of a fault or None.
    requests : list of (path, status, bytes of the body sent, Range)
    old : dict
        Path to content that "old pointer" and "old manifest" give.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fault = lambda path, nth: None
        self.requests: list[tuple[str, int, int, str | None]] = []
        self.sent_bytes = 0
        self.old: dict[str, bytes] = {}
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        self.stall_after: int | None = None
        self.headers: dict[str, str] = {}
        self.has_etags = True
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        outer = self

        class Handler(_Handler):
            server_of = outer

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, request, client_address):
                """Clients leave in the middle; that is the point."""

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/models"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.go_on.set()
        self._http.shutdown()
        self._http.server_close()

    def note(self, path: str, status: int, n_bytes: int, asked: str | None) -> None:
        with self._lock:
            self.requests.append((path, status, n_bytes, asked))

    def bytes_of(self, name: str) -> int:
        return sum(n for path, _, n, _ in self.requests if path.endswith(name))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_of: Server

    def log_message(self, *_):
        """Say nothing."""

    def setup(self):
        super().setup()
        self.wfile = _Counting(self.wfile, self.server_of)

    def do_GET(self):
        server = self.server_of
        path = self.path.partition("?")[0].removeprefix("/models/")
        server.asked[path] += 1
        fault = server.fault(path, server.asked[path])
        asked = self.headers.get("Range")
        try:
            data = (server.root / path).read_bytes()
        except OSError:
            return self.answer(path, 404, b"not here", asked)
        if fault in ("old pointer", "old manifest") and path in server.old:
            data = server.old[path]
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        if fault == "error":
            return self.answer(path, 500, b"oh no", asked)
        if fault == "busy":
            return self.answer(path, 503, b"later", asked, {"Retry-After": "7"})
        if fault == "drop":
            self.close_connection = True
            return None
        if fault == "changed byte" and data:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        if server.has_etags and self.headers.get("If-None-Match") == tag:
            return self.answer(path, 304, b"", asked, {"ETag": tag})
        since = self.headers.get("If-Modified-Since")
        if not server.has_etags and since == self.modified(path):
            return self.answer(path, 304, b"", asked)
        head = {"ETag": tag} if server.has_etags else {"Last-Modified": self.modified(path)}
        status, start = 200, 0
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked or "")
        if found and fault != "no ranges":
            start = int(found[1])
            if start >= len(data):
                return self.answer(path, 416, b"", asked)
            status = 206
            stop = min(int(found[2]) + 1, len(data)) if found[2] else len(data)
            head["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            data = data[:stop]
        return self.answer(path, status, data[start:], asked, head, fault)

    def modified(self, path):
        return self.date_time_string((self.server_of.root / path).stat().st_mtime)

    def answer(self, path, status, body, asked, head=None, fault=None):
        server = self.server_of
        sent = body
        if fault in ("truncate", "stall"):
            sent = body[: len(body) // 2 if server.stall_after is None else server.stall_after]
            self.close_connection = True
        step = 512 if fault == "slow" else max(1, len(sent))
        server.note(path, status, len(sent), asked)  # before the client can look
        self.send_response(status)
        for name, value in {**(head or {}), **server.headers}.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for start in range(0, len(sent), step):
            self.wfile.write(sent[start : start + step])
        if fault == "stall":
            self.wfile.flush()
            server.stalled.set()
            server.go_on.wait(60)


class _Counting:
    """Counts what goes out, heads included."""

    def __init__(self, file, server):
        self._file, self._server = file, server

    def write(self, data):
        with self._server._lock:
            self._server.sent_bytes += len(data)
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)
