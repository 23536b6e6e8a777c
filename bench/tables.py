"""How fast are tables read? Rows a second of processor time to committed samples, beside the same as JSON Lines.

    python bench/tables.py [--rows 300000] [--rounds 5]

Alternating runs, medians. The rows are those of `bench/ingest.py`, without the padding. Beside it the csv module alone,
which makes nothing but lists of texts.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FEATURES = ("similarity_score", "recency_score", "popularity_score", "success_rate", "complexity_score")
NAMES = ("id", "timestamp", *FEATURES, "lightweight_successful")


def rows(n: int) -> list[tuple[object, ...]]:
    chance = random.Random(0)
    return [
        (
            f"req-{number:012x}",
            1_763_838_000 + number / 1000,
            *(round(chance.random(), 6) for _ in FEATURES),
            chance.random() < 0.5,
        )
        for number in range(n)
    ]


def write(folder: Path, n: int) -> dict[str, Path]:
    made = rows(n)
    logs = {
        "JSON Lines": folder / "a.jsonl",
        "CSV": folder / "a.csv",
        "CSV, ids in quotes": folder / "quoted.csv",
        "SQLite": folder / "a.db",
        "Parquet": folder / "a.parquet",
    }
    with logs["JSON Lines"].open("w") as file:
        file.writelines(json.dumps(dict(zip(NAMES, row, strict=True))) + "\n" for row in made)
    for name, quoting in (("CSV", csv.QUOTE_MINIMAL), ("CSV, ids in quotes", csv.QUOTE_NONNUMERIC)):
        with logs[name].open("w", newline="") as file:
            table = csv.writer(file, quoting=quoting, lineterminator="\n")
            table.writerow(NAMES)
            table.writerows(made)
    db = sqlite3.connect(logs["SQLite"])
    db.execute(f"CREATE TABLE logs ({', '.join(NAMES)})")
    db.executemany(f"INSERT INTO logs VALUES ({', '.join('?' * len(NAMES))})", made)
    db.commit()
    db.close()
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        del logs["Parquet"]
    else:
        columns = dict(zip(NAMES, zip(*made, strict=True), strict=True))
        parquet.write_table(pyarrow.table({name: list(column) for name, column in columns.items()}), logs["Parquet"])
    return logs


def ours(log: Path, folder: Path) -> int:
    from streamtrain.dataset.store import Store
    from streamtrain.ingest.ingestor import IngestOptions, Ingestor
    from streamtrain.ingest.schema import Schema

    schema = Schema()
    with Store(folder / "state.db", schema.digest, max_samples=100_000) as store:
        report = Ingestor(store, schema, IngestOptions(log.parent, include=(log.name,))).run()
        store.sync()
    return report.samples


def csv_alone(log: Path, folder: Path) -> int:
    with log.open(newline="") as file:
        return sum(1 for _ in csv.reader(file, strict=True)) - 1


def one(way: str, log: Path) -> None:
    """In a process of its own: rows per second of its processor time, so that what else runs counts little."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import streamtrain.dataset.store
    import streamtrain.ingest.ingestor  # noqa: F401 (imports aren't timed)

    if log.suffix == ".parquet":
        from pyarrow import parquet  # noqa: F401
    log.read_bytes()
    with tempfile.TemporaryDirectory(dir=log.parent) as folder:
        started = time.process_time()
        n = (csv_alone if way == "csv module" else ours)(log, Path(folder))
        sys.stdout.write(str(n / (time.process_time() - started)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one")
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.log)
        return
    with tempfile.TemporaryDirectory(prefix="bench-tables-") as name:
        logs = write(Path(name), options.rows)
        logs["csv module"] = logs["CSV"]
        rates: dict[str, list[float]] = {way: [] for way in logs}
        for _ in range(options.rounds):
            for way, log in logs.items():
                command = [sys.executable, __file__, "--one", way, "--log", str(log)]
                ended = subprocess.run(command, check=True, capture_output=True, text=True)
                rates[way].append(float(ended.stdout))
        print(f"{options.rows} rows, processor time of one core, median of {options.rounds} alternating runs")
        for way, found in rates.items():
            low, middle, high = (pick(found) / 1e6 for pick in (min, statistics.median, max))
            print(f"  {way:20}{middle:7.3f} M rows/s   ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
