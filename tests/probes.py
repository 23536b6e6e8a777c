"""Vectors that every reader scores, and what a version must answer, worked out without any file of it."""

from __future__ import annotations

import math

import numpy as np
from make_candidate import TINY_DANCER_SCALE, make_candidate

from streamtrain.model.forward import probabilities
from streamtrain.model.quantize import dequantize

# The first is what Tiny Dancer's router makes of the request in soak_reader.cjs, before its weights.
PROBES = np.vstack(
    [[1.0, 1.0, math.log(10001) / math.log(10001), 1.0, 0.0], np.random.default_rng(0).normal(0.5, 1, (7, 5))]
)


def right_answers(version: str) -> np.ndarray:
    candidate = make_candidate(int(version[1:]), input_scale=TINY_DANCER_SCALE)
    z = (PROBES - candidate.scaling.means) / candidate.scaling.stds
    return probabilities(dequantize(candidate.quantized), z)
