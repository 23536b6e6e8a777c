"""What calibration and `router.max_error` promise, held against fresh samples: whole passes, counted.

    .venv/bin/python bench/calibration.py [RUNS]      200 runs of each world; seeds 0, 1, 2, …

Each run draws a log, reads it, trains, judges and publishes as `streamtrain once` does, and then asks a router on the
published version about 200,000 requests that nobody has seen.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamtrain import Router
from streamtrain.config import parse
from streamtrain.cycle import Cycle
from streamtrain.ingest.schema import GUIDE_FEATURES
from streamtrain.judge.metrics import ece, log_loss

F64 = NDArray[np.float64]

N_LOG = 10_000
N_FRESH = 200_000
_START = 1_700_000_000


@dataclass(frozen=True)
class World:
    """Where labels come from, and what is promised there.

    Attributes
    ----------
    chance : callable
        Probability of label 1 for features (N, 5) in 0..1.
    max_error : float
    session_length : int
        Requests of a session share a part of their luck.
    explored : callable or None
        Probability with which a request's outcome was logged, for features; None logs them all.
    """

    chance: Callable[[F64], F64]
    max_error: float
    session_length: int = 1
    explored: Callable[[F64], F64] | None = None


def guide(x: F64) -> F64:
    """The guide's problem: `score + U(-0.1, 0.1) > 0.6`."""
    score = 0.4 * x[:, 0] + 0.3 * x[:, 3] + 0.3 * (1.0 - x[:, 4])
    return np.clip((score - 0.5) / 0.2, 0.0, 1.0)


def noisy(x: F64) -> F64:
    """Outcomes that nobody can foresee well, as real ones are."""
    score = 0.4 * x[:, 0] + 0.3 * x[:, 3] + 0.3 * (1.0 - x[:, 4])
    return np.asarray(1.0 / (1.0 + np.exp(-12.0 * (score - 0.4))))


def timid(x: F64) -> F64:
    """A logging policy that tries the lightweight model where it looks good, and elsewhere in one case of ten."""
    return np.where(x[:, 0] > 0.5, 0.9, 0.1)


WORLDS = {
    "the guide's problem": World(guide, 0.02),
    "noisy outcomes": World(noisy, 0.10),
    "noisy, sessions of 4": World(noisy, 0.10, session_length=4),
    "noisy, explored unevenly": World(noisy, 0.10, explored=timid),
}


def write_log(file: Path, world: World, rng: np.random.Generator, n: int = N_LOG) -> None:
    """Write `n` logged outcomes as JSON Lines."""
    x = rng.random((n, 5))
    luck = np.repeat(rng.random(-(-n // world.session_length)), world.session_length)[:n]
    own = rng.random(n) < 0.5 if world.session_length > 1 else np.ones(n, np.bool_)
    good = np.where(own, rng.random(n), luck) < world.chance(x)
    chance = np.ones(n) if world.explored is None else world.explored(x)
    logged = rng.random(n) < chance
    with file.open("w") as out:
        for i in np.flatnonzero(logged):
            row = dict(zip(GUIDE_FEATURES, x[i].tolist(), strict=True))
            row |= {"id": f"r{i}", "timestamp": _START + int(i), "session": f"s{i // world.session_length}"}
            out.write(json.dumps(row | {"lightweight_successful": bool(good[i]), "p": float(chance[i])}) + "\n")


def write_config(folder: Path, world: World, text: str = "") -> str:
    """YAML of a service in `folder` that keeps the world's promise."""
    schema = ", ".join(
        [*(["session: session"] if world.session_length > 1 else []), *(["propensity: p"] if world.explored else [])]
    )
    return (
        f"logs: {{directory: {folder}/logs}}\nstate: {{directory: {folder}/state}}\n"
        f"models: {{directory: {folder}/models}}\nschema: {{{schema}}}\n"
        f"gate: {{min_accuracy: 0}}\nrouter: {{max_error: {world.max_error}}}\n{text}"
    )


@dataclass(frozen=True)
class Outcome:
    """Of one run: calibration, threshold, and the true rates at that threshold, of fresh samples."""

    published: bool
    kept: bool
    threshold: float
    share: float
    error: float
    ece: float
    loss: float
    method: str


def run(world: World, seed: int, text: str = "", n: int = N_LOG) -> Outcome:
    """One log, one pass, one router."""
    rng = np.random.default_rng([seed, 7])
    with tempfile.TemporaryDirectory(prefix="streamtrain-calibration-") as scratch:
        folder = Path(scratch)
        (folder / "logs").mkdir()
        write_log(folder / "logs" / "a.jsonl", world, rng, n)
        with Cycle(parse(write_config(folder, world, text), folder)) as cycle:
            cycle.ingest()
            decision = cycle.learn(workers=1)
        if decision.outcome != "published":
            return Outcome(False, False, 1.0, 0.0, 0.0, np.nan, np.nan, decision.reason)
        manifest = json.loads((folder / "models" / "current" / "manifest.json").read_bytes())
        fresh = rng.random((N_FRESH, 5))
        chances = world.chance(fresh)
        with Router(folder / "models", poll_interval_s=None) as router:
            p = router.score_batch(fresh)
            threshold = router.threshold
    routed = p >= threshold
    error = float((1.0 - chances[routed]).mean()) if routed.any() else 0.0
    labels = (rng.random(N_FRESH) < chances).astype(np.float64)
    return Outcome(
        published=True,
        kept=manifest["router"]["promised"],
        threshold=threshold,
        share=float(routed.mean()),
        error=error,
        ece=ece(labels, p),
        loss=log_loss(labels, p),
        method=manifest["calibration"]["method"],
    )


def main(n_runs: int) -> None:
    """Print the table."""
    print(f"{n_runs} runs of each, seeds 0 to {n_runs - 1}; logs of {N_LOG:,}, {N_FRESH:,} fresh samples each")
    print(f"{'world':26} {'promise':>7} {'given':>7} {'holds':>7} {'share':>6} {'error':>7} {'ECE':>7} {'worst':>7}")
    for name, world in WORLDS.items():
        runs = [run(world, seed) for seed in range(n_runs)]
        done = [one for one in runs if one.published]
        kept = [one for one in done if one.kept]
        holds = sum(one.error <= world.max_error for one in kept)
        share, error = (np.median([getattr(one, what) for one in kept] or [0]) for what in ("share", "error"))
        eces = [one.ece for one in done]
        print(
            f"{name:26} {world.max_error:7.2f} {len(kept):3d}/{len(done):3d} {holds:3d}/{len(kept):3d} "
            f"{share:6.2f} {error:7.4f} {np.median(eces):7.4f} {max(eces):7.4f}",
            flush=True,
        )
    world = WORLDS["the guide's problem"]
    plain = [run(world, seed, "training: {calibrate: false}\n") for seed in range(min(n_runs, 20))]
    print(f"the guide's problem without calibration: ECE {np.median([one.ece for one in plain]):.4f} (20 runs)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
