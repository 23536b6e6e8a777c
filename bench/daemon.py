"""What the daemon costs at rest, how soon it answers, and whether it keeps up: the process as systemd runs it.

``make bench-daemon`` measures rest, and the delay from the last appended line to the swap of ``current``, stage by
stage; ``make soak-daemon MINUTES=30`` appends 2,000 lines a second with a training every 10 s. Each in a folder of its
own, with a socket that takes systemd's part and records what it is told.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from machine import REPOSITORY, describe

sys.path.append(str(REPOSITORY / "tests"))
from simulated_logs import lines, rows

WINDOW = 100_000
WATCHDOG_S = 10.0
TICK_S = os.sysconf("SC_CLK_TCK")
LINES_PER_S = 2000


class Systemd:
    """Records what the daemon tells, and when."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self.told: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            text = self._socket.recv(65536).decode()
            self.told.append((time.monotonic(), text))

    def wait_for(self, word: str, seconds: float = 600.0) -> None:
        end = time.monotonic() + seconds
        while not any(word in text for _, text in self.told):
            if time.monotonic() > end:
                sys.exit(f"waited in vain for {word}")
            time.sleep(0.05)

    def longest_gap_s(self, since: float) -> float:
        """Between two kicks of the watchdog."""
        kicks = [since, *(at for at, text in self.told if "WATCHDOG=1" in text and at >= since), time.monotonic()]
        return max(b - a for a, b in itertools.pairwise(kicks))


class Service:
    """A daemon in a folder, with a log that it follows."""

    def __init__(self, folder: Path, settings: str, n_lines: int) -> None:
        self.folder, self.log = folder, folder / "logs" / "router.jsonl"
        self.log.parent.mkdir()
        self.systemd = Systemd(folder)
        config = folder / "streamtrain.yaml"
        places = "".join(f"{name}: {{directory: {folder}/{name}}}\n" for name in ("logs", "state", "models"))
        config.write_text(f"{places}{settings}")
        self.n = 0
        self.append(n_lines)
        environ = os.environ | {
            "NOTIFY_SOCKET": self.systemd.address,
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
            "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", str(REPOSITORY / ".cache" / "numba")),
        }
        self.said = (folder / "log").open("wb")
        command = [sys.executable, "-m", "streamtrain", "run", "--config", str(config)]
        self.process = subprocess.Popen(command, env=environ, stderr=self.said)
        self.systemd.wait_for("READY=1")

    def append(self, n: int) -> None:
        for start in range(0, n, 20_000):
            more = min(20_000, n - start)
            data = lines(rows(more, seed=self.n, first_id=self.n))
            with self.log.open("ab") as out:
                out.write(data)
            self.n += more

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK_S

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def version(self) -> str:
        try:
            return str((self.folder / "models" / "current").readlink())
        except FileNotFoundError:
            return ""

    def wait_for_version(self, other_than: str, seconds: float = 300.0) -> float:
        end = time.monotonic() + seconds
        while self.version() in ("", other_than):
            if time.monotonic() > end or self.process.poll() is not None:
                sys.exit(f"no version came:\n{(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.002)
        return time.monotonic()

    def events(self, name: str) -> list[dict[str, object]]:
        found = [json.loads(line) for line in (self.folder / "log").read_text().splitlines() if line.startswith("{")]
        return [one for one in found if one.get("event") == name]

    def stop(self) -> float:
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        if code:
            sys.exit(f"exit code {code}:\n{(self.folder / 'log').read_text()[-3000:]}")
        return time.monotonic() - started


def idle(seconds: float) -> None:
    """Processor time and memory with a full window and nothing to do."""
    with TemporaryDirectory(prefix="bench-") as folder:
        service = Service(Path(folder), "log: {format: json}\n", WINDOW)
        service.wait_for_version("")
        time.sleep(10)
        before, started = service.cpu_s(), time.monotonic()
        time.sleep(seconds)
        spent = (service.cpu_s() - before) / (time.monotonic() - started)
        print(f"idle       {100 * spent:.2f} % of a core over {seconds:.0f} s (asked for: at most 0.3)")
        print(f"memory     {service.resident_mb():.0f} MB resident, window of {WINDOW:,} (asked for: at most 200)")
        print(f"stopped    in {service.stop():.2f} s")


def latency(n: int) -> None:
    """From the last appended line to the swap of `current`, with a full window."""
    settings = (
        f"log: {{format: json}}\ndataset: {{window: {WINDOW}}}\ntrigger: {{min_new_samples: 500, max_interval: 1d}}\n"
        "gate: {versus_current: 'off'}\n"
    )
    with TemporaryDirectory(prefix="bench-") as folder:
        service = Service(Path(folder), settings, WINDOW)
        service.wait_for_version("")
        taken = []
        for _ in range(n):
            time.sleep(1.5)
            data = lines(rows(500, seed=service.n, first_id=service.n))
            before = service.version()
            with service.log.open("ab") as out:
                out.write(data)
            started = time.monotonic()
            service.n += 500
            taken.append(service.wait_for_version(before) - started)
        found = service.events("published")[-n:]
        learned = [float(str(one["took_s"])) for one in found]
        service.stop()
    p50, p95, most = (np.quantile(taken, q, method="higher") for q in (0.5, 0.95, 1.0))
    print(f"swap       p50 {p50:.2f} s, p95 {p95:.2f} s, max {most:.2f} s of {n} (asked for: p95 at most 1.5)")
    print(f"  of which training, judging, publishing {median(learned):.2f} s, longest {max(learned):.2f} s")


def stages(rounds: int) -> None:
    """Where the time of a training goes, by the cycle's own words."""
    from streamtrain.config import load
    from streamtrain.cycle import Cycle, Progress

    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "logs").mkdir()
        (folder / "logs" / "a.jsonl").write_bytes(lines(rows(WINDOW)))
        file = folder / "streamtrain.yaml"
        places = "".join(f"{name}: {{directory: {folder}/{name}}}\n" for name in ("logs", "state", "models"))
        file.write_text(f"{places}gate: {{versus_current: 'off'}}\n")
        marks: list[tuple[float, str]] = []
        epochs: Counter[str] = Counter()

        def note(progress: Progress) -> None:
            marks.append((time.perf_counter(), progress.stage))
            if progress.detail and progress.stage == "train":
                epochs[progress.detail.partition(",")[0]] += 1

        with Cycle(load(file), on_progress=note) as cycle:
            cycle.ingest()
            cycle.warm()
            spent: dict[str, list[float]] = {}
            for _ in range(rounds):
                marks.clear()
                epochs.clear()
                cycle.learn()
                marks.append((time.perf_counter(), "end"))
                total: Counter[str] = Counter()
                for (start, stage), (end, _) in itertools.pairwise(marks):
                    total[stage] += end - start
                for stage, seconds in total.items():
                    spent.setdefault(stage, []).append(seconds)
    words = ", ".join(f"{stage} {1000 * median(seconds):.0f} ms" for stage, seconds in spent.items())
    print(f"stages     {words}; epochs: {dict(epochs)}")


