"""Contestants timed in turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any

Run = Callable[[], float]
"""Does a fixed piece of work and returns seconds per unit of it."""
Times = dict[str, list[float]]


def alternate(runs: Mapping[str, Run], rounds: int) -> Times:
    """Run each once to warm up, then all of them in turn (A B … A B …), `rounds` times."""
    for run in runs.values():
        run()
    times: Times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(run())
    return times


def ratio(times: Times, slow: str, fast: str) -> dict[str, float]:
    """How many times faster `fast` was: the median of the rounds' ratios, and their range."""
    each = [a / b for a, b in zip(times[slow], times[fast], strict=True)]
    return {"median": median(each), "low": min(each), "high": max(each)}


def rate(times: Times, name: str) -> float:
    """Median units per second."""
    return 1.0 / median(times[name])


@contextmanager
def told(what: str) -> Any:
    """Say on the terminal what is being measured, and how long that took."""
    print(f"  {what} …", end="", flush=True)
    start = time.perf_counter()
    yield
    print(f" {time.perf_counter() - start:.1f} s", flush=True)
