"""Weights rounded to INT8 in training as they are when served, for quantization-aware epochs.

Symmetric, one scale per output row: ``scale = max|w| / 127``, rounded up to float16, ``w' = scale · round(w / scale)``.
The gradient passes straight through the rounding (Jacob et al., 2018; Bengio et al., 2013).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtrain.kernels.policy import inlined
from streamtrain.kernels.simd import LANES, ceil, eleven_bits_up, fabs, load, rint, splat, store, where_greater

f32 = np.float32
# Short of 1 by more than the division's rounding error, so that rounded weights are given the scale that they have.
_SHARE = f32((1.0 - 2.0**-22) / 127.0)
_LEAST_NORMAL, _SUBNORMAL_STEP = f32(2.0**-14), f32(2.0**-24)  # of float16
_SUBNORMAL_STEPS = f32(2.0**24)


@inlined
def float16_scale(largest: Any) -> Any:
    """Scales of rows by their largest magnitudes; 1 for a row of zeros."""
    zero, one = splat(f32(0.0)), splat(f32(1.0))
    exact = largest * splat(_SHARE)
    subnormal = ceil(exact * splat(_SUBNORMAL_STEPS)) * splat(_SUBNORMAL_STEP)
    scale = where_greater(splat(_LEAST_NORMAL), exact, subnormal, eleven_bits_up(exact))
    return where_greater(largest, zero, scale, one)


@inlined
def round_rows(p: Any, at: int, n_inputs: int, width: int) -> None:
    """Round a transposed matrix of `n_inputs` × `width` in place; an output row is one lane."""
    for v in range(0, width, LANES):
        largest = splat(f32(0.0))
        for i in range(n_inputs):
            magnitude = fabs(load(p, at + i * width + v))
            largest = where_greater(magnitude, largest, magnitude, largest)
        scale = float16_scale(largest)
        for i in range(n_inputs):
            store(p, at + i * width + v, rint(load(p, at + i * width + v) / scale) * scale)


@inlined
def round_output(p: Any, at: int, width: int) -> None:
    """Round the output weights in place: one row across the lanes."""
    largest = f32(0.0)
    for i in range(width):
        largest = max(largest, abs(p[at + i]))
    scale = float16_scale(splat(largest))
    for i in range(0, width, LANES):
        store(p, at + i, rint(load(p, at + i) / scale) * scale)
