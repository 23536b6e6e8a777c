"""How fast this machine could do the arithmetic of a training sample if it did nothing else.

Rates are measured on data that stay in the first-level cache, with the kernels' own building blocks: multiply-adds in
the matrix kernel or, where that is faster, in registers alone; `tanh`; the loss's sigmoid with softplus; the
optimiser's step (L2, norm, Adam). Operations are counted by formula, nothing padded: an add, a multiplication and a
fused multiply-add are one operation each, because each takes one turn of a multiply-add unit.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from clock import Run
from numba import types

from streamtrain.kernels.activations import sigmoid_and_softplus, tanh
from streamtrain.kernels.adam import adam, penalised_norm
from streamtrain.kernels.policy import FLOATS, entry
from streamtrain.kernels.simd import LANES, load, matmul, muladd, store
from streamtrain.model.params import aligned

OPERATIONS, TANH, SIGMOID, PARAMETERS = "operations", "tanh", "sigmoid", "parameters"
_ROWS, _COLUMNS, _DEPTH = 32, 2, 64  # 20 KiB, in tiles of 8 × 2 vectors: the shape that runs fastest
_SUMS = 512
_BLOCK = 4096  # floats, 16 KiB
_OPTIMISED = 1024  # parameters: with gradient and moments 16 KiB
_TURN_S = 0.03
_REPEATED = types.float32(FLOATS, types.int64)


@dataclass(frozen=True)
class Count:
    """Work of one training sample of T steps, by kind."""

    operations: float
    tanh: float
    sigmoid: float
    parameters: float

    def seconds(self, rates: dict[str, float], with_optimiser: bool = True) -> float:
        """Least time at the measured rates (per second, by kind)."""
        arithmetic = self.operations / rates[OPERATIONS] + self.tanh / rates[TANH] + self.sigmoid / rates[SIGMOID]
        return arithmetic + (self.parameters / rates[PARAMETERS] if with_optimiser else 0.0)


FORMULA = {
    "T = 1": {
        "forward": "2 H D in the two gates' products + 3 H (1 - u, h = (1 - u) c, output)",
        "backward": "2 H D for the gates' weights + 10 H (output weights, dh, derivatives of both gates, biases)",
        "activations": "2 H tanh (a gate's sigmoid is one tanh), 1 sigmoid with softplus",
        "optimiser": "(2 H D + 3 H + 1) / batch parameters",
    },
    "T > 1, each step": {
        "forward": "3 H D + H² + 6 H",
        "backward": "3 H D + 2 H² + 18 H",
        "activations": "3 H tanh, 1 sigmoid with softplus",
        "optimiser": "(3 H D + H² + 4 H + 1) / (T batch) parameters",
    },
}


def count(n_features: int, hidden: int, steps: int, batch: int) -> Count:
    """Work of one training sample, by the formulas above."""
    d, h = n_features, hidden
    if steps == 1:
        return Count(4 * h * d + 13 * h, 2 * h, 1, (2 * h * d + 3 * h + 1) / batch)
    parameters = (3 * h * d + h * h + 4 * h + 1) / batch
    return Count(steps * (6 * h * d + 3 * h * h + 24 * h), steps * 3 * h, steps, parameters)


@entry(_REPEATED)
def _multiply_add(s: Any, repeats: Any) -> Any:
    width = _COLUMNS * LANES
    a, b = _ROWS * width, _ROWS * width + _ROWS * _DEPTH
    for _ in range(repeats):
        matmul(s, 0, width, s, a, _DEPTH, 1, s, b, width, _ROWS, _COLUMNS, _DEPTH, True, s, 0)
    return s[0]


@entry(_REPEATED)
def _six_sums(s: Any, repeats: Any) -> Any:
    """Multiply-adds in registers alone: sums enough for AVX2's two units and few enough for its registers."""
    a, b, c, d, e, f = load(s, 0), load(s, 16), load(s, 32), load(s, 48), load(s, 64), load(s, 80)
    x, y = load(s, 6 * LANES), load(s, 7 * LANES)
    for _ in range(repeats * _SUMS):
        a, b, c = muladd(x, a, y), muladd(x, b, y), muladd(x, c, y)
        d, e, f = muladd(x, d, y), muladd(x, e, y), muladd(x, f, y)
    store(s, 0, a + b + c + d + e + f)
    return s[0]


@entry(_REPEATED)
def _ten_sums(s: Any, repeats: Any) -> Any:
    """As above, with sums enough for AVX-512."""
    a, b, c, d, e = load(s, 0), load(s, 16), load(s, 32), load(s, 48), load(s, 64)
    f, g, h, i, j = load(s, 80), load(s, 96), load(s, 112), load(s, 128), load(s, 144)
    x, y = load(s, 10 * LANES), load(s, 11 * LANES)
    for _ in range(repeats * _SUMS):
        a, b, c, d, e = muladd(x, a, y), muladd(x, b, y), muladd(x, c, y), muladd(x, d, y), muladd(x, e, y)
        f, g, h, i, j = muladd(x, f, y), muladd(x, g, y), muladd(x, h, y), muladd(x, i, y), muladd(x, j, y)
    store(s, 0, a + b + c + d + e + f + g + h + i + j)
    return s[0]


@entry(_REPEATED)
def _tanh(s: Any, repeats: Any) -> Any:
    for _ in range(repeats):
        for i in range(0, _BLOCK, LANES):
            store(s, i, tanh(load(s, i)))
    return s[0]


@entry(_REPEATED)
def _sigmoid(s: Any, repeats: Any) -> Any:
    for _ in range(repeats):
        for i in range(0, _BLOCK, LANES):
            sigma, softplus = sigmoid_and_softplus(load(s, i))
            store(s, i, sigma - softplus)
    return s[0]


@entry(_REPEATED)
def _optimise(s: Any, repeats: Any) -> Any:
    n = _OPTIMISED
    norm = np.float32(0.0)
    for _ in range(repeats):
        norm += penalised_norm(s[:n], s, 3 * n, n, n, 1e-9)
        adam(s[:n], s[n : 2 * n], s[2 * n : 3 * n], s, 3 * n, n, 1.0, 1e-3, 0.9, 0.999, 1e-8, 0.5, 0.5)
    return norm


_MULTIPLY_ADDS = (
    (_multiply_add, _ROWS * _COLUMNS * LANES * _DEPTH),
    (_six_sums, 6 * LANES * _SUMS),
    (_ten_sums, 10 * LANES * _SUMS),
)
_BLOCKS = {
    TANH: (_tanh, _BLOCK),
    SIGMOID: (_sigmoid, _BLOCK),
    PARAMETERS: (_optimise, _OPTIMISED),
}


def blocks() -> dict[str, Run]:
    """A run for each building block: seconds for one of its kind."""
    fastest = min((_timed(*block) for block in _MULTIPLY_ADDS), key=lambda run: min(run() for _ in range(3)))
    return {OPERATIONS: fastest} | {kind: _timed(kernel, units) for kind, (kernel, units) in _BLOCKS.items()}


def _timed(kernel: Any, units: int) -> Run:
    data = aligned(3 * _BLOCK)
    data[:] = np.random.default_rng(0).uniform(0.1, 0.5, len(data))
    spent, repeats = 0.0, 1
    while spent < _TURN_S:
        repeats *= 2
        spent = _call(kernel, data, repeats)
    return lambda: _call(kernel, data, repeats) / repeats / units


def _call(kernel: Any, data: Any, repeats: int) -> float:
    start = time.perf_counter()
    kernel(data, repeats)
    return time.perf_counter() - start
