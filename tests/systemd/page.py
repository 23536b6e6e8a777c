"""Visits the status page of the booted service, with nothing but the system's own Python.

page.py shows WHERE SAMPLES CURRENT REFUSED   the page, the state and the metrics are there and say so; REFUSED is a
                                              part of what the configuration file is refused for, or ""
page.py answers WHERE                         the page is there, however long it takes
page.py refuses WHERE                         nobody answers
page.py watch WHERE FILE                      asks again and again until SIGTERM, and writes a line an answer into FILE;
                                              while FILE.closed exists, no answer is expected
page.py tell FILE N_ENDED                     sums up, and fails where a visitor was turned away, or cut off more often
                                              than the service ended

WHERE is host:port, or the path of a Unix socket.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import sys
import time
from pathlib import Path

PATIENCE_S = 300
PAUSE_S = 0.2


class Connection(http.client.HTTPConnection):
    """To a port, or to a Unix socket."""

    def __init__(self, where):
        self._path = where if where.startswith("/") else None
        super().__init__("localhost" if self._path else where, timeout=PATIENCE_S)

    def connect(self):
        if self._path is None:
            super().connect()
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)


def get(where, address):
    """Status and body of one answer, asked for by a connection of its own."""
    with contextlib.closing(Connection(where)) as connection:
        connection.request("GET", address)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def shows(where, samples, current, refused):
    """Exit with what is not as it should be."""
    found = {}
    for address in ("/", "/status.json", "/metrics"):
        status, found[address] = get(where, address)
        if status != 200:
            sys.exit(f"{address}: status {status}")
    state = json.loads(found["/status.json"])
    version = state["current"] and state["current"]["version"]
    reason = state["refused_configuration"]
    if (state["ingested"]["samples"], version) != (int(samples), current or None):
        sys.exit(f"/status.json: {state['ingested']}, current {version}")
    if (refused or None) != reason and not (refused and refused in (reason or "")):
        sys.exit(f"/status.json: the configuration is refused for {reason}")
    wanted = {
        "/metrics": [
            f'streamtrain_samples_total{{router=""}} {float(samples)}\n',
            f'streamtrain_config_reload_successful{{router=""}} {float(not refused)}\n',
            *([f'streamtrain_champion_info{{router="",version="{current}"}} 1.0\n'] if current else []),
        ],
        "/": [
            f'<data value="{samples}" data-key="window.samples">',
            f'/versions/{current}"' if current else "nothing was published yet",
            *(["the configuration file is refused and the one from before stays"] if refused else []),
        ],
    }
    for address, texts in wanted.items():
        for text in texts:
            if text not in found[address]:
                sys.exit(f"{address}: no {text!r} in\n{found[address]}")


def answers(where):
    status, body = get(where, "/")
    if status != 200 or "</html>" not in body:
        sys.exit(f"status {status}: {body}")


def refuses(where):
    try:
        sys.exit(f"answered, with status {get(where, '/')[0]}")
    except (ConnectionRefusedError, FileNotFoundError):
        return


def watch(where, file):
    over = []
    signal.signal(signal.SIGTERM, lambda number, frame: over.append(number))
    closed = Path(f"{file}.closed")
    with Path(file).open("a", buffering=1) as out:
        while not over:
            expected, life = not closed.exists(), None
            try:
                status, body = get(where, "/status.json")
                said = "answered" if status == 200 else f"status {status}"
                life = json.loads(body)["started"] if status == 200 else None
            except ConnectionRefusedError:
                said = "refused"
            except (ConnectionError, http.client.HTTPException):
                said = "cut off"
            except TimeoutError:
                said = "timeout"
            if not expected or closed.exists():
                said = "closed"
            out.write(json.dumps([time.monotonic(), said, life]) + "\n")
            time.sleep(PAUSE_S)


def tell(file, n_ended):
    seen = [json.loads(line) for line in Path(file).read_text().splitlines()]
    said = [one for _, one, _ in seen]
    within, across = 0.0, 0.0  # of one process, and from one to the next
    last_at, last_life = None, None
    for at, one, life in seen:
        if one == "closed":
            last_at = None
        elif one == "answered":
            if last_at is not None and life == last_life:
                within = max(within, at - last_at)
            elif last_at is not None:
                across = max(across, at - last_at)
            last_at, last_life = at, life
    n_answered, n_cut = said.count("answered"), said.count("cut off")
    others = sorted(set(said) - {"answered", "cut off", "closed"})
    lives = {life for _, _, life in seen if life is not None}
    sys.stdout.write(
        f"page: {n_answered} answers of {len(lives)} processes, {said.count('refused')} refused, {n_cut} cut off; "
        f"longest time between two of one process {within:.1f} s, across a restart {across:.1f} s\n"
    )
    if others or n_cut > int(n_ended) or not n_answered:
        sys.exit(f"{others}; {n_cut} cut off with {n_ended} ends")


if __name__ == "__main__":
    {"shows": shows, "answers": answers, "refuses": refuses, "watch": watch, "tell": tell}[sys.argv[1]](*sys.argv[2:])
