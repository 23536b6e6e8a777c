"""streamtrain's own epochs: training alone, and the whole epoch that the public path runs."""

from __future__ import annotations

import time

import numpy as np
from clock import Run
from problem import Problem

from streamtrain.kernels.layout import Layout
from streamtrain.model.params import initialise, pack
from streamtrain.train.fit import Optimiser, Split, epoch_key, fit
from streamtrain.train.presets import TrainingConfig
from streamtrain.types import FastGRNNConfig

BATCH = 32
VALIDATION = 0.2
_NUMBERS_A_TURN = 10_000_000  # features read, enough that a turn is long beside the clock


def config_for(problem: Problem, hidden: int) -> FastGRNNConfig:
    return FastGRNNConfig(problem.x.shape[2], hidden)


def settings(epochs: int, batch: int = BATCH, learning_rate: float = 0.001) -> TrainingConfig:
    """The guide's settings, at one rate throughout and to the last epoch."""
    return TrainingConfig(learning_rate, batch, epochs, early_stopping_patience=None, lr_decay=1.0)


def turns(problem: Problem) -> int:
    """Epochs in one turn of a measurement."""
    return max(2, _NUMBERS_A_TURN // problem.x.size)


def training(problem: Problem, hidden: int, batch: int = BATCH) -> Run:
    """Training alone (forward, loss, backward, clip, L2, Adam), over all of the problem's samples."""
    config, n = config_for(problem, hidden), len(problem.y)
    layout = Layout(config.input_dim, hidden, problem.x.shape[1])
    optimiser = Optimiser(config, settings(1, batch), layout)
    optimiser.start(pack(initialise(config, 0), layout))
    split, epochs = Split.of(problem.arrays), turns(problem)

    def run() -> float:
        start = time.perf_counter()
        for number in range(epochs):
            if optimiser.epoch(split, 0.001, epoch_key(0, number)) is None:
                raise ArithmeticError("bench: the training diverged")
        return (time.perf_counter() - start) / epochs / n

    return run


def whole_epoch(problem: Problem, hidden: int) -> Run:
    """An epoch of `fit`: 80 % are trained on, then both splits are evaluated. Seconds per sample of both."""
    config, n = config_for(problem, hidden), len(problem.y)
    n_train = n - int(n * VALIDATION)
    train, validation = problem.first(n_train).arrays, problem.rest(n_train).arrays
    start, epochs = initialise(config, 0), turns(problem)

    def run() -> float:
        ends = np.empty(epochs + 1)
        # From the end of one epoch to the end of another: what `fit` does once a run is left out, as it is for peers.
        fit(
            start, config, settings(epochs + 1), train, validation, 0,
            on_epoch=lambda row: ends.__setitem__(row.epoch, time.perf_counter()),
        )  # fmt: skip
        return float(ends[-1] - ends[0]) / epochs / n

    return run
