"""A training from start to finish: fit, then prune and settle, then round and settle, as the configuration asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

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
    mask = None
    if training.prune > 0 and is_pruned(start, training.prune):
        mask = nonzero(start)
    made = fit(start, config, training, data, validation, seed, should_stop, on_epoch, mask, meter=meter)
    if training.prune > 0 and mask is None:
        made = _settle(made, config, training, data, validation, seed, should_stop, on_epoch, meter)
        mask = nonzero(made.params)
    if training.quantization_aware_epochs > 0 and made.stopped != "interrupted":
        made = _round(made, config, training, data, validation, seed, should_stop, on_epoch, mask, meter)
    return made


def nonzero(params: Params) -> Params:
    """Ones where a weight is not zero, zeros where it is; ones for all biases."""
    ones = {
        name: (tensor != 0).astype(np.float32) if name in WEIGHTS else np.ones_like(tensor)
        for name, tensor in as_dict(params).items()
    }
    return Params(**ones)


def _settle(
    made: Fit,
    config: FastGRNNConfig,
    training: TrainingConfig,
    data: Arrays,
    validation: Arrays | None,
    seed: int,
    should_stop: Callable[[], bool],
    on_epoch: Callable[[EpochMetrics], None],
    meter: Meter | None,
) -> Fit:
    pruned = prune(made.params, training.prune)
    shorter = replace(training, epochs=max(1, round(training.epochs * SETTLING_SHARE)))
    kept, told = nonzero(pruned), _later(on_epoch, made)
    after = fit(pruned, config, shorter, data, validation, seed + 1, should_stop, told, kept, meter=meter)
    return _joined(made, after, after.params, after.best_epoch)


def _round(
    made: Fit,
    config: FastGRNNConfig,
    training: TrainingConfig,
    data: Arrays,
    validation: Arrays | None,
    seed: int,
    should_stop: Callable[[], bool],
    on_epoch: Callable[[EpochMetrics], None],
    mask: Params | None,
    meter: Meter | None,
) -> Fit:
    rate = training.learning_rate * ROUNDED_RATE
    last = replace(training, epochs=training.quantization_aware_epochs, learning_rate=rate)
    told = _later(on_epoch, made)
    after = fit(made.params, config, last, data, validation, seed + 2, should_stop, told, mask, True, meter)
    if validation is None or len(validation.labels) == 0:
        return _joined(made, after, after.params, after.best_epoch)
    scorer, split = Scorer(config, data.features.shape[1], meter), Split.of(validation)
    before, _ = scorer.evaluate(pack(dequantize(quantize(made.params)), scorer.layout), split)
    now, _ = scorer.evaluate(pack(dequantize(quantize(after.params)), scorer.layout), split)
    if now < before:
        return _joined(made, after, after.params, after.best_epoch)
    return _joined(made, after, made.params, None)


def _later(on_epoch: Callable[[EpochMetrics], None], made: Fit) -> Callable[[EpochMetrics], None]:
    return lambda row: on_epoch(replace(row, epoch=row.epoch + len(made.epochs)))


def _joined(made: Fit, after: Fit, params: Params, best_epoch: int | None) -> Fit:
    first = len(made.epochs)
    rows = made.epochs + tuple(replace(row, epoch=row.epoch + first) for row in after.epochs)
    best = made.best_epoch if best_epoch is None or best_epoch < 0 else best_epoch + first
    return Fit(params, rows, best, after.stopped, made.restarts + after.restarts)
