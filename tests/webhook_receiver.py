"""A real HTTP server on this machine, which takes, refuses, hangs, drips, redirects and floods as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Answers with the next of `answers`, the last one again and again; keeps what it got."""

    daemon_threads = True

    def __init__(self, answers):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.requests = []
        self.released = threading.Event()

    def handle_error(self, request, client_address):
        """Clients that hang up are what is tested here."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, self.headers, body))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer == "hang":
            self.server.released.wait(60)
        elif answer == "drip":
            while not self.server.released.wait(0.05):
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif answer == "nonsense":
            self.wfile.write(b"\x00\xff" * 50)
        elif answer == "flood":
            self.send_response(200)
            self.end_headers()
            while not self.server.released.is_set():
                self.wfile.write(b"x" * 1_000_000)
        else:
            self.send_response(answer)
            if 300 <= answer < 400:
                self.send_header("Location", "file:///etc/passwd" if answer == 301 else "/elsewhere")
            self.end_headers()

    do_GET = do_POST

    def log_message(self, *args):
        pass


@contextmanager
def serving(*answers) -> Iterator[Server]:
    with Server(answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()
