"""Cost of a sample as the data set grows, and the memory that ten million samples take."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import ours
from clock import Times, alternate, rate, told
from problem import drawn

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
_MEMORY = Path(__file__).with_name("memory.py")
PATHS = {
    "fit": "`train.fit.fit` on arrays that are scaled already",
    "daemon": "what a cycle of the daemon does with its window: scale, lay out, `fit`",
    "library": "the guide's library: `TrainingDataset.normalize`, `Trainer.train`",
}


def cost(rounds: int, quick: bool) -> dict[str, Any]:
    """Seconds per sample at each size, relative to the smallest: training alone and whole epochs."""
    sizes = SIZES[:3] if quick else SIZES
    found = {}
    for name, epoch in (("training", ours.training), ("whole epoch", ours.whole_epoch)):
        with told(f"{name} at {', '.join(f'{n:,}' for n in sizes)} samples"):
            whole = drawn(sizes[-1])
            times = alternate({str(n): epoch(whole.first(n), 16) for n in sizes}, rounds)
        found[name] = [{"n": n, "rate": rate(times, str(n)), "relative": _relative(times, n, sizes[0])} for n in sizes]
    return found


def _relative(times: Times, n: int, smallest: int) -> float:
    return median(a / b for a, b in zip(times[str(n)], times[str(smallest)], strict=True))


def memory(quick: bool) -> dict[str, Any]:
    """Peak memory of each path, in a process of its own, relative to the arrays that it was given."""
    n = SIZES[1] if quick else SIZES[-1]
    found = []
    for path in PATHS:
        with told(f"memory of {path} at {n:,} samples"):
            done = subprocess.run(
                [sys.executable, str(_MEMORY), path, str(n)], capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise RuntimeError(f"bench: {_MEMORY.name} {path} {n} failed: {done.stderr[-1000:]}")
        found.append(json.loads(done.stdout))
    return {"n": n, "rows": found}
