"""L2, clipping by global norm, and Adam over the packed parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtrain.kernels.policy import inlined
from streamtrain.kernels.simd import LANES, load, muladd, splat, sqrt, store, total

f32 = np.float32


@inlined
def penalised_norm(p: Any, s: Any, gradient: int, n_weights: int, size: int, l2: float) -> Any:
    """Add ``l2 · w`` to the weights' gradient (not the biases') and return the squared norm of the whole."""
    norm = splat(f32(0.0))
    decay = splat(f32(l2))
    for i in range(0, n_weights, LANES):
        g = muladd(decay, load(p, i), load(s, gradient + i))
        store(s, gradient + i, g)
        norm = muladd(g, g, norm)
    for i in range(n_weights, size, LANES):
        g = load(s, gradient + i)
        norm = muladd(g, g, norm)
    return total(norm)


@inlined
def adam(
    p: Any,
    m: Any,
    v: Any,
    s: Any,
    gradient: int,
    size: int,
    shrink: float,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    beta1_power: float,
    beta2_power: float,
) -> None:
    """One step of Adam (Kingma & Ba, 2015, algorithm 1) with the gradient scaled by `shrink`.

    ``w -= lr · m̂ / (√v̂ + ε)`` with ``m̂ = m / (1 - β₁ᵗ)``, ``v̂ = v / (1 - β₂ᵗ)``; the powers are given.
    """
    factor = splat(f32(shrink))
    old1, new1 = splat(f32(beta1)), splat(f32(1.0 - beta1))
    old2, new2 = splat(f32(beta2)), splat(f32(1.0 - beta2))
    rate = splat(f32(learning_rate / (1.0 - beta1_power)))
    root = splat(f32(1.0 / np.sqrt(1.0 - beta2_power)))
    guard = splat(f32(epsilon))
    for i in range(0, size, LANES):
        g = factor * load(s, gradient + i)
        mi = muladd(old1, load(m, i), new1 * g)
        vi = muladd(old2, load(v, i), new2 * g * g)
        store(m, i, mi)
        store(v, i, vi)
        store(p, i, load(p, i) - rate * mi / muladd(sqrt(vi), root, guard))
