"""How fast are logs read? From a warm file of 250-byte lines to committed samples on one core, beside its peers.

    python bench/ingest.py [--lines 1000000] [--rounds 5] [--big-gb 1] [--folder /var/tmp]

Alternating runs, medians. Peers: `json` line by line into the same arrays, polars' `read_ndjson` (the extra `bench`;
left out where it is not installed), and msgspec's typed decode alone. No peer keeps anything. Then the memory that
reading takes, the delay of appended lines, and what a pass costs when there is nothing to read.
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
from datetime import UTC, datetime, timedelta
from pathlib import Path

FEATURES = ("similarity_score", "recency_score", "popularity_score", "success_rate", "complexity_score")
LINE_BYTES = 250  # about: numbers have as many digits as they have
FILE_BYTES = 10**9  # of the big ones
N_FILES = 20_000


def write(path: Path, n: int, first: int = 0) -> None:
    """Lines of a routing log, as the guide has them and Python's `json` writes them."""
    chance = random.Random(first)
    moment = datetime(2026, 11, 23, 10, tzinfo=UTC)
    with path.open("w") as file:
        for _ in range(n):
            moment += timedelta(microseconds=chance.randrange(20_000))
            record = {
                "id": f"request-{chance.getrandbits(64):016x}",
                "timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            }
            record |= {name: round(chance.random(), 6) for name in FEATURES}
            record["lightweight_successful"] = chance.random() < 0.5
            file.write(json.dumps(record) + "\n")


def ours(log: Path, folder: Path) -> int:
    """What the daemon does, to durably committed samples, checkpoint included."""
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
    np.array([datetime.fromisoformat(row["timestamp"]).timestamp() for row in rows])
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
        ("timestamp", str),
        *((name, float) for name in FEATURES),
        ("lightweight_successful", bool),
    ]
    decoder = msgspec.json.Decoder(msgspec.defstruct("Line", fields, gc=False))
    n = 0
    with log.open("rb") as file:
        # In blocks that fit the caches together with what is made of them.
        rest = b""
        while block := file.read(1 << 19):
            whole, _, rest = (rest + block).rpartition(b"\n")
            n += len(decoder.decode_lines(whole))
    return n


WAYS = {"streamtrain": ours, "msgspec decode alone": decode_alone, "polars read_ndjson": with_polars, "json": with_json}


def one(way: str, log: str) -> None:
    """In a process of its own: lines per second, and per second of the processor, which others may keep busy."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if way == "streamtrain":
        import streamtrain.dataset.store
        import streamtrain.ingest.ingestor  # noqa: F401 (imports aren't timed)
    elif way == "polars read_ndjson":
        import polars  # noqa: F401
    with tempfile.TemporaryDirectory(dir=Path(log).parent) as folder:
        started, worked = time.perf_counter(), time.process_time()
        n = WAYS[way](Path(log), Path(folder))
        taken, cpu = time.perf_counter() - started, time.process_time() - worked
    hwm = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    json.dump({"rate": n / taken, "per_cpu_s": n / cpu, "peak_mb": int(hwm[1]) / 1024 if hwm else None}, sys.stdout)


def run(way: str, log: Path) -> dict[str, float]:
    environment = os.environ | {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--one", way, "--log", str(log)]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def latency(folder: Path, n: int) -> list[float]:
    """Seconds from the append of a line to its sample, with the watcher and the waits of the daemon's loop."""
    import threading

    from streamtrain.daemon.reader import QUIET_S, SCAN_INTERVAL_S
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


def settled(folder: Path, n: int) -> float:
    """Seconds that a pass takes over so many files of which nothing is new."""
    from streamtrain.dataset.store import Store
    from streamtrain.ingest.ingestor import IngestOptions, Ingestor
    from streamtrain.ingest.schema import Schema

    logs, schema = folder / "many", Schema()
    logs.mkdir()
    lines = folder / "each.jsonl"
    write(lines, n, first=2)
    for number, line in enumerate(lines.read_bytes().splitlines(keepends=True)):
        (logs / f"{number}.jsonl").write_bytes(line)
    time.sleep(0.1)  # a file that changed just now is looked at once more
    with Store(folder / "many.db", schema.digest) as store:
        ingestor = Ingestor(store, schema, IngestOptions(logs))
        if ingestor.run().samples != n:
            raise RuntimeError(f"read {n} files: not all of their lines are samples")
        ingestor.run()
        taken = []
        for _ in range(5):
            started = time.perf_counter()
            ingestor.run()
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def big(log: Path, folder: Path, n_bytes: float) -> dict[str, float]:
    """Read so much in files of 1 GB each; lines differ in their ids, or the files would be copies of one."""
    text = log.read_bytes()
    n_parts = max(1, round(n_bytes / len(text)))
    per_file = max(1, FILE_BYTES // len(text))
    for part in range(n_parts):
        with (folder / f"big-{part // per_file:03}.jsonl").open("ab") as file:
            file.write(text.replace(b'"request-', b'"re%05d-' % part))
    n_bytes = sum(path.stat().st_size for path in folder.glob("big-*"))
    del text
    found = run("streamtrain", folder / "big-*.jsonl")
    return found | {"gb": n_bytes / 1e9, "n": -(-n_parts // per_file)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--big-gb", type=float, default=1.0)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp") if Path("/var/tmp").is_dir() else None)
    parser.add_argument("--one")
    parser.add_argument("--log")
    options = parser.parse_args()
    if options.one:
        one(options.one, options.log)
        return
    ways = [way for way in WAYS if "polars" not in way or importlib.util.find_spec("polars")]
    with tempfile.TemporaryDirectory(prefix="bench-ingest-", dir=options.folder) as name:
        folder = Path(name)
        log = folder / "warm.jsonl"
        write(log, options.lines)
        log.read_bytes()
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way in ways:
                runs[way].append(run(way, log))
        rates = {way: [found["rate"] for found in of] for way, of in runs.items()}
        medians = {way: statistics.median(found) for way, found in rates.items()}
        worked = {way: statistics.median(found["per_cpu_s"] for found in of) for way, of in runs.items()}
        size = log.stat().st_size / options.lines
        print(f"{options.lines} lines of {size:.0f} bytes, one core, median of {options.rounds} alternating runs")
        for way, found in rates.items():
            print(
                f"  {way:22}{medians[way] / 1e6:7.3f} M lines/s   ({min(found) / 1e6:.3f} to {max(found) / 1e6:.3f})"
                f"   {worked[way] / 1e6:.3f} M lines a second of processor time"
            )
        share, of_work = (found["streamtrain"] / found["msgspec decode alone"] for found in (medians, worked))
        print(f"  streamtrain reaches {share:.0%} of the decode alone; by processor time {of_work:.0%}")
        if options.big_gb:
            found = big(log, folder, options.big_gb * 1e9)
            print(
                f"  {found['gb']:.1f} GB in {found['n']} files: {found['peak_mb']:.0f} MB resident at most,"
                f" {found['rate'] / 1e6:.3f} M lines/s"
            )
        delays = sorted(latency(folder, 200))
        p50, p95 = (1000 * delays[int(len(delays) * share)] for share in (0.5, 0.95))
        print(f"  appended lines are in the dataset after {p50:.0f} ms (median), {p95:.0f} ms (p95)")
        print(f"  a pass over {N_FILES} files with nothing new takes {1000 * settled(folder, N_FILES):.0f} ms")


if __name__ == "__main__":
    main()
