"""A daemon as systemd runs it: a process with a socket that takes systemd's part."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

PATIENCE_S = 120  # how long a test waits for what must happen, on a machine that may be busy


def start(config, **options):
    return subprocess.Popen([sys.executable, "-m", "streamtrain", "run", "--config", str(config)], **options)


def until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    return pytest.fail(f"waited {PATIENCE_S} s in vain for {what}")


def stop(process):
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


def ingested(state):
    """How many samples a state directory has taken in."""
    database = state / "state.db"
    if not database.exists():
        return 0
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        try:
            return connection.execute("SELECT sum(n_samples) FROM totals").fetchone()[0] or 0
        except sqlite3.OperationalError:
            return 0


class Systemd:
    """Records what it is told, in order, with the time."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self.told: list[tuple[float, list[str]]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(0.2)
        self._over = False
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while not self._over:
            try:
                self.told.append((time.monotonic(), self._socket.recv(65536).decode().split("\n")))
            except TimeoutError:
                continue

    def close(self) -> None:
        self._over = True
        self._thread.join()
        self._socket.close()
        Path(self.address).unlink()

    def count(self, word: str, since: float = 0.0) -> int:
        return sum(any(line.startswith(word) for line in lines) for at, lines in self.told if at >= since)

    def saw(self, word: str) -> bool:
        return any(word in line for _, lines in self.told for line in lines)

    @property
    def status(self) -> str:
        lines = [line for _, lines in self.told for line in lines if line.startswith("STATUS=")]
        return lines[-1].removeprefix("STATUS=") if lines else ""


class Process:
    """A daemon under such a systemd, with its log in JSON. Fault: the name of one of `daemon_with_fault.py`."""

    def __init__(self, config: Path, watchdog_s: float = 2.0, fault: str = "", environ: dict[str, str] | None = None):
        folder = config.parent
        self.systemd = Systemd(folder)
        self._log = folder / "daemon.log"
        environ = os.environ | {
            "NOTIFY_SOCKET": self.systemd.address,
            "WATCHDOG_USEC": str(int(watchdog_s * 1e6)),
            **(environ or {}),
        }
        faulty = str(Path(__file__).with_name("daemon_with_fault.py"))
        program = [faulty, fault] if fault else ["-m", "streamtrain", "run"]
        command = [sys.executable, *program, "--config", str(config)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stderr=log, env=environ)

    def __enter__(self):
        return self

    def __exit__(self, *failure: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.systemd.close()

    @property
    def log(self) -> str:
        return self._log.read_text()

    def events(self, name: str = "") -> list[dict[str, object]]:
        found = [json.loads(line) for line in self.log.splitlines()]
        return [one for one in found if not name or one.get("event") == name]

    def signal(self, number: int) -> float:
        self.process.send_signal(number)
        return time.monotonic()

    def stop(self) -> float:
        """Stop it as systemd does; how long that took, in seconds."""
        started = self.signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0, self.log
        return time.monotonic() - started