def soak(minutes: float) -> None:
    """2,000 lines a second, a training every 10 s: lag, memory, watchdog."""
    settings = (
        f"log: {{format: json}}\ndataset: {{window: {WINDOW}}}\n"
        f"trigger: {{min_new_samples: {10 * LINES_PER_S}, max_interval: 1d}}\n"
    )
    prepared = [lines(rows(LINES_PER_S // 10, seed=seed, first_id=10**9)) for seed in range(50)]
    with TemporaryDirectory(prefix="bench-") as folder:
        service = Service(Path(folder), settings, WINDOW)
        service.wait_for_version("")
        print(f"{minutes:g} minutes of {LINES_PER_S:,} lines/s", flush=True)
        began = time.monotonic()
        written: list[tuple[float, int]] = [(began, service.n)]
        lags: list[float] = []
        memory: list[tuple[float, float]] = []
        over = threading.Event()

        def write() -> None:
            step = 0
            while not over.is_set():
                # Ids of their own, so that nothing is a duplicate: r1000000123 → r<block>000123.
                data = prepared[step % len(prepared)].replace(b'"r1000', b'"r%d' % (2000 + step))
                with service.log.open("ab") as out:
                    out.write(data)
                service.n += LINES_PER_S // 10
                written.append((time.monotonic(), service.n))
                step += 1
                time.sleep(max(0.0, began + step / 10 - time.monotonic()))
                if service.log.stat().st_size > 64 << 20:
                    service.log.rename(service.log.with_name(f"router-{step}.jsonl"))
                    rotated = sorted(service.log.parent.glob("router-*.jsonl"), key=lambda one: one.stat().st_mtime)
                    for old in rotated[:-2]:
                        old.unlink()

        writer = threading.Thread(target=write)
        writer.start()
        place, position = f"file:{folder}/state/state.db?mode=ro", 0
        while time.monotonic() - began < 60 * minutes:
            time.sleep(0.05)
            # A connection for each look: one that stays open would keep the database's log from being begun anew.
            with sqlite3.connect(place, uri=True) as database:
                (n_read,) = database.execute("SELECT n_lines FROM totals").fetchone()
            database.close()
            now = time.monotonic()
            while position < len(written) - 1 and written[position][1] <= n_read:
                position += 1
            at, n_by_then = written[position]
            lags.append(now - at if n_by_then > n_read else 0.0)
            if not memory or now - memory[-1][0] >= 5:
                memory.append((now, service.resident_mb()))
        over.set()
        writer.join()
        gap = service.systemd.longest_gap_s(began)
        trainings = sum(len(service.events(name)) for name in ("published", "rejected", "skipped"))
        stopped = service.stop()
    lag99 = float(np.quantile(lags, 0.99))
    print(f"lag        p50 {median(lags):.2f} s, p99 {lag99:.2f} s, max {max(lags):.2f} s (asked for: p99 at most 1)")
    warm = [(at, mb) for at, mb in memory if at - began > min(600.0, 20 * minutes)]
    slope = float(np.polyfit([at for at, _ in warm], [mb for _, mb in warm], 1)[0]) * 3600 if len(warm) > 2 else 0.0
    print(f"memory     {memory[0][1]:.0f} MB at first, {memory[-1][1]:.0f} MB at last, {slope:+.1f} MB/h after warm-up")
    each = [[mb for at, mb in memory if minute <= (at - began) / 60 < minute + 1] for minute in range(int(minutes))]
    step = max(1, len(each) // 10)
    print(f"           medians of minutes: {', '.join(f'{median(one):.0f}' for one in each[::step] if one)}")
    print(f"watchdog   longest gap between kicks {gap:.1f} s of {WATCHDOG_S:.0f} allowed; {trainings} trainings")
    print(f"stopped    in {stopped:.2f} s, with lines still coming in")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soak", type=float, metavar="MINUTES")
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    parser.add_argument("--swaps", type=int, default=20)
    arguments = parser.parse_args()
    print("; ".join(f"{key}: {value}" for key, value in describe().items() if key in ("processor", "versions")))
    print(f"load before: {os.getloadavg()[0]:.1f}")
    if arguments.soak:
        soak(arguments.soak)
    else:
        stages(5)
        latency(arguments.swaps)
        idle(arguments.idle_seconds)
    print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
