"""Traffic simulator: writes routing logs into a directory as routers in production would.

    python examples/traffic.py LOGS                    five features of the guide, until interrupted
    python examples/traffic.py LOGS --replay FILE      the lines of any routing log, over --seconds

One router appends to `router.jsonl`, in pieces that end anywhere, and rotates it by renaming (`router.jsonl.1`, …).
A second one, at the edge, ships whole files every other second, mostly gzip, under a name that is there at once.
Now and then a line is rubbish. With `--truth` each tick is also a JSON line on standard output: the requests and,
for each, whether the lightweight model was good enough, so that somebody can route them and be marked.
On standard input the line `swap` swaps the lightweight model for a weaker one; `stop`, or its end, ends the traffic.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from logfiles import AppendedLog, ShippedFiles
from shape import Recording, UnknownShapeError, detect, record
from world import FEATURES, World

TICK_S = 0.05
DROP_EVERY_S = 2.0
EDGE_SHARE = 0.25  # of the requests go to the router at the edge
RUBBISH_SHARE = 1 / 250
MAX_TRUTH_PER_TICK = 40  # beyond that a tick shows an even choice of its requests
MAX_REPLAYED = 200_000

Answers = tuple[list[list[float]], list[bool]]


class Source(Protocol):
    """Where requests come from."""

    def draw(self, n: int, now: float) -> tuple[list[bytes], Answers]:
        """The log lines of the next `n` requests, and features and truth of those that a router can be asked."""

    def swap(self) -> None:
        """Swap the lightweight model, in a world where that is possible."""


class Simulated:
    """Requests of the demo's world, as log lines."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)

    def draw(self, n: int, now: float) -> tuple[list[bytes], Answers]:
        """Lines with the guide's field names, stamped `now` (seconds since the epoch)."""
        requests = self.world.draw(n)
        features, truth = requests.features.tolist(), requests.truth.tolist()
        stamp = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        lines = []
        for number, (values, good) in enumerate(zip(features, truth, strict=True), requests.first):
            row: dict[str, Any] = {"id": f"req-{number:08d}", "timestamp": stamp, "lightweight_model": "light"}
            lines.append(json.dumps(row | dict(zip(FEATURES, values, strict=True)) | {"lightweight_successful": good}))
        return [line.encode() for line in lines], (features, truth)

    def swap(self) -> None:
        """The lightweight model is the weaker one from now on, under the same name."""
        self.world.swap()


class Replayed:
    """The lines of a log, as they are, in their order; then nothing more."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.position = 0

    def draw(self, n: int, now: float) -> tuple[list[bytes], Answers]:
        """At most `n` more lines; their own times are kept."""
        log = self.recording
        start, self.position = self.position, min(self.position + n, len(log.lines))
        first, last = np.searchsorted(log.good, [start, self.position])
        answers = log.features[first:last].tolist(), log.truth[first:last].tolist()
        return log.lines[start : self.position], answers

    def swap(self) -> None:
        """What is recorded can't be changed."""


