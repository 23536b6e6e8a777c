"""What Tiny Dancer's `Router.route` computes of a candidate, before it multiplies it with `TINY_DANCER_SCALE`."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np


def features(
    query: list[float], candidate: dict[str, Any], metadata: dict[str, Any] | None, now_s: float
) -> list[float]:
    """Unweighted: similarity, recency, popularity, success rate, overlap of metadata."""
    a, b = (np.asarray(vector, np.float32).astype(np.float64) for vector in (query, candidate["embedding"]))
    age_s = 0.0 if candidate.get("createdAt") is None else max(0.0, now_s - candidate["createdAt"])
    own = json.loads(candidate["metadata"]) if candidate.get("metadata") else {}
    asked = metadata or {}
    overlap = sum(own.get(key) == value for key, value in asked.items()) / len(asked) if asked and own else 0.0
    return [
        float(a @ b / np.sqrt((a @ a) * (b @ b))),
        math.exp(-0.001 * age_s),
        min(1.0, math.log(1 + candidate.get("accessCount", 0)) / math.log(10001)),
        candidate.get("successRate", 0.0),
        overlap,
    ]
