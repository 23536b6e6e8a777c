"""Compile what a service will need before it needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from streamtrain.kernels.epoch import scoring_kernel, training_kernel
from streamtrain.kernels.factors import effective_rank
from streamtrain.kernels.layout import Layout
from streamtrain.types import FastGRNNConfig


@dataclass(frozen=True, slots=True)
class Shape:
    """What a kernel is specialised for.

    Attributes
    ----------
    config : FastGRNNConfig
    steps : int
        T.
    batch_size : int
    distilled : bool
    """

    config: FastGRNNConfig
    steps: int
    batch_size: int
    distilled: bool


def warm(shapes: Sequence[Shape]) -> int:
    """Compile, or fetch from the cache, every kernel of these shapes; return how many there are."""
    kernels = set()
    for shape in shapes:
        d, h = shape.config.input_dim, shape.config.hidden_dim
        kernels.add(scoring_kernel(d, h, shape.steps))
        rank = effective_rank(Layout(d, h, shape.steps), shape.config.rank)
        kernels.add(training_kernel(d, h, shape.steps, shape.batch_size, shape.distilled, rank))
    return len(kernels)
