"""Numbered rows of tables: what was read can be compared with what was written, exactly."""

from __future__ import annotations

from collections.abc import Iterable

NAMES = (
    "timestamp",
    "similarity_score",
    "recency_score",
    "popularity_score",
    "success_rate",
    "complexity_score",
    "lightweight_successful",
)


def row(number: int) -> tuple[float, ...]:
    return (1_763_838_000 + number, number, 0.5, 0.25, 0.75, 0.125, number % 2)


def header(delimiter: str = ",") -> bytes:
    return delimiter.join(NAMES).encode() + b"\n"


def record(number: int, delimiter: str = ",") -> bytes:
    return delimiter.join(map(str, row(number))).encode() + b"\n"


def records(numbers: Iterable[int], delimiter: str = ",") -> bytes:
    return b"".join(record(number, delimiter) for number in numbers)
