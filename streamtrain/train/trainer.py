"""The guide's library: `TrainingDataset` and `Trainer`, under the guide's names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from copy import copy
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamtrain.model.fastgrnn import FastGRNN
from streamtrain.train.fit import logits
from streamtrain.train.presets import TrainingConfig, check
from streamtrain.train.stages import train as train_fully
from streamtrain.types import F32, F64, Arrays, EpochMetrics, FastGRNNConfig

_BLOCK_ROWS = 65_536
_Rows = NDArray[np.int32] | NDArray[np.int64]
_CONSTANT = 1e-8  # a standard deviation below this is a constant feature


class TrainingDataset:
    """Features, labels and, for distillation, a teacher's soft targets.

    Parameters
    ----------
    features : (N, D) finite numbers
    labels : (N,) numbers in 0..1
        1.0 = the lightweight model was good enough.

    Raises
    ------
    ValueError
        If the set is empty, lengths differ, or a number is out of range; it names the first bad row.
    """

    def __init__(self, features: ArrayLike, labels: ArrayLike) -> None:
        with np.errstate(over="ignore"):  # what doesn't fit float32 is found below, as an infinity
            self._given: F32 = np.ascontiguousarray(features, np.float32)
        self._scale: tuple[F64, F64] | None = None
        self.labels: F32 = np.ascontiguousarray(labels, np.float32)
        self.soft_targets: F32 | None = None
        if self._given.ndim != 2 or self._given.size == 0:
            raise ValueError(f"TrainingDataset: features have shape {self._given.shape}; expected (N ≥ 1, D ≥ 1)")
        self._check_column("labels", self.labels)
        bad = np.flatnonzero(~np.isfinite(self._given).all(axis=1))
        if bad.size:
            raise ValueError(f"TrainingDataset: features of row {bad[0]} hold NaN or Inf; expected finite numbers")

    def _check_column(self, name: str, column: F32) -> None:
        if column.shape != (len(self._given),):
            raise ValueError(
                f"TrainingDataset: {name} have shape {column.shape}; expected ({len(self._given)},), one a row"
            )
        bad = np.flatnonzero(~((column >= 0) & (column <= 1)))
        if bad.size:
            raise ValueError(f"TrainingDataset: {name}[{bad[0]}] is {column[bad[0]]}; expected a number in 0..1")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_features(self) -> int:
        """D."""
        return int(self._given.shape[1])

    @property
    def features(self) -> F32:
        """Features as they are trained on, float32 (N, D): as given, or normalised, then computed at each access."""
        return self._given if self._scale is None else self._taken(np.arange(len(self)))

    def with_soft_targets(self, soft_targets: ArrayLike) -> TrainingDataset:
        """Copy of the set with a teacher's probabilities at the training's distillation temperature, (N,) in 0..1."""
        column: F32 = np.ascontiguousarray(soft_targets, np.float32)
        self._check_column("soft_targets", column)
        twin = copy(self)
        twin.soft_targets = column
        return twin

    def normalize(self) -> tuple[F64, F64]:
        """Z-score the features from here on; return means and standard deviations, (D,) each (1 where constant).

        The array that was given stays as it is, and is scaled where it is used: ten million rows are not held twice.
        """
        self._given, self._scale = self.features, None
        means = self._given.mean(axis=0, dtype=np.float64)
        squares = sum(np.square(self._given[block] - means).sum(axis=0) for block in _blocks(len(self)))
        stds = np.sqrt(squares / len(self))
        stds = np.where(stds < _CONSTANT, 1.0, stds)
        self._scale = means, stds
        return means, stds

    def split(self, validation_split: float, seed: int = 0) -> tuple[Arrays, Arrays]:
        """Shuffle and cut into training and validation arrays; `validation_split` is the share of the second."""
        order = np.random.default_rng(seed).permutation(np.arange(len(self), dtype=np.int32))
        n_train = len(self) - int(len(self) * validation_split)
        return self._arrays(order[:n_train]), self._arrays(order[n_train:])

    def _arrays(self, rows: _Rows) -> Arrays:
        teachers = None
        if self.soft_targets is not None:
            p = np.clip(self.soft_targets[rows].astype(np.float64), 1e-7, 1 - 1e-7)
            teachers = np.log(p / (1 - p)).astype(np.float32)[:, None]
        labels = np.empty((len(rows), 1), np.float32)
        for block in _blocks(len(rows)):
            labels[block, 0] = self.labels[rows[block]]
        return Arrays(self._taken(rows)[:, None, :], labels, np.ones_like(labels), teachers)

    def _taken(self, rows: _Rows) -> F32:
        """Rows as they are trained on, float32 (len(rows), D)."""
        taken = np.empty((len(rows), self.n_features), np.float32)
        for block in _blocks(len(rows)):
            part = self._given[rows[block]]
            taken[block] = part if self._scale is None else (part - self._scale[0]) / self._scale[1]
        return taken


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + _BLOCK_ROWS) for start in range(0, n, _BLOCK_ROWS)]


class Trainer:
    """Trains a `FastGRNN` as the guide describes, with early stopping that restores the best weights.

    Parameters
    ----------
    model_config : FastGRNNConfig
    config : TrainingConfig, optional
    seed : int
        Decides the split and every shuffle.

    Raises
    ------
    ValueError
        If a setting can't be trained with; it names every one.
    """

    def __init__(self, model_config: FastGRNNConfig, config: TrainingConfig | None = None, seed: int = 0) -> None:
        self.model_config = model_config
        self.config = TrainingConfig() if config is None else config
        check(self.config)
        self.seed = seed
        self._history: list[EpochMetrics] = []

    def train(
        self,
        model: FastGRNN,
        dataset: TrainingDataset,
        on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    ) -> list[EpochMetrics]:
        """Train `model` in place and return one row an epoch.

        Raises
        ------
        ValueError
            If model, configs and data do not fit together.
        TrainingDivergedError
            If the loss stays non-finite.
        """
        if model.config.input_dim != dataset.n_features:
            raise ValueError(
                f"Trainer: the model takes {model.config.input_dim} features, the data set has "
                f"{dataset.n_features}; set FastGRNNConfig.input_dim"
            )
        if model.config != self.model_config:
            raise ValueError(f"Trainer: made for {self.model_config}, but the model is {model.config}")
        if self.config.enable_distillation and dataset.soft_targets is None:
            raise ValueError(
                "Trainer: enable_distillation is true, but the data set has no soft targets; "
                "add them by with_soft_targets(generate_teacher_predictions(...))"
            )
        train, validation = dataset.split(self.config.validation_split, self.seed)
        if train.teachers is not None:
            # Soft targets are probabilities at the temperature; the loss takes logits at temperature 1.
            warm = train.teachers * np.float32(self.config.distillation_temperature)
            train = Arrays(train.features, train.labels, train.weights, warm)
        result = train_fully(model.params, model.config, self.config, train, validation, self.seed, on_epoch=on_epoch)
        model.params = result.params
        self._history = list(result.epochs)
        return list(result.epochs)

    def metrics_history(self) -> list[EpochMetrics]:
        """Rows of the last training."""
        return list(self._history)

    def save_metrics(self, path: str | os.PathLike[str]) -> None:
        """Write the rows of the last training as a JSON array."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps([asdict(row) for row in self._history], indent=2) + "\n")


def generate_teacher_predictions(teacher: FastGRNN, features: ArrayLike, temperature: float) -> F32:
    """Soft targets of a teacher: ``σ(z_teacher / temperature)``, the temperature dividing the logit.

    Parameters
    ----------
    teacher : FastGRNN
    features : (N, D) numbers
    temperature : float
        > 0.

    Returns
    -------
    float32, (N,)
    """
    if not temperature > 0:
        raise ValueError(f"generate_teacher_predictions: temperature is {temperature}; expected a number > 0")
    rows: F32 = np.ascontiguousarray(features, np.float32)
    if rows.ndim != 2 or rows.shape[1] != teacher.config.input_dim:
        raise ValueError(
            f"generate_teacher_predictions: features have shape {rows.shape}; expected (N, {teacher.config.input_dim})"
        )
    z = logits(teacher.params, teacher.config, rows[:, None, :])[:, 0].astype(np.float64)
    return (0.5 + 0.5 * np.tanh(z / (2 * temperature))).astype(np.float32)
