"""Lines of the ecosystem's routing log: decisions and outcomes, told apart by a number that the features carry."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from streamtrain.ingest.schema import TRAJECTORY, VectorField

DIM = 4


def schema(**changes: object):
    from dataclasses import replace

    return replace(TRAJECTORY, features=VectorField("embedding", DIM), **changes)


def task_hash(number: int) -> str:
    """FNV-1a of the task's text, as its authors compute it."""
    value = 0x811C9DC5
    for unit in f"task {number}":
        value = (value ^ ord(unit)) * 0x01000193 & 0xFFFFFFFF
    return f"{value:08x}"


def _time(seconds: float) -> str:
    return (
        datetime.fromtimestamp(1_763_838_000 + seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def decision(number: int, at: float | None = None, **more: object) -> bytes:
    record = {
        "v": 1,
        "type": "decision",
        "ts": _time(number if at is None else at),
        "task_hash": task_hash(number),
        "task": f"task {number}",
        "embedding": [number, 0.5, -0.25, 1.0],
        "complexity": 0.2,
        "model": "haiku",
        "confidence": 0.8,
        "uncertainty": 0.2,
        "routed_by": "heuristic",
    }
    return json.dumps(record | more).encode() + b"\n"


def outcome(number: int, at: float | None = None, light: bool | None = None, **more: object) -> bytes:
    good = number % 2 == 0 if light is None else light
    record = {
        "v": 1,
        "type": "outcome",
        "ts": _time(number + 0.001 if at is None else at),
        "task_hash": task_hash(number),
        "quality": 0.9,
        "scores": {"haiku": 0.9 if good else 0.5, "opus": 0.92},
        "source": "test",
        "tokens": {"input": 10, "output": 20},
        "cost_usd": 0.00011,
        "model_id": "haiku",
    }
    return json.dumps({key: value for key, value in (record | more).items() if value is not None}).encode() + b"\n"