class Traffic:
    """Requests from a source, as logs of two routers in a directory.

    Parameters
    ----------
    source : Source
    directory : Path
        Of the logs; made if missing.
    seed : int
        Of what is rubbish, where writes end, and which router gets a request.
    rubbish : bool
        Whether to write rubbish lines as well.
    rotate_bytes : int
        Size at which the appended log is rotated.
    """

    def __init__(
        self, source: Source, directory: Path, seed: int, rubbish: bool = True, rotate_bytes: int = 600_000
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.source = source
        self.random = np.random.default_rng([seed, 1])
        self.rubbish = rubbish
        self.log = AppendedLog(directory / "router.jsonl", rotate_bytes, 9, np.random.default_rng([seed, 2]))
        self.edge = ShippedFiles(directory, "edge")
        self.counts: Counter[str] = Counter()

    def step(self, n: int, now: float) -> Answers:
        """Let `n` requests arrive at `now` (seconds since the epoch); features and truth are returned."""
        lines, answers = self.source.draw(n, now)
        self.counts["lines"] += len(lines)
        at_edge = self.random.random(len(lines)) < EDGE_SHARE
        self.edge.collect([line for line, there in zip(lines, at_edge, strict=True) if there])
        self.log.append(self._with_rubbish([line for line, there in zip(lines, at_edge, strict=True) if not there]))
        return answers

    def ship(self) -> None:
        """Drop the edge router's next file."""
        self.edge.ship()

    def close(self) -> dict[str, int]:
        """Write everything that is held back; the counts of lines, rubbish, rotations and shipped files."""
        self.edge.ship()
        self.log.close()
        return {
            "lines": self.counts["lines"],
            "rubbish": self.counts["rubbish"],
            "rotations": self.log.n_rotations,
            "shipped": self.edge.n_files,
        }

    def _with_rubbish(self, lines: list[bytes]) -> list[bytes]:
        if not self.rubbish:
            return lines
        out = []
        for line, luck, kind in zip(
            lines, self.random.random(len(lines)), self.random.integers(0, 6, len(lines)), strict=True
        ):
            out.append(line)
            if luck < RUBBISH_SHARE:
                out.append(spoil(line, int(kind)))
                self.counts["rubbish"] += 1
        return out


def spoil(line: bytes, kind: int) -> bytes:
    """One of six ways in which a line goes wrong in production."""
    row = json.loads(line) | {"id": None}
    if kind == 0:
        return line[: len(line) // 2]  # a crash in the middle of a write
    if kind == 1:
        return json.dumps(row | {FEATURES[0]: float("nan")}).encode()
    if kind == 2:
        del row[FEATURES[3]]
        return json.dumps(row).encode()
    if kind == 3:
        return json.dumps(row | {"lightweight_successful": 7}).encode()
    if kind == 4:
        return json.dumps(row | {FEATURES[4]: "high"}).encode()
    return b"\x00\xff\x16 segfault at 7f3a " + line[:30].replace(b'"', b"\xfe")


def run(
    traffic: Traffic,
    orders: queue.Queue[str],
    rate: float,
    history: int,
    limit: int | None,
    out: TextIO | None,
    clock: Callable[[], float] = time.time,
) -> dict[str, int]:
    """Let traffic flow until it is stopped, or until `limit` requests have arrived.

    Parameters
    ----------
    traffic : Traffic
    orders : queue of str
        "swap" and "stop".
    rate : float
        Requests a second.
    history : int
        Requests of the time before the start, shipped as the first file.
    limit : int or None
    out : text stream or None
        Gets one JSON object a tick: {"at", "swapped", "features", "truth"}.
    """
    if history:
        lines, _ = traffic.source.draw(history, clock() - 60.0)
        traffic.counts["lines"] += len(lines)
        traffic.edge.collect(lines)
        traffic.ship()
    began = shipped = time.monotonic()
    n_sent, swapped = 0, False
    while limit is None or n_sent < limit:
        order = _next(orders, TICK_S)
        if order == "stop":
            break
        if order == "swap":
            traffic.source.swap()
            swapped = True
        due = int((time.monotonic() - began) * rate) - n_sent
        n = min(due, limit - n_sent) if limit is not None else due
        features, truth = traffic.step(n, clock())
        n_sent += n
        if time.monotonic() - shipped > DROP_EVERY_S:
            traffic.ship()
            shipped = time.monotonic()
        if out is not None and truth:
            some = np.linspace(0, len(truth) - 1, min(len(truth), MAX_TRUTH_PER_TICK)).astype(int).tolist()
            shown = {"features": [features[i] for i in some], "truth": [truth[i] for i in some]}
            print(json.dumps({"at": clock(), "swapped": swapped} | shown), file=out, flush=True)
    return traffic.close()


def _next(orders: queue.Queue[str], wait_s: float) -> str:
    try:
        return orders.get(timeout=wait_s)
    except queue.Empty:
        return ""


def _listen(orders: queue.Queue[str]) -> None:
    """Pass on what comes on standard input; its end means stop."""
    for line in sys.stdin:
        orders.put(line.strip())
    orders.put("stop")


def main() -> int:
    """Command line; 0 done, 1 failed, 2 usage."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog="Ctrl-C ends it.")
    parser.add_argument("logs", type=Path, help="directory to write into")
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second (default 500)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--history", type=int, default=0, help="requests in a first file, dropped at once")
    parser.add_argument("--seconds", type=float, help="stop after so long (a replay: spread over so long, 30)")
    parser.add_argument("--swap-after", type=float, metavar="SECONDS", help="swap the lightweight model then")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="play these lines instead of a simulated world")
    parser.add_argument("--truth", action="store_true", help="requests and answers on standard output, orders on input")
    args = parser.parse_args()

    rate, limit = args.rate, int(args.rate * args.seconds) if args.seconds else None
    source: Source = Simulated(args.seed)
    if args.replay is not None:
        try:
            recording = record(args.replay, detect(args.replay), MAX_REPLAYED)
        except (OSError, UnknownShapeError) as error:
            print(f"traffic: {error}", file=sys.stderr)
            return 1
        source, limit = Replayed(recording), len(recording.lines)
        rate = limit / (args.seconds or 30.0)
    orders: queue.Queue[str] = queue.Queue()
    if args.truth:
        threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    if args.swap_after is not None:
        timer = threading.Timer(args.swap_after, orders.put, ["swap"])
        timer.daemon = True
        timer.start()

    traffic = Traffic(source, args.logs, args.seed, rubbish=args.replay is None)
    out = sys.stdout if args.truth else None
    try:
        counts = run(traffic, orders, rate, args.history, limit, out)
    except KeyboardInterrupt:
        counts = traffic.close()
    except BrokenPipeError:  # nobody marks the answers any more
        counts = traffic.close()
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(json.dumps({"done": counts}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
