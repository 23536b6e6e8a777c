"""Several candidates trained side by side; the best on validation goes on to the gate."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from streamtrain.train.fit import Fit, TrainingDivergedError
from streamtrain.train.meter import Meter
from streamtrain.train.presets import TrainingConfig
from streamtrain.train.stages import train as train_fully
from streamtrain.types import Arrays, EpochMetrics, FastGRNNConfig, Params

CALM_RATE = 0.2
CALM_L2 = 5e-3


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one candidate is made.

    Attributes
    ----------
    name : str
        "scratch", "scratch-calm", "fine-tuned" or "fine-tuned-fast", and of what part of the window: "…-recent-1/4",
        "…-since".
    start : Params
        In the scale of the training arrays.
    training : TrainingConfig
    seed : int
    first_row : int
        Rows of the training arrays before it are left out.
    lately : bool
        It is stopped by the validation samples as weighted for what is recent, where there are such weights.
    """

    name: str
    start: Params
    training: TrainingConfig
    seed: int
    first_row: int = 0
    lately: bool = False


@dataclass(frozen=True, slots=True)
class Challenger:
    """A trained recipe, with its validation loss (in nats; infinite where it diverged)."""

    recipe: Recipe
    fit: Fit | None
    validation_loss: float
    failure: str | None = None


def calm(training: TrainingConfig, given: dict[str, Any]) -> TrainingConfig:
    """Slow and strongly regularised variant of a configuration, for noisy outcomes.

    Real routing outcomes are weakly learnable: there the guide's presets overfit within an epoch, while a fifth of
    the rate with more L2 gains one to two points of AUC. What the operator has set (`given`) is left alone.
    """
    if given.get("learning_rate") is None:
        training = replace(training, learning_rate=training.learning_rate * CALM_RATE)
    if given.get("l2_reg") is None:
        training = replace(training, l2_reg=max(training.l2_reg, CALM_L2))
    return training


def compete(
    recipes: Sequence[Recipe],
    config: FastGRNNConfig,
    train: Arrays,
    validation: Arrays | None,
    should_stop: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[str, EpochMetrics], None] = lambda name, metrics: None,
    workers: int | None = None,
    meter: Meter | None = None,
    lately: Arrays | None = None,
) -> list[Challenger]:
    """Train every recipe on a thread of its own (the kernels hold no GIL) and rank them, best first.

    Each result is the same bits as if the recipe had been trained alone.

    Parameters
    ----------
    recipes : sequence of Recipe
        Ties go to the earlier one.
    config : FastGRNNConfig
    train, validation : Arrays
        Without validation samples the losses are NaN and the order is that of `recipes`.
    should_stop : callable
        Asked by each thread between epochs.
    on_epoch : callable
        Called with a recipe's name after each of its epochs, from its thread.
    workers : int, optional
        Threads; the processors that this process may use if None.
    meter : Meter, optional
        Told of progress within epochs.
    lately : Arrays, optional
        The validation samples with other weights, for the recipes that ask for them.
    """

    def run(recipe: Recipe) -> Challenger:
        try:
            made = train_fully(
                recipe.start,
                config,
                recipe.training,
                _from(train, recipe.first_row),
                lately if recipe.lately and lately is not None else validation,
                recipe.seed,
                should_stop,
                lambda metrics: on_epoch(recipe.name, metrics),
                meter,
            )
        except TrainingDivergedError as error:
            return Challenger(recipe, None, float("inf"), str(error))
        losses = [row.val_loss for row in made.epochs]
        return Challenger(recipe, made, losses[made.best_epoch] if losses else float("inf"))

    available = len(os.sched_getaffinity(0)) if workers is None else workers
    with ThreadPoolExecutor(max_workers=max(1, min(available, len(recipes))), thread_name_prefix="train") as pool:
        results = list(pool.map(run, recipes))
    return sorted(results, key=_rank)


def _from(arrays: Arrays, first_row: int) -> Arrays:
    if not first_row:
        return arrays
    teachers = None if arrays.teachers is None else arrays.teachers[first_row:]
    return Arrays(arrays.features[first_row:], arrays.labels[first_row:], arrays.weights[first_row:], teachers)


def _rank(challenger: Challenger) -> tuple[bool, float]:
    loss = challenger.validation_loss
    return challenger.fit is None, 0.0 if loss != loss else loss
