"""Scores of feature vectors read as JSON lines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import IO

import msgspec

from streamtrain.router.scorer import Model


def score_lines(model: Model, lines: Iterable[bytes], out: IO[str]) -> int:
    """Score each line and write ``{"confidence": …, "version": …}`` or ``{"error": …}`` for it, in order.

    Parameters
    ----------
    model : Model
    lines : iterable of bytes
        Each a JSON array of D numbers, or an object that has every feature by its name.
    out : text stream

    Returns
    -------
    int
        How many lines could not be scored.
    """
    n_failed = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            answer: dict[str, object] = {"confidence": model.score(_features(model, line)), "version": model.version}
        except (ValueError, OverflowError, RecursionError) as error:
            n_failed += 1
            answer = {"error": str(error)}
        out.write(json.dumps(answer) + "\n")
    return n_failed


def _features(model: Model, line: bytes) -> list[float]:
    value = msgspec.json.decode(line)
    if isinstance(value, dict):
        missing = [name for name in model.features if name not in value]
        if missing:
            raise ValueError(f"no field {missing[0]!r}; the model takes {', '.join(model.features)}")
        value = [value[name] for name in model.features]
    if not isinstance(value, list) or not all(isinstance(x, int | float) and math.isfinite(x) for x in value):
        raise ValueError("expected an array of finite numbers, or an object with the features by name")
    return [float(x) for x in value]
