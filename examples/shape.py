"""What is in this log? Finds the features, the label and the rest in an unknown file of routing log lines."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The first name that the lines have is taken; for the label and the time there must be one.
LABELS = ("lightweight_successful", "label", "success", "successful", "correct")
TIMES = ("timestamp", "ts", "time", "created_at")
IDS = ("id", "request_id", "uuid")
SESSIONS = ("session_id", "session", "conversation_id")
VECTORS = ("features", "embedding", "vector")
NOT_FEATURES = ("turn", "weight", "propensity", "teacher", "latency_ms", "cost_usd", "version", "v")
N_LOOKED_AT = 200


class UnknownShapeError(Exception):
    """The lines have no features, label or time that could be recognised."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Where the lines keep what.

    Attributes
    ----------
    features : tuple of str
        One name: an array of `dim` numbers. Several names: a number each.
    dim : int
    vector : bool
        Whether the features are in one array.
    label, timestamp : str
    id, session : str or None
    """

    features: tuple[str, ...]
    dim: int
    vector: bool
    label: str
    timestamp: str
    id: str | None
    session: str | None

    def schema(self) -> dict[str, Any]:
        """The `schema:` section of a streamtrain configuration that fits."""
        features: Any = {"field": self.features[0], "dim": self.dim} if self.vector else list(self.features)
        section = {"features": features, "label": self.label, "timestamp": self.timestamp}
        optional = {"id": self.id, "session": self.session}
        return section | {key: name for key, name in optional.items() if name is not None}

    def read(self, line: bytes) -> tuple[list[float], bool] | None:
        """Features and truth (label ≥ 0.5) of one line; None where it is not a good one."""
        try:
            row = json.loads(line)
            values = row[self.features[0]] if self.vector else [row[name] for name in self.features]
            features, label = [float(value) for value in values], float(row[self.label])
        except (ValueError, KeyError, TypeError):
            return None
        good = len(features) == self.dim and bool(np.isfinite(features).all()) and 0.0 <= label <= 1.0
        return (features, label >= 0.5) if good else None

    def in_words(self) -> str:
        """One line for a person."""
        what = f"array `{self.features[0]}` of {self.dim}" if self.vector else f"columns {', '.join(self.features)}"
        rest = [f"label `{self.label}`", f"time `{self.timestamp}`"]
        rest += [f"{role} `{name}`" for role, name in (("id", self.id), ("session", self.session)) if name]
        return f"features: {what}; {', '.join(rest)}"


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a plain or gzip file, without their ends; empty ones left out."""
    with path.open("rb") as plain:
        zipped = plain.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else path.open("rb") as file:
        for line in file:
            if line.strip():
                yield line.rstrip(b"\r\n")


def detect(path: Path) -> Shape:
    """Shape of the log at `path`, from its first lines.

    Raises
    ------
    UnknownShapeError
        Naming what was not found, and the keys that there are.
    """
    rows = []
    for line in lines_of(path):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
        if len(rows) == N_LOOKED_AT:
            break
    keys = [key for key, count in Counter(key for row in rows for key in row).items() if 2 * count > len(rows)]
    if not keys:
        raise UnknownShapeError(f"{path}: none of its first lines is a JSON object; this demo replays JSON Lines files")
    label, timestamp = _first(LABELS, keys), _first(TIMES, keys)
    if label is None or timestamp is None:
        missing = f"label ({', '.join(LABELS)})" if label is None else f"time ({', '.join(TIMES)})"
        raise UnknownShapeError(f"{path}: found no {missing} in its lines; the keys are: {', '.join(keys)}")
    roles = (label, timestamp, _first(IDS, keys), _first(SESSIONS, keys))
    vectors = {key: dim for key in keys if (dim := _vector_dim(rows, key))}
    if vectors:
        field = _first(VECTORS, list(vectors)) or max(vectors, key=vectors.__getitem__)
        return Shape((field,), vectors[field], True, *roles)
    columns = tuple(key for key in keys if key not in (*roles, *NOT_FEATURES) and _is_number(rows, key))
    if not columns:
        raise UnknownShapeError(f"{path}: found no numbers to learn from in its lines; the keys are: {', '.join(keys)}")
    return Shape(columns, len(columns), False, *roles)


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole log in memory, to be played again.

    Attributes
    ----------
    lines : list of bytes
        All of them, as they are.
    good : int64, (M,)
        Which lines have features and truth, in ascending order.
    features : float64, (M, D)
    truth : bool, (M,)
    """

    lines: list[bytes]
    good: NDArray[np.int64]
    features: NDArray[np.float64]
    truth: NDArray[np.bool_]


def record(path: Path, shape: Shape, n_max: int) -> Recording:
    """The first `n_max` lines of the log at `path`, read by its shape."""
    lines = list(islice(lines_of(path), n_max))
    read = [(number, row) for number, line in enumerate(lines) if (row := shape.read(line)) is not None]
    return Recording(
        lines=lines,
        good=np.array([number for number, _ in read], np.int64),
        features=np.array([row[0] for _, row in read], np.float64).reshape(len(read), shape.dim),
        truth=np.array([row[1] for _, row in read], np.bool_),
    )


def _first(names: tuple[str, ...], keys: list[str]) -> str | None:
    return next((name for name in names if name in keys), None)


def _vector_dim(rows: list[dict[str, Any]], key: str) -> int:
    """Length of the arrays of numbers under `key`; 0 where they are something else or of several lengths."""
    values = [row[key] for row in rows if key in row]
    if not all(isinstance(value, list) and all(type(x) in (int, float) for x in value) for value in values):
        return 0
    lengths = {len(value) for value in values}
    return lengths.pop() if len(lengths) == 1 else 0


def _is_number(rows: list[dict[str, Any]], key: str) -> bool:
    return all(type(row[key]) in (int, float) for row in rows if key in row)
