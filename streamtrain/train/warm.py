"""Compile what a service will need before it needs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

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


def warm(
    shapes: Sequence[Shape],
    should_stop: Callable[[], bool] = lambda: False,
    on_kernel: Callable[[int], None] = lambda n_ready: None,
) -> int:
    """Compile, or fetch from the cache, every kernel of these shapes.

    Parameters
    ----------
    shapes : sequence of Shape
    should_stop : callable
        Asked before each kernel.
    on_kernel : callable
        Called after each with how many there are.

    Returns
    -------
    int
        How many different ones there are (fewer where it was stopped).
    """
    kernels: set[Any] = set()
    for shape in shapes:
        d, h = shape.config.input_dim, shape.config.hidden_dim
        rank = effective_rank(Layout(d, h, shape.steps), shape.config.rank)
        makers = (
            partial(scoring_kernel, d, h, shape.steps),
            partial(training_kernel, d, h, shape.steps, shape.batch_size, shape.distilled, rank),
        )
        for make in makers:
            if should_stop():
                return len(kernels)
            kernels.add(make())
            on_kernel(len(kernels))
    return len(kernels)
