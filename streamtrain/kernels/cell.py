"""The FastGRNN cell, forward and backward through time, hidden units across lanes.

The cell (DESIGN: verified against the released Tiny Dancer binary)::

    r_t = σ(nu (W_reset x_t + b_reset))            u_t = σ(nu (W_update x_t + b_update))
    c_t = tanh(zeta (W_candidate x_t + W_recurrent (r_t ⊙ h_{t-1}) + b_candidate))
    h_t = u_t ⊙ h_{t-1} + (1 - u_t) ⊙ c_t          z_t = W_output h_t + b_output

The update gate is kept as its complement ``k = 1 - u = ½ - ½ tanh(nu a / 2)``, so that both gates and the candidate
cost one `tanh` each. Offsets follow `streamtrain.kernels.layout`; `p` is the packed parameters, `s` the scratch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtrain.kernels.activations import tanh
from streamtrain.kernels.policy import inlined
from streamtrain.kernels.simd import LANES, load, matmul, muladd, splat, store, total

f32 = np.float32
_HALF, _ONE = f32(0.5), f32(1.0)


@inlined
def forward_step(
    p: Any,
    s: Any,
    x: Any,
    x_at: int,
    rows: int,
    n_features: int,
    padded: int,
    panel: int,
    panel_vectors: int,
    w_output: int,
    bias: int,
    b_output: int,
    gates: int,
    z: int,
    nu: float,
    zeta: float,
) -> None:
    """T = 1: features → k, c (left in the gates' rows) and logits. `rows` is a multiple of the row block."""
    matmul(s, gates, panel, x, x_at, n_features, 1, p, 0, panel, rows, panel_vectors, n_features, False, p, bias)
    half, half_nu, scale = splat(_HALF), splat(f32(-0.5 * nu)), splat(f32(zeta))
    for row in range(rows):
        at = gates + row * panel
        for v in range(0, padded, LANES):
            k = muladd(half, tanh(half_nu * load(s, at + v)), half)
            c = tanh(scale * load(s, at + padded + v))
            store(s, at + v, k)
            store(s, at + padded + v, c)
    # Apart from the loop above: the sum across lanes is a long chain that would keep the next row's tanh waiting.
    for row in range(rows):
        at = gates + row * panel
        acc = splat(f32(0.0))
        for v in range(0, padded, LANES):
            acc = muladd(load(p, w_output + v), load(s, at + v) * load(s, at + padded + v), acc)
        s[z + row] = total(acc) + p[b_output]


@inlined
def backward_step(
    p: Any,
    s: Any,
    x: Any,
    x_at: int,
    rows: int,
    n_features: int,
    padded: int,
    panel: int,
    panel_vectors: int,
    w_output: int,
    bias: int,
    b_output: int,
    gates: int,
    dz: int,
    zeros: int,
    gradient: int,
    nu: float,
    zeta: float,
) -> None:
    """T = 1: gradient of the logits → gradient of every active parameter.

    With h = k c: ``da_c = dh k (1 - c²) zeta`` and ``da_u = -dh c k (1 - k) nu``.
    """
    one, gate_scale, scale = splat(_ONE), splat(f32(-nu)), splat(f32(zeta))
    for v in range(0, padded, LANES):
        w = load(p, w_output + v)
        sum_u, sum_c, sum_o = splat(f32(0.0)), splat(f32(0.0)), splat(f32(0.0))
        for row in range(rows):
            at = gates + row * panel + v
            k, c, d = load(s, at), load(s, at + padded), splat(s[dz + row])
            sum_o = muladd(k * c, d, sum_o)
            dk = w * d * k
            da_u = dk * c * (one - k) * gate_scale
            da_c = dk * (one - c * c) * scale
            sum_u = sum_u + da_u
            sum_c = sum_c + da_c
            store(s, at, da_u)
            store(s, at + padded, da_c)
        store(s, gradient + w_output + v, sum_o)
        store(s, gradient + bias + v, sum_u)
        store(s, gradient + bias + padded + v, sum_c)
    matmul(
        s, gradient, panel, x, x_at, 1, n_features, s, gates, panel,
        n_features, panel_vectors, rows, False, s, zeros,
    )  # fmt: skip
    acc = f32(0.0)
    for row in range(rows):
        acc += s[dz + row]
    s[gradient + b_output] = acc


@inlined
def forward_sequence(
    p: Any,
    s: Any,
    x: Any,
    x_at: int,
    batch: int,
    steps: int,
    n_features: int,
    hidden: int,
    padded: int,
    vectors: int,
    panel: int,
    panel_vectors: int,
    w_output: int,
    w_recurrent: int,
    bias: int,
    b_output: int,
    gates: int,
    h: int,
    reset_h: int,
    z: int,
    nu: float,
    zeta: float,
) -> None:
    """T > 1: features → k, c, r, h, r ⊙ h_{t-1} and logits of every step, from h_0 = 0."""
    rows = batch * steps
    matmul(s, gates, panel, x, x_at, n_features, 1, p, 0, panel, rows, panel_vectors, n_features, False, p, bias)
    zero, half = splat(f32(0.0)), splat(_HALF)
    minus_half_nu, half_nu, scale = splat(f32(-0.5 * nu)), splat(f32(0.5 * nu)), splat(f32(zeta))
    for t in range(steps):
        if t > 0:
            for b in range(batch):
                row = b * steps + t
                at = gates + row * panel + 2 * padded
                for v in range(0, padded, LANES):
                    r = muladd(half, tanh(half_nu * load(s, at + v)), half)
                    store(s, at + v, r)
                    store(s, reset_h + row * padded + v, r * load(s, h + (row - 1) * padded + v))
            matmul(
                s, gates + t * panel + padded, steps * panel, s, reset_h + t * padded, steps * padded, 1,
                p, w_recurrent, padded, batch, vectors, hidden, True, p, bias,
            )  # fmt: skip
        else:
            for b in range(batch):
                for v in range(0, padded, LANES):
                    store(s, reset_h + b * steps * padded + v, zero)
        for b in range(batch):
            row = b * steps + t
            at = gates + row * panel
            acc = splat(f32(0.0))
            for v in range(0, padded, LANES):
                k = muladd(half, tanh(minus_half_nu * load(s, at + v)), half)
                c = tanh(scale * load(s, at + padded + v))
                previous = zero
                if t > 0:
                    previous = load(s, h + (row - 1) * padded + v)
                now = muladd(k, c - previous, previous)
                store(s, at + v, k)
                store(s, at + padded + v, c)
                store(s, h + row * padded + v, now)
                acc = muladd(load(p, w_output + v), now, acc)
            s[z + row] = total(acc) + p[b_output]


@inlined
def backward_sequence(
    p: Any,
    s: Any,
    x: Any,
    x_at: int,
    batch: int,
    steps: int,
    n_features: int,
    hidden: int,
    padded: int,
    vectors: int,
    panel: int,
    panel_vectors: int,
    w_output: int,
    w_recurrent: int,
    bias: int,
    b_output: int,
    gates: int,
    h: int,
    reset_h: int,
    carry: int,
    d_reset_h: int,
    plain_recurrent: int,
    dz: int,
    zeros: int,
    gradient: int,
    nu: float,
    zeta: float,
) -> None:
    """T > 1: backpropagation through time from the logits' gradients of every step.

    With the carried gradient g of h_t: ``da_c = g k (1 - c²) zeta``, ``da_u = g (h_{t-1} - c) k (1 - k) nu``,
    ``d(r ⊙ h_{t-1}) = W_recurrentᵀ da_c``, ``da_r = d(r ⊙ h_{t-1}) h_{t-1} r (1 - r) nu`` and
    ``g' = g (1 - k) + d(r ⊙ h_{t-1}) r``.
    """
    rows = batch * steps
    zero, one = splat(f32(0.0)), splat(_ONE)
    gate_scale, scale = splat(f32(nu)), splat(f32(zeta))
    for j in range(hidden):
        for k_row in range(hidden):
            s[plain_recurrent + j * padded + k_row] = p[w_recurrent + k_row * padded + j]
    for b in range(batch):
        for v in range(0, padded, LANES):
            store(s, carry + b * padded + v, zero)
    for back in range(steps):
        t = steps - 1 - back
        for b in range(batch):
            row = b * steps + t
            at = gates + row * panel
            d = splat(s[dz + row])
            for v in range(0, padded, LANES):
                g = muladd(load(p, w_output + v), d, load(s, carry + b * padded + v))
                k, c = load(s, at + v), load(s, at + padded + v)
                previous = zero
                if t > 0:
                    previous = load(s, h + (row - 1) * padded + v)
                gk = g * k
                store(s, at + v, gk * (previous - c) * (one - k) * gate_scale)
                store(s, at + padded + v, gk * (one - c * c) * scale)
                store(s, carry + b * padded + v, g - gk)
        if t > 0:
            matmul(
                s, d_reset_h, padded, s, gates + t * panel + padded, steps * panel, 1,
                s, plain_recurrent, padded, batch, vectors, hidden, False, s, zeros,
            )  # fmt: skip
        for b in range(batch):
            row = b * steps + t
            at = gates + row * panel + 2 * padded
            for v in range(0, padded, LANES):
                if t > 0:
                    r, d_rh = load(s, at + v), load(s, d_reset_h + b * padded + v)
                    previous = load(s, h + (row - 1) * padded + v)
                    store(s, at + v, d_rh * previous * r * (one - r) * gate_scale)
                    store(s, carry + b * padded + v, muladd(d_rh, r, load(s, carry + b * padded + v)))
                else:
                    store(s, at + v, zero)
    for v in range(0, panel, LANES):
        acc = splat(f32(0.0))
        for row in range(rows):
            acc = acc + load(s, gates + row * panel + v)
        store(s, gradient + bias + v, acc)
    for v in range(0, padded, LANES):
        acc = splat(f32(0.0))
        for row in range(rows):
            acc = muladd(load(s, h + row * padded + v), splat(s[dz + row]), acc)
        store(s, gradient + w_output + v, acc)
    matmul(
        s, gradient, panel, x, x_at, 1, n_features, s, gates, panel,
        n_features, panel_vectors, rows, False, s, zeros,
    )  # fmt: skip
    matmul(
        s, gradient + w_recurrent, padded, s, reset_h, 1, padded, s, gates + padded, panel,
        hidden, vectors, rows, False, s, zeros,
    )  # fmt: skip
    total_dz = f32(0.0)
    for row in range(rows):
        total_dz += s[dz + row]
    s[gradient + b_output] = total_dz
