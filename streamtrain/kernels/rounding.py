"""Weights rounded to INT8 in training as they are when served, for quantization-aware epochs.

Symmetric, one scale per output row: ``scale = max|w| / 127``, ``w' = scale · round(w / scale)``. The gradient passes
straight through the rounding (Jacob et al., 2018; Bengio et al., 2013).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtrain.kernels.policy import inlined
from streamtrain.kernels.simd import LANES, fabs, load, rint, splat, store, where_greater

f32 = np.float32
_LEVELS = f32(127.0)


@inlined
def round_rows(p: Any, at: int, n_inputs: int, width: int) -> None:
    """Round a transposed matrix of `n_inputs` × `width` in place; an output row is one lane."""
    zero, one = splat(f32(0.0)), splat(f32(1.0))
    for v in range(0, width, LANES):
        largest = zero
        for i in range(n_inputs):
            magnitude = fabs(load(p, at + i * width + v))
            largest = where_greater(magnitude, largest, magnitude, largest)
        scale = where_greater(largest, zero, largest / splat(_LEVELS), one)
        for i in range(n_inputs):
            store(p, at + i * width + v, rint(load(p, at + i * width + v) / scale) * scale)


@inlined
def round_output(p: Any, at: int, width: int) -> None:
    """Round the output weights in place: one row across the lanes."""
    largest = f32(0.0)
    for i in range(width):
        largest = max(largest, abs(p[at + i]))
    scale = largest / _LEVELS if largest > f32(0.0) else f32(1.0)
    for i in range(width):
        p[at + i] = f32(np.rint(p[at + i] / scale)) * scale
