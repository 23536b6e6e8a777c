"""Whole passes over a data set in one call: a training epoch, an evaluation, a scoring.

A factory makes each kernel for one shape; the integers it closes over are compile-time constants, which is what lets
the compiler keep everything in registers. The kernels run without the GIL, take the caller's buffers and allocate
nothing but one line of row numbers per call.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import types

from streamtrain.kernels.adam import adam, penalised_norm
from streamtrain.kernels.cell import backward_sequence, backward_step, forward_sequence, forward_step
from streamtrain.kernels.factors import Factored, contract_matrix, copy, expand_matrix
from streamtrain.kernels.layout import Layout, Scratch
from streamtrain.kernels.loss import distilled_loss, hard_loss
from streamtrain.kernels.policy import DOUBLES, FLOATS, INPUT, entry
from streamtrain.kernels.rounding import round_output, round_rows
from streamtrain.kernels.shuffle import (
    BLOCK,
    N_STARTS,
    RUN_BITS,
    WINDOW,
    bits_for,
    draw,
    draw_in_window,
    run_start,
    windowed_bits_for,
)
from streamtrain.kernels.simd import LANES, ROW_BLOCK, load, prefetch, store, total

f32 = np.float32
u64 = np.uint64

# Slots of the hyper-parameter vector (float64).
LEARNING_RATE, BETA1, BETA2, EPSILON, L2, CLIP, ALPHA, TEMPERATURE, NU, ZETA, ROUNDED, N_HYPER = range(12)
# Slots of the state that survives between epochs (float64): β₁ᵗ, β₂ᵗ, and the step count t.
BETA1_POWER, BETA2_POWER, STEP, N_STATE = range(4)
# Slots of the report (float64).
LOSS, RIGHT, WEIGHT, LARGEST_NORM, N_CLIPPED, N_REPORT = range(6)

EVALUATION_BATCH = 64

# From so many samples on the order is made in windows: fewer stay in the caches, whatever their order.
WINDOWED_FROM = 1 << 17
# A longer row (in floats) fills cache lines of its own, and a window of them would not stay in the cache.
_NARROW_ROW = 64

_EPOCH = types.int64(
    *(FLOATS, FLOATS, FLOATS, FLOATS, INPUT, FLOATS),
    *(INPUT, INPUT, INPUT, INPUT),
    *(DOUBLES, DOUBLES, types.uint64, DOUBLES),
)
_SCORE = types.void(FLOATS, FLOATS, INPUT, INPUT, INPUT, types.float64, types.float64, FLOATS, DOUBLES)


def training_scratch(layout: Layout, batch_size: int, rank: int) -> Scratch:
    """Lay out the working memory that a training kernel of this shape takes."""
    factored = Factored(layout, rank)
    if not factored.any:
        return Scratch(layout, batch_size)
    return Scratch(layout, batch_size, factored.size, layout.hidden * factored.padded_rank)


@lru_cache(maxsize=64)
def training_kernel(n_features: int, hidden: int, steps: int, batch_size: int, distilled: bool, rank: int = 0) -> Any:
    """Make the training epoch for one shape.

    Parameters
    ----------
    n_features, hidden, steps, batch_size : int
        D, H, T and the number of sequences a step.
    distilled : bool
        Whether the data has teacher logits.
    rank : int
        Rank of the factors that the matrices are trained as; 0 trains them whole.

    Returns
    -------
    callable
        ``epoch(f, m, v, p, mask, s, x, y, w, q, hyper, state, key, report) -> int``.
        `f, m, v` are the trained vector and Adam's moments (float32, ``Factored.size``); `p` the packed parameters
        that are served (float32, ``Layout.size``), written where they differ from `f` (factors, rounding); `mask`
        packed ones and zeros that the gradient is multiplied with, or empty; `s` the scratch (float32,
        ``Scratch.size``, all zeros before the first call); `x, y, w, q` flat float32 arrays of N·T·D, N·T, N·T and N·T
        (`q`, the teacher's logits, is read only when `distilled`); `hyper`, `state`, `report` float64 vectors by the
        slots above; `key` the uint64 of the shuffle.
        Returns the number of batches done, or ``-1 - batch`` at the first batch whose loss or gradient is not finite,
        with the parameters as they were before it.
    """
    layout = Layout(n_features, hidden, steps)
    factored = Factored(layout, rank)
    scratch = training_scratch(layout, batch_size, rank)
    padded, panel, size, n_weights = layout.padded, layout.panel, layout.size, layout.n_weights
    vectors, panel_vectors = padded // LANES, panel // LANES
    w_output, w_recurrent, bias, b_output = layout.w_output, layout.w_recurrent, layout.bias, layout.b_output
    gates, h, reset_h, carry, d_reset_h = scratch.gates, scratch.h, scratch.reset_h, scratch.carry, scratch.d_reset_h
    plain_recurrent, z, dz, zeros, gradient = (
        scratch.w_recurrent,
        scratch.z,
        scratch.dz,
        scratch.zeros,
        scratch.gradient,
    )
    ys, ws, qs = scratch.y, scratch.w, scratch.q
    row_features = steps * n_features
    row_vectors = row_features // LANES * LANES
    line, run = 16, 1 << RUN_BITS
    narrow = row_features <= _NARROW_ROW
    indirect, factored_inputs, factored_recurrent = factored.any, factored.inputs, factored.recurrent
    padded_rank, gate_factors = factored.padded_rank, factored.gate
    rank_vectors = padded_rank // LANES
    n_gates, turned = layout.gates, scratch.turned
    f_output, f_recurrent, f_weights, f_size = (
        factored.w_output,
        factored.w_recurrent,
        factored.n_weights,
        factored.size,
    )
    f_gradient = scratch.factor_gradient if indirect else gradient
    n_biases = size - n_weights
    recurrent_size = n_weights - w_recurrent

    @entry(_EPOCH)
    def epoch(
        f: Any, m: Any, v: Any, p: Any, mask: Any, s: Any,
        x: Any, y: Any, w: Any, q: Any, hyper: Any, state: Any, key: Any, report: Any,
    ) -> Any:  # fmt: skip
        n = len(y) // steps
        windowed = narrow and n >= WINDOWED_FROM
        bits = windowed_bits_for(n) if windowed else bits_for(n)
        # Samples of this batch, then those drawn for the next: their rows are asked for a batch ahead, or, where the
        # order is made in windows, whole runs of them a window ahead.
        order = np.empty(2 * batch_size + BLOCK, np.int64)
        hashes, starts = np.empty(BLOCK, np.uint64), np.empty(N_STARTS, np.int64)
        held, position, n_runs, domain = 0, 0, 0, 1 << bits
        n_batches = (n + batch_size - 1) // batch_size
        nu, zeta, rounded = hyper[NU], hyper[ZETA], hyper[ROUNDED] > 0.0
        served = p if indirect or rounded else f
        # One turn more than there are batches: the last brings what is served up to date.
        for number in range(n_batches + 1):
            if indirect or rounded:
                if factored_inputs:
                    for g in range(n_gates):
                        expand_matrix(
                            p, g * padded, panel, f, g * gate_factors, n_features, rank, padded_rank, padded,
                            vectors, s, zeros,
                        )  # fmt: skip
                else:
                    copy(p, 0, f, 0, w_output)
                copy(p, w_output, f, f_output, padded)
                if factored_recurrent:
                    expand_matrix(
                        p, w_recurrent, padded, f, f_recurrent, hidden, rank, padded_rank, padded, vectors, s, zeros
                    )
                else:
                    copy(p, w_recurrent, f, f_recurrent, recurrent_size)
                copy(p, n_weights, f, f_weights, n_biases)
                for i in range(0, len(mask), LANES):
                    store(p, i, load(p, i) * load(mask, i))
                if rounded:
                    round_rows(p, 0, n_features, panel)
                    round_output(p, w_output, padded)
                    if steps > 1:
                        round_rows(p, w_recurrent, hidden, padded)
            if number == n_batches:
                break
            count = min(batch_size, n - number * batch_size)
            if number > 0:
                held -= batch_size
                for i in range(held):
                    order[i] = order[batch_size + i]
            asked = held
            while held < 2 * batch_size and position < domain:
                if windowed:
                    for number_of_run in range(n_runs, (position + WINDOW + BLOCK) >> RUN_BITS):
                        first = run_start(number_of_run, bits, key)
                        starts[number_of_run % N_STARTS] = first
                        for at in range(0, run * row_features + line - 1, line):
                            prefetch(x, first * row_features + at)
                        for at in range(0, run * steps + line - 1, line):
                            prefetch(y, first * steps + at)
                            prefetch(w, first * steps + at)
                    n_runs = (position + WINDOW + BLOCK) >> RUN_BITS
                    held = draw_in_window(order, held, hashes, starts, position, n, key)
                else:
                    held = draw(order, held, hashes, position, n, bits, key)
                position += BLOCK
            if not windowed:
                for i in range(asked, held):
                    for at in range(0, row_features, line):
                        prefetch(x, order[i] * row_features + at)
                    prefetch(y, order[i] * steps)
                    prefetch(w, order[i] * steps)
            batch = (count + ROW_BLOCK - 1) // ROW_BLOCK * ROW_BLOCK
            rows = batch * steps
            for i in range(count):
                j = order[i]
                # By whole vectors: the compiler can't know that the two arrays don't overlap.
                for at in range(0, row_vectors, LANES):
                    store(s, i * row_features + at, load(x, j * row_features + at))
                for at in range(row_vectors, row_features):
                    s[i * row_features + at] = x[j * row_features + at]
                for t in range(steps):
                    s[ys + i * steps + t] = y[j * steps + t]
                    s[ws + i * steps + t] = w[j * steps + t]
                    if distilled:
                        s[qs + i * steps + t] = q[j * steps + t]
            for at in range(count * row_features, batch * row_features):
                s[at] = f32(0.0)
            for at in range(count * steps, (rows + LANES - 1) // LANES * LANES):
                s[ys + at] = f32(0.0)
                s[ws + at] = f32(0.0)
                s[z + at] = f32(0.0)
                if distilled:
                    s[qs + at] = f32(0.0)
            sums = load(s, ws)
            for at in range(LANES, rows, LANES):
                sums = sums + load(s, ws + at)
            weight = np.float64(total(sums))
            if weight <= 0.0:
                continue
            if steps == 1:
                forward_step(
                    served, s, s, 0, rows, n_features, padded, panel, panel_vectors, w_output, bias, b_output,
                    gates, z, nu, zeta,
                )  # fmt: skip
            else:
                forward_sequence(
                    served, s, s, 0, batch, steps, n_features, hidden, padded, vectors, panel, panel_vectors,
                    w_output, w_recurrent, bias, b_output, gates, h, reset_h, z, nu, zeta,
                )  # fmt: skip
            if distilled:
                loss, right = distilled_loss(s, rows, z, ys, ws, qs, dz, 1.0 / weight, hyper[ALPHA], hyper[TEMPERATURE])
            else:
                loss, right = hard_loss(s, rows, z, ys, ws, dz, 1.0 / weight)
            if steps == 1:
                backward_step(
                    served, s, s, 0, rows, n_features, padded, panel, panel_vectors, w_output, bias, b_output,
                    gates, dz, zeros, gradient, nu, zeta,
                )  # fmt: skip
            else:
                backward_sequence(
                    served, s, s, 0, batch, steps, n_features, hidden, padded, vectors, panel, panel_vectors,
                    w_output, w_recurrent, bias, b_output, gates, h, reset_h, carry, d_reset_h, plain_recurrent,
                    dz, zeros, gradient, nu, zeta,
                )  # fmt: skip
            for i in range(0, len(mask), LANES):
                store(s, gradient + i, load(s, gradient + i) * load(mask, i))
            if indirect:
                if factored_inputs:
                    for g in range(n_gates):
                        contract_matrix(
                            f, g * gate_factors, s, gradient + g * padded, panel, f_gradient + g * gate_factors,
                            n_features, hidden, rank, padded_rank, rank_vectors, padded, vectors, turned, zeros,
                        )  # fmt: skip
                else:
                    copy(s, f_gradient, s, gradient, w_output)
                copy(s, f_gradient + f_output, s, gradient + w_output, padded)
                if factored_recurrent:
                    contract_matrix(
                        f, f_recurrent, s, gradient + w_recurrent, padded, f_gradient + f_recurrent,
                        hidden, hidden, rank, padded_rank, rank_vectors, padded, vectors, turned, zeros,
                    )  # fmt: skip
                else:
                    copy(s, f_gradient + f_recurrent, s, gradient + w_recurrent, recurrent_size)
                copy(s, f_gradient + f_weights, s, gradient + n_weights, n_biases)
            norm = np.sqrt(np.float64(penalised_norm(f, s, f_gradient, f_weights, f_size, hyper[L2])))
            if not (np.isfinite(norm) and np.isfinite(loss)):
                return -1 - number
            shrink = 1.0
            if hyper[CLIP] > 0.0 and norm > hyper[CLIP]:
                shrink = hyper[CLIP] / norm
                report[N_CLIPPED] += 1.0
            report[LOSS] += loss
            report[RIGHT] += right
            report[WEIGHT] += weight
            report[LARGEST_NORM] = max(report[LARGEST_NORM], norm)
            state[STEP] += 1.0
            state[BETA1_POWER] *= hyper[BETA1]
            state[BETA2_POWER] *= hyper[BETA2]
            adam(
                f, m, v, s, f_gradient, f_size, shrink, hyper[LEARNING_RATE], hyper[BETA1], hyper[BETA2],
                hyper[EPSILON], state[BETA1_POWER], state[BETA2_POWER],
            )  # fmt: skip
        return n_batches

    return epoch


@lru_cache(maxsize=64)
def scoring_kernel(n_features: int, hidden: int, steps: int) -> Any:
    """Make the forward pass over a data set for one shape.

    Returns
    -------
    callable
        ``score(p, s, x, y, w, nu, zeta, logits, report) -> None``: fills `logits` (float32, N·T, or empty to leave
        them out) and adds weighted loss, right decisions and weight to `report`. The scratch `s` is that of a batch of
        `EVALUATION_BATCH`.
    """
    layout = Layout(n_features, hidden, steps)
    scratch = Scratch(layout, EVALUATION_BATCH)
    padded, panel = layout.padded, layout.panel
    vectors, panel_vectors = padded // LANES, panel // LANES
    w_output, w_recurrent, bias, b_output = layout.w_output, layout.w_recurrent, layout.bias, layout.b_output
    gates, h, reset_h, z, dz = scratch.gates, scratch.h, scratch.reset_h, scratch.z, scratch.dz
    ys, ws = scratch.y, scratch.w
    row_features = steps * n_features

    @entry(_SCORE)
    def score(p: Any, s: Any, x: Any, y: Any, w: Any, nu: Any, zeta: Any, logits: Any, report: Any) -> None:
        n = len(y) // steps
        for first in range(0, n, EVALUATION_BATCH):
            count = min(EVALUATION_BATCH, n - first)
            batch = (count + ROW_BLOCK - 1) // ROW_BLOCK * ROW_BLOCK
            rows = batch * steps
            weight = 0.0
            for i in range(count * steps):
                s[ys + i] = y[first * steps + i]
                s[ws + i] = w[first * steps + i]
                weight += w[first * steps + i]
            for at in range(count * steps, (rows + LANES - 1) // LANES * LANES):
                s[ys + at] = f32(0.0)
                s[ws + at] = f32(0.0)
                s[z + at] = f32(0.0)
            source, start = x, first * row_features
            if batch > count:
                for at in range(count * row_features):
                    s[at] = x[start + at]
                for at in range(count * row_features, batch * row_features):
                    s[at] = f32(0.0)
                source, start = s, 0
            if steps == 1:
                forward_step(
                    p, s, source, start, rows, n_features, padded, panel, panel_vectors, w_output, bias, b_output,
                    gates, z, nu, zeta,
                )  # fmt: skip
            else:
                forward_sequence(
                    p, s, source, start, batch, steps, n_features, hidden, padded, vectors, panel, panel_vectors,
                    w_output, w_recurrent, bias, b_output, gates, h, reset_h, z, nu, zeta,
                )  # fmt: skip
            loss, right = hard_loss(s, rows, z, ys, ws, dz, 0.0)
            report[LOSS] += loss
            report[RIGHT] += right
            report[WEIGHT] += weight
            if len(logits) > 0:
                for i in range(count * steps):
                    logits[first * steps + i] = s[z + i]

    return score
