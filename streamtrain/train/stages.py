"""A training from start to finish: fit, then prune and settle, then round and settle, as the configuration asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from streamtrain.model.params import WEIGHTS, as_dict, pack
from streamtrain.model.prune import is_pruned, prune
from streamtrain.model.quantize import dequantize, quantize
from streamtrain.train.fit import Fit, Scorer, Split, fit
from streamtrain.train.meter import Meter
from streamtrain.train.presets import TrainingConfig
from streamtrain.types import Arrays, EpochMetrics, FastGRNNConfig, Params

SETTLING_SHARE = 0.3
"""Epochs after pruning, as a share of the training's."""
ROUNDED_RATE = 0.1
"""Learning rate of the quantization-aware epochs, as a share of the training's: steps finer than the INT8 grid."""


class Fitter(Protocol):
    """What fits weights, by the same data each time: arrays of this process, or partitions that others hold."""

    def fit(
        self,
        start: Params,
        training: TrainingConfig,
        seed: int,
        on_epoch: Callable[[EpochMetrics], None],
        mask: Params | None = None,
        rounded: bool = False,
    ) -> Fit:
        """Fit from `start`, as `streamtrain.train.fit.fit` does."""

    def loss(self, params: Params) -> float | None:
        """Loss on the validation samples; None without any."""


def train(
    start: Params,
    config: FastGRNNConfig,
    training: TrainingConfig,
    data: Arrays,
    validation: Arrays | None,
    seed: int,
    should_stop: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    meter: Meter | None = None,
) -> Fit:
    """Train through every stage that `training` asks for; parameters as in `streamtrain.train.fit.fit`.

    Weights that are zero at the start because an earlier version was pruned stay zero when `training.prune` asks for
    no more than they already are.
    """
    return through_stages(_Here(config, data, validation, should_stop, meter), start, training, seed, on_epoch)


def through_stages(
    fitter: Fitter,
    start: Params,
    training: TrainingConfig,
    seed: int,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
) -> Fit:
    """Train through every stage, as `train` does, by whatever fits."""
    mask = None
    if training.prune > 0 and is_pruned(start, training.prune):
        mask = nonzero(start)
    made = fitter.fit(start, training, seed, on_epoch, mask)
    if training.prune > 0 and mask is None:
        made = _settle(fitter, made, training, seed, on_epoch)
        mask = nonzero(made.params)
    if training.quantization_aware_epochs > 0 and made.stopped != "interrupted":
        made = _round(fitter, made, training, seed, on_epoch, mask)
    return made


class _Here:
    """Fits by arrays of this process."""

    def __init__(
        self,
        config: FastGRNNConfig,
        data: Arrays,
        validation: Arrays | None,
        should_stop: Callable[[], bool],
        meter: Meter | None,
    ) -> None:
        self._config, self._data, self._validation = config, data, validation
        self._should_stop, self._meter = should_stop, meter

    def fit(
        self,
        start: Params,
        training: TrainingConfig,
        seed: int,
        on_epoch: Callable[[EpochMetrics], None],
        mask: Params | None = None,
        rounded: bool = False,
    ) -> Fit:
        given = (start, self._config, training, self._data, self._validation, seed, self._should_stop)
        return fit(*given, on_epoch, mask, rounded, self._meter)

    def loss(self, params: Params) -> float | None:
        if self._validation is None or len(self._validation.labels) == 0:
            return None
        scorer = Scorer(self._config, self._data.features.shape[1], self._meter)
        return scorer.evaluate(pack(params, scorer.layout), Split.of(self._validation))[0]


def nonzero(params: Params) -> Params:
    """Ones where a weight is not zero, zeros where it is; ones for all biases."""
    ones = {
        name: (tensor != 0).astype(np.float32) if name in WEIGHTS else np.ones_like(tensor)
        for name, tensor in as_dict(params).items()
    }
    return Params(**ones)


def _settle(
    fitter: Fitter,
    made: Fit,
    training: TrainingConfig,
    seed: int,
    on_epoch: Callable[[EpochMetrics], None],
) -> Fit:
    pruned = prune(made.params, training.prune)
    shorter = replace(training, epochs=max(1, round(training.epochs * SETTLING_SHARE)))
    after = fitter.fit(pruned, shorter, seed + 1, _later(on_epoch, made), nonzero(pruned))
    return _joined(made, after, after.params, after.best_epoch)


def _round(
    fitter: Fitter,
    made: Fit,
    training: TrainingConfig,
    seed: int,
    on_epoch: Callable[[EpochMetrics], None],
    mask: Params | None,
) -> Fit:
    rate = training.learning_rate * ROUNDED_RATE
    last = replace(training, epochs=training.quantization_aware_epochs, learning_rate=rate)
    after = fitter.fit(made.params, last, seed + 2, _later(on_epoch, made), mask, rounded=True)
    before, now = (fitter.loss(dequantize(quantize(one.params))) for one in (made, after))
    if before is None or now is None or now < before:
        return _joined(made, after, after.params, after.best_epoch)
    return _joined(made, after, made.params, None)


def _later(on_epoch: Callable[[EpochMetrics], None], made: Fit) -> Callable[[EpochMetrics], None]:
    return lambda row: on_epoch(replace(row, epoch=row.epoch + len(made.epochs)))


def _joined(made: Fit, after: Fit, params: Params, best_epoch: int | None) -> Fit:
    first = len(made.epochs)
    rows = made.epochs + tuple(replace(row, epoch=row.epoch + first) for row in after.epochs)
    best = made.best_epoch if best_epoch is None or best_epoch < 0 else best_epoch + first
    return Fit(params, rows, best, after.stopped, made.restarts + after.restarts)
