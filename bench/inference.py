"""Serving: one request and small batches through the Router on a published version, and the size of its weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import ours
from clock import told
from problem import drawn

from streamtrain import Router
from streamtrain.dataset import scale
from streamtrain.model import tensors as tensorfile
from streamtrain.model.formats import INT8_FILE
from streamtrain.model.params import initialise
from streamtrain.model.quantize import quantize
from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.train.fit import fit
from streamtrain.types import Candidate, FastGRNNConfig

WIDTHS = (8, 16, 32)
BATCH = 32


def candidate(hidden: int, seed: int = 0) -> Candidate:
    """A model of the guide's five features, trained for a few epochs."""
    problem = drawn(5_000, seed=seed)
    config = FastGRNNConfig(5, hidden)
    made = fit(initialise(config, seed), config, ours.settings(3), problem.arrays, None, seed)
    return Candidate(
        config=config,
        params=made.params,
        quantized=quantize(made.params),
        scaling=scale.fit(problem.x[:, 0]),
        features=("similarity_score", "recency_score", "popularity_score", "success_rate", "complexity_score"),
        input_scale=None,
        epochs=made.epochs,
        origin="scratch",
        parent=None,
        seed=seed,
    )


def latency(rounds: int, quick: bool) -> list[dict[str, Any]]:
    """Microseconds of a call, the clock's own reading included, in a tight loop; medians of the rounds' figures."""
    calls = 2_000 if quick else 20_000
    rows = []
    for hidden in WIDTHS[1:2] if quick else WIDTHS:
        with told(f"inference, H = {hidden}"), TemporaryDirectory(prefix="bench-") as folder:
            with Registry(Path(folder)) as registry:
                registry.publish(registry.stage(build(candidate(hidden))))
            many = np.random.default_rng(0).random((BATCH, 5))
            one, vector = many[0].tolist(), many[0].copy()
            with Router(folder) as router, Router(folder, compiled=True) as compiled:
                cases: dict[str, Callable[[], object]] = {
                    "route, a list": lambda router=router, one=one: router.route(one),
                    "route, an array": lambda router=router, vector=vector: router.route(vector),
                    f"score_batch of {BATCH}": lambda router=router, many=many: router.score_batch(many),
                    "route, a list, compiled": lambda router=compiled, one=one: router.route(one),
                    "route, an array, compiled": lambda router=compiled, vector=vector: router.route(vector),
                    f"score_batch of {BATCH}, compiled": lambda router=compiled, many=many: router.score_batch(many),
                }
                found = {name: _in_a_loop(call, calls, rounds) for name, call in cases.items()}
        rows.extend({"h": hidden, "call": name, "median_us": mid, "p99_us": p99} for name, (mid, p99) in found.items())
    return rows


def _in_a_loop(call: Callable[[], object], calls: int, rounds: int) -> tuple[float, float]:
    clock, spent = time.perf_counter_ns, [0] * calls
    figures = []
    for _ in range(rounds + 1):
        for i in range(calls):
            start = clock()
            call()
            spent[i] = clock() - start
        figures.append(np.percentile(spent, (50, 99)) / 1e3)
    middles, slow = zip(*figures[1:], strict=True)  # the first round warms up
    return float(median(middles)), float(median(slow))


def sizes() -> list[dict[str, Any]]:
    """Bytes of the INT8 weights and their scales in the published file, for each of the model's parameters."""
    rows = []
    for hidden in WIDTHS:
        with told(f"INT8 file, H = {hidden}"):
            file = build(candidate(hidden))[INT8_FILE]
        tensors, _ = tensorfile.read(file)
        weights = {name: tensor for name, tensor in tensors.items() if name.endswith(".int8")}
        scales = {name: tensor for name, tensor in tensors.items() if name.endswith(".scale")}
        biases = {name: tensor for name, tensor in tensors.items() if name.startswith("b_")}
        n_weights = sum(tensor.size for tensor in weights.values())
        n_parameters = n_weights + sum(tensor.size for tensor in biases.values())
        used = {"weights": weights, "scales": scales, "biases": biases}
        n_bytes = {f"{what}_bytes": sum(tensor.nbytes for tensor in part.values()) for what, part in used.items()}
        both = n_bytes["weights_bytes"] + n_bytes["scales_bytes"]
        rows.append(
            {"h": hidden, "n_parameters": n_parameters, **n_bytes}
            | {"per_parameter": both / n_parameters, "per_weight": both / n_weights}
        )
    return rows
