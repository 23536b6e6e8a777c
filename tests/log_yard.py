"""A directory of logs, a store, and numbered lines: what was read can be compared with what was written, exactly."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from streamtrain.dataset.store import Store
from streamtrain.dataset.window import load
from streamtrain.ingest.ingestor import IngestOptions, Ingestor, IngestReport
from streamtrain.ingest.schema import Schema


def line(number: int, **more: object) -> bytes:
    """One log line without an id; its first feature is its number."""
    record = {
        "timestamp": 1_763_838_000 + number,
        "similarity_score": number,
        "recency_score": 0.5,
        "popularity_score": 0.25,
        "success_rate": 0.75,
        "complexity_score": 0.125,
        "lightweight_successful": number % 2,
    }
    return json.dumps(record | more).encode() + b"\n"


def lines(numbers: Iterable[int]) -> bytes:
    return b"".join(map(line, numbers))


class Yard:
    """Logs and the store that they are read into; `restart` is what a new process does."""

    def __init__(self, root: Path, schema: Schema | None = None) -> None:
        self.root = root
        self.logs = root / "logs"
        self.logs.mkdir()
        self.schema = schema or Schema()
        self.now: float | None = None
        self.options: dict[str, object] = {}
        self.store: Store | None = None
        self.restart()

    def restart(self, **options: object) -> None:
        self.options |= options
        self.close()
        self.store = Store(self.root / "state.db", self.schema.digest, clock=self.clock)
        self.ingestor = Ingestor(self.store, self.schema, IngestOptions(self.logs, **self.options), clock=self.clock)

    def clock(self) -> float:
        return time.time() if self.now is None else self.now

    def close(self) -> None:
        if self.store is not None:
            self.store.close()
            self.store = None

    def write(self, name: str, data: bytes, mode: str = "wb") -> Path:
        path = self.logs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode) as file:
            file.write(data)
        return path

    def append(self, name: str, data: bytes) -> Path:
        return self.write(name, data, "ab")

    def run(self) -> IngestReport:
        return self.ingestor.run()

    def age(self, name: str, seconds: float) -> None:
        """Make a file look as if it was last written so long ago."""
        path = self.logs / name
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))

    def seen(self) -> Counter[int]:
        """How often each number is in the dataset."""
        assert self.store is not None
        return Counter(load(self.store, 1 << 40).features[:, :1].astype(int).ravel().tolist())


def once(numbers: Iterable[int]) -> Counter[int]:
    return Counter(dict.fromkeys(numbers, 1))
