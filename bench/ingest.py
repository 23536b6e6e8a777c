"""How fast are logs read? From a warm file of 250-byte lines to committed samples on one core, beside its peers.

    python bench/ingest.py [--lines 1000000] [--rounds 5] [--big-gb 10]

Alternating runs, medians. Peers: `json` line by line into the same arrays, polars' `read_ndjson` (the extra `bench`;
left out where it isn't installed), and msgspec's typed decode alone, which is the bound. No peer keeps anything.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FEATURES = ("similarity_score", "recency_score", "popularity_score", "success_rate", "complexity_score")
LINE_BYTES = 250


def write(path: Path, n: int, first: int = 0) -> None:
    """Lines of a routing log, each of exactly 250 bytes with its newline."""
    chance = random.Random(first)
    with path.open("wb") as file:
        for number in range(first, first + n):
            record = {"id": f"req-{number:012x}", "timestamp": 1_763_838_000 + number / 1000}
            record |= {name: round(chance.random(), 6) for name in FEATURES}
            record["lightweight_successful"] = chance.random() < 0.5
            text = json.dumps(record, separators=(",", ":"))
            file.write(f'{text[:-1]},"note":"{"":.<{LINE_BYTES - len(text) - 11}}"}}\n'.encode())


def ours(log: Path, folder: Path) -> int:
    """To durably committed samples, checkpoint included."""
    from streamtrain.dataset.store import Store
    from streamtrain.ingest.ingestor import IngestOptions, Ingestor
    from streamtrain.ingest.schema import Schema

    schema = Schema(id="id")
    with Store(folder / "state.db", schema.digest, max_samples=100_000) as store:
        report = Ingestor(store, schema, IngestOptions(log.parent, include=(log.name,))).run()
        store.sync()
    return report.samples


def with_json(log: Path, folder: Path) -> int:
    import numpy as np

    with log.open("rb") as file:
        rows = [json.loads(line) for line in file]
    np.array([[row[name] for name in FEATURES] for row in rows], np.float32)
    np.array([row["lightweight_successful"] for row in rows], np.float32)
    np.array([row["timestamp"] for row in rows])
    return len(rows)


def with_polars(log: Path, folder: Path) -> int:
    import polars

    frame = polars.read_ndjson(log)
    frame.select(FEATURES).to_numpy()
    return len(frame)


def decode_alone(log: Path, folder: Path) -> int:
    import msgspec

    fields = [
        ("id", str),
        ("timestamp", float),
        *((name, float) for name in FEATURES),
        ("lightweight_successful", bool),
    ]
    decoder = msgspec.json.Decoder(msgspec.defstruct("Line", fields, gc=False))
    n = 0
    with log.open("rb") as file:
        # In the blocks that we read, so that it has the same caches.
        rest = b""
        while block := file.read(1 << 19):
            whole, _, rest = (rest + block).rpartition(b"\n")
            n += len(decoder.decode_lines(whole))
    return n


WAYS = {"streamtrain": ours, "msgspec decode alone": decode_alone, "polars read_ndjson": with_polars, "json": with_json}


def one(way: str, log: str) -> None:
    """In a process of its own: lines per second."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if way == "streamtrain":
        import streamtrain.dataset.store
        import streamtrain.ingest.ingestor  # noqa: F401 (imports aren't timed)
    elif way == "polars read_ndjson":
        import polars  # noqa: F401
    with tempfile.TemporaryDirectory(dir=Path(log).parent) as folder:
        started = time.perf_counter()
        n = WAYS[way](Path(log), Path(folder))
        taken = time.perf_counter() - started
    hwm = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    json.dump({"rate": n / taken, "peak_mb": int(hwm[1]) / 1024 if hwm else None}, sys.stdout)


def run(way: str, log: Path) -> dict[str, float]:
    environment = os.environ | {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--one", way, "--log", str(log)]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def latency(folder: Path, n: int) -> list[float]:
    """Seconds from the append of a line to its sample, with the watcher and the waits of the daemon's loop."""
    import threading

    from streamtrain.daemon import QUIET_S, SCAN_INTERVAL_S
    from streamtrain.dataset.store import Store
    from streamtrain.ingest.ingestor import IngestOptions, Ingestor
    from streamtrain.ingest.schema import Schema
    from streamtrain.ingest.watch import Watcher

    logs = folder / "tail"
    logs.mkdir()
    log = logs / "app.jsonl"
    log.touch()
    schema, stopping = Schema(id="id"), threading.Event()
    done: list[float] = []
    written: list[float] = []
    source = folder / "lines.jsonl"
    write(source, n, first=1)
    lines = source.read_bytes().splitlines(keepends=True)

    def append() -> None:
        chance = random.Random(1)
        for line in lines:
            time.sleep(chance.uniform(0.01, 0.1))
            with log.open("ab", buffering=0) as file:
                written.append(time.perf_counter())
                file.write(line)
        time.sleep(3.0)
        stopping.set()

    writer = threading.Thread(target=append)
    with Store(folder / "tail.db", schema.digest) as store:
        ingestor = Ingestor(store, schema, IngestOptions(logs))
        watcher = Watcher(logs)
        writer.start()
        while not stopping.is_set():
            started = time.monotonic()
            report = ingestor.run()
            done += [time.perf_counter()] * report.samples
            watcher.wait(SCAN_INTERVAL_S)
            remaining = QUIET_S - (time.monotonic() - started)
            if remaining > 0:
                time.sleep(remaining)
        watcher.close()
    writer.join()
    return [end - start for start, end in zip(written, done, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--big-gb", type=float, default=10.0)
    parser.add_argument("--one")
    parser.add_argument("--log")
    options = parser.parse_args()
    if options.one:
        one(options.one, options.log)
        return
    ways = [way for way in WAYS if "polars" not in way or importlib.util.find_spec("polars")]
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as name:
        folder = Path(name)
        log = folder / "warm.jsonl"
        write(log, options.lines)
        log.read_bytes()
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way in ways:
                rates[way].append(run(way, log)["rate"])
        medians = {way: statistics.median(found) for way, found in rates.items()}
        print(f"{options.lines} lines of {LINE_BYTES} bytes, one core, median of {options.rounds} alternating runs")
        for way, found in rates.items():
            print(f"  {way:22}{medians[way] / 1e6:7.3f} M lines/s   ({min(found) / 1e6:.3f} to {max(found) / 1e6:.3f})")
        share = medians["streamtrain"] / medians["msgspec decode alone"]
        print(f"  streamtrain reaches {share:.0%} of the decode alone")
        if options.big_gb:
            # As many names for the same file would be one source: what differs is the ids of each part.
            n_parts = max(1, round(options.big_gb * 1e9 / (options.lines * LINE_BYTES)))
            big = folder / "big.jsonl"
            text = log.read_bytes()
            with big.open("wb") as file:
                for part in range(n_parts):
                    file.write(text.replace(b'"id":"req-0', b'"id":"req-%x' % (part % 16)))
            del text
            found = run("streamtrain", big)
            size = big.stat().st_size / 1e9
            print(f"  {size:.1f} GB in one file: {found['peak_mb']:.0f} MB resident at most")
        delays = sorted(latency(folder, 200))
        p50, p95 = (1000 * delays[int(len(delays) * share)] for share in (0.5, 0.95))
        print(f"  appended lines are in the dataset after {p50:.0f} ms (median), {p95:.0f} ms (p95)")


if __name__ == "__main__":
    main()
