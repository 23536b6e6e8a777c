"""Training speed side by side: ours and each peer in turns, on the same rows, with the same width and batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import limit
import ours
import perceptron
import pytorch
from clock import Run, Times, alternate, rate, ratio, told
from ours import BATCH
from problem import drawn
from tiny_dancer import MissingError, TinyDancer

FULL_BATCH = 16_384
_PEER_SEQUENCES = 9_600  # of the rows, what a peer's epoch runs over where it takes 100 ms for as many


@dataclass(frozen=True)
class Shape:
    """Samples, features, hidden units, steps."""

    n: int
    d: int
    h: int
    t: int = 1

    @property
    def work(self) -> int:
        return self.d * self.t


def grid(quick: bool) -> list[Shape]:
    """Shapes against Tiny Dancer, which has one step only."""
    if quick:
        return [Shape(10_000, 5, 16)]
    narrow = [Shape(n, 5, h) for n in (1_000, 10_000, 100_000) for h in (8, 16, 32)]
    return [*narrow, Shape(1_000, 384, 16), *(Shape(10_000, 384, h) for h in (8, 16, 32))]


def shapes(quick: bool, steps: Sequence[int] = (1, 8)) -> list[Shape]:
    """Shapes against the peers whose speed does not depend on N."""
    hidden, size = ((16,), 10_000) if quick else ((8, 16, 32), 100_000)
    narrow = [Shape(size if t == 1 else size // 5, 5, h, t) for t in steps for h in hidden]
    return [*narrow, *(Shape(10_000 if t == 1 else 2_000, 384, 16, t) for t in steps)]


def row(shape: Shape, times: Times, peer: str, **more: Any) -> dict[str, Any]:
    """One line of a table."""
    return asdict(shape) | {
        "ours": rate(times, "ours"),
        "peer": rate(times, peer),
        "ratio": ratio(times, peer, "ours"),
        **more,
    }


def beside_tiny_dancer(rounds: int, quick: bool) -> dict[str, Any]:
    """Whole epochs: both train on 80 % and evaluate both splits."""
    rows = []
    try:
        with TinyDancer() as peer:
            for shape in grid(quick):
                with told(f"Tiny Dancer, {shape}"):
                    problem = drawn(shape.n, shape.d)
                    peer.load(problem)
                    runs = {"ours": ours.whole_epoch(problem, shape.h), "peer": peer.epoch(shape.n, shape.h)}
                    rows.append(row(shape, alternate(runs, rounds), "peer"))
            return {"rows": rows, "version": peer.version, "processors_used": median(peer.processors_used)}
    except MissingError as error:
        return {"rows": [], "missing": str(error)}


def beside_pytorch(rounds: int, quick: bool) -> dict[str, Any]:
    """Training alone, batch 32; and the peer at a batch of 16,384, which is another training, for information."""
    rows, large = [], []
    for shape in shapes(quick):
        with told(f"PyTorch, {shape}"):
            problem = drawn(shape.n, shape.d, shape.t)
            part = problem.first(min(shape.n, _PEER_SEQUENCES // shape.t // BATCH * BATCH))
            runs = {
                "ours": ours.training(problem, shape.h),
                "peer": pytorch.training(part, shape.h, BATCH),
            }
            rows.append(row(shape, alternate(runs, rounds), "peer", peer_n=len(part.y)))
    for shape in [Shape(2 * FULL_BATCH, 5, 16), Shape(FULL_BATCH, 5, 16, 8)][: 1 if quick else 2]:
        with told(f"PyTorch at batch {FULL_BATCH}, {shape}"):
            problem = drawn(shape.n, shape.d, shape.t)
            runs = {"ours": ours.training(problem, shape.h), "peer": pytorch.training(problem, shape.h, FULL_BATCH)}
            large.append(row(shape, alternate(runs, rounds), "peer", peer_n=shape.n))
    return {"rows": rows, "full_batch": large}


def beside_sklearn(rounds: int, quick: bool) -> dict[str, Any]:
    """Training alone, batch 32, a perceptron with one hidden layer instead of the cell."""
    rows = []
    for shape in shapes(quick, steps=(1,)):
        with told(f"scikit-learn, {shape}"):
            problem = drawn(shape.n, shape.d)
            part = problem.first(min(shape.n, _PEER_SEQUENCES))
            runs = {"ours": ours.training(problem, shape.h), "peer": perceptron.training(part, shape.h)}
            rows.append(row(shape, alternate(runs, rounds), "peer", peer_n=len(part.y)))
    return {"rows": rows}


def beside_limit(rounds: int, quick: bool) -> dict[str, Any]:
    """Training alone against the machine's arithmetic, at two batch sizes: the larger hides the optimiser."""
    cases = [(shape, batch) for shape in shapes(quick) for batch in (BATCH, 32 * BATCH)]
    blocks = limit.blocks()
    rows, seen = [], {kind: [] for kind in blocks}
    for shape, batch in cases:
        with told(f"limit, {shape}, batch {batch}"):
            problem = drawn(shape.n, shape.d, shape.t)
            runs: dict[str, Run] = {"ours": ours.training(problem, shape.h, batch), **blocks}
            times = alternate(runs, rounds)
        work = limit.count(shape.d, shape.h, shape.t, batch)
        fractions, limits, bare = [], [], []
        for at in range(rounds):
            rates = {kind: 1.0 / times[kind][at] for kind in blocks}
            limits.append(1.0 / work.seconds(rates))
            bare.append(1.0 / work.seconds(rates, with_optimiser=False))
            fractions.append(work.seconds(rates) / times["ours"][at])
        for kind in blocks:
            seen[kind].extend(times[kind])
        rows.append(
            asdict(shape) | asdict(work) | {
                "n": len(problem.y), "batch": batch, "ours": rate(times, "ours"), "limit": median(limits),
                "limit_without_optimiser": median(bare), "fraction": median(fractions),
                "low": min(fractions), "high": max(fractions),
            }
        )  # fmt: skip
    return {"rows": rows, "rates": {kind: 1.0 / median(each) for kind, each in seen.items()}, "formula": limit.FORMULA}
