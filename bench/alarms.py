"""How often detectors are wrong about a world that does not change, and a good version is rolled back for nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from courses import Rows, mixed, read, renamed
from machine import REPOSITORY
from numpy.typing import NDArray
from wald import shares

from streamtrain.config.sections import DriftSection
from streamtrain.dataset.select import select
from streamtrain.judge.drift import Monitor, losses_of
from streamtrain.judge.shift import Reference, Shift
from streamtrain.standing import limit

sys.path.append(str(REPOSITORY / "tests"))
from two_versions import World

PER = 100_000
DEFAULTS = DriftSection()
F64 = NDArray[np.float64]


def independent(rate: float, seed: int, n: int) -> tuple[NDArray[np.float32], F64]:
    """Outcomes and calibrated answers with this rate of errors, each for itself."""
    rng = np.random.default_rng(seed)
    sure = np.clip(rng.beta(8 * (1 - rate), 8 * rate, n), 0.5, 1)
    sure = np.clip(sure + (1 - rate) - sure.mean(), 0.5, 0.999)
    lean = rng.random(n) < 0.5
    p = np.where(lean, sure, 1 - sure)
    return (rng.random(n) < p).astype(np.float32), p


def in_sessions(rate: float, seed: int, n: int) -> tuple[NDArray[np.float32], F64]:
    """Sessions of 3 to 12 requests, some much harder than others."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 13, n // 3)
    error = np.repeat(rng.beta(5 * rate, 5 * (1 - rate), len(lengths)), lengths)[:n]
    labels = (rng.random(n) >= error).astype(np.float32)
    return labels, np.full(n, 1 - rate)


def of_a_log(name: str, seed: int, n: int) -> tuple[Rows, F64, Reference]:
    """A real log's sessions, drawn again and again, as a logistic regression answers them that was fitted on others."""
    rng = np.random.default_rng(seed)
    rows = mixed(read(name), rng)
    half = len(rows) // 2
    fitted, left = rows[slice(0, half)], rows[slice(half, None)]
    weights = _logistic(fitted)
    parts, total = [], 0
    while total < n:
        again = mixed(left, rng)
        parts.append(renamed(again, 10**6 * (len(parts) + 1)))
        total += len(again)
    whole = parts[0]
    for part in parts[1:]:
        whole = whole + part
    whole = whole[slice(0, n)]
    design = np.column_stack((whole.x, np.ones(len(whole))))
    return whole, 1 / (1 + np.exp(-design @ weights)), Reference.of(fitted.x)


def _logistic(rows: Rows, ridge: float = 1.0) -> F64:
    design = np.column_stack((rows.x, np.ones(len(rows)))).astype(np.float64)
    weights = np.zeros(design.shape[1])
    for _ in range(20):
        p = 1 / (1 + np.exp(-design @ weights))
        slope = design.T @ (p - rows.y) + ridge * weights
        curve = (design * (p * (1 - p))[:, None]).T @ design + ridge * np.eye(len(weights))
        weights -= np.linalg.solve(curve, slope)
    return weights


def alarms_of(labels: NDArray[np.float32], probabilities: F64) -> int:
    monitor = Monitor(DEFAULTS.adwin_delta, DEFAULTS.page_hinkley)
    errors = 1.0 - np.equal(probabilities >= 0.5, labels >= 0.5)
    return len(monitor.add(errors, losses_of(labels, probabilities)))


def shifts_of(rows: Rows, reference: Reference) -> int:
    shift, n = Shift(reference, DEFAULTS.psi), 0
    assert rows.sessions is not None
    for start in range(0, len(rows), shift.room):
        part = rows[slice(start, start + 1000)]
        n += shift.add(part.x, part.sessions)
    return n


def false_alarms(n: int) -> Iterator[str]:
    """Count alarms in `n` samples of each of several streams that do not change."""
    yield "| stream that does not change | samples | false alarms | in 100,000 |"
    yield "|---|---|---|---|"
    total, found = 0, 0
    for rate in (0.05, 0.15, 0.3, 0.45):
        for what, make in (("independent", independent), ("in sessions", in_sessions)):
            n_alarms = sum(alarms_of(*make(rate, seed, PER)) for seed in range(n // PER))
            yield f"| {what}, {100 * rate:.0f} % wrong | {n:,} | {n_alarms} | {n_alarms * PER / n:.2f} |"
            total, found = total + n, found + n_alarms
    for name in ("routellm_mixtral", "llmrouter_llama8b"):
        n_alarms = 0
        for seed in range(n // PER):
            rows, probabilities, reference = of_a_log(name, seed, PER)
            n_alarms += alarms_of(rows.y, probabilities) + shifts_of(rows, reference)
        yield f"| sessions of {name}, PSI too | {n:,} | {n_alarms} | {n_alarms * PER / n:.2f} |"
        total, found = total + n, found + n_alarms
    yield f"| all | {total:,} | {found} | {found * PER / total:.2f} |"


def rolled_back(gap: float, different: float, runs: int, n: int, first_seed: int) -> list[int]:
    """After how many samples a champion that is so much worse than its shadow is rolled back, where it is."""
    after = []
    for seed in range(first_seed, first_seed + runs):
        with TemporaryDirectory(prefix="bench-") as folder, World(Path(folder), seed, "", different) as world:
            old, new = world.publish(2 * seed + 1), world.publish(2 * seed + 2)
            made = world.outcomes(n, old, new, gap)
            for start in range(0, n, 100):
                world.read(select(made, slice(start, start + 100)))
                world.prequential.observe()
                if world.registry.current() == old:
                    after.append(start + 100)
                    break
    return after


def rollbacks(runs: int, n_drawn: int) -> Iterator[str]:
    """Count them for champions that are worse, equal and better; of the worse, beside what can be had at all."""
    yield (
        "| champion is truly | answers that differ | watched for | rolled back | median after | "
        "ours, drawn | Wald's, drawn |"
    )
    yield "|---|---|---|---|---|---|---|"
    for gap, words in ((0.05, "5 points worse"), (0.0, "equal"), (-0.02, "2 points better")):
        for different in (0.1, 0.15, 0.2) if gap > 0 else (0.15,):
            n = 2000 if gap > 0 else 5000
            after = rolled_back(gap, different, runs, n, 1000)
            median = f"{np.median(after):,.0f}" if after else "-"
            drawn = [f"{100 * one:.2f} %" for one in shares(gap, different, n, n_drawn, limit(DEFAULTS))]
            drawn[1] = drawn[1] if gap > 0 else ""
            cells = (words, f"{100 * different:.0f} %", f"{n:,}", f"{len(after)} of {runs}", median, *drawn)
            yield "| " + " | ".join(cells) + " |"
