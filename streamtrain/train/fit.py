"""One training run: epochs of the kernel, step decay, early stopping on the best weights, divergence noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamtrain.kernels import epoch as kernel
from streamtrain.kernels.factors import Factored, effective_rank
from streamtrain.kernels.layout import Layout, Scratch
from streamtrain.model.factorise import factorise
from streamtrain.model.params import aligned, pack, unpack
from streamtrain.train.meter import Meter, counted
from streamtrain.train.presets import TrainingConfig
from streamtrain.types import F32, F64, Arrays, EpochMetrics, FastGRNNConfig, Params

MAX_RESTARTS = 2
_EMPTY = np.zeros(0, np.float32)
_TINY = 1e-300  # keeps an all-masked split from dividing by zero


class TrainingDivergedError(ArithmeticError):
    """Loss or gradient stayed non-finite although the learning rate was halved twice."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What a run came to.

    Attributes
    ----------
    params : Params
        The weights of the epoch with the lowest validation loss (without validation samples: of the last epoch).
    epochs : tuple of EpochMetrics
    best_epoch : int
        Index of the epoch that `params` are from; -1 where not one was finished.
    stopped : str
        "finished", "early" (no improvement for the patience) or "interrupted" (asked to stop between epochs).
    restarts : int
        How often the run diverged and went back to its best weights at half the learning rate.
    """

    params: Params
    epochs: tuple[EpochMetrics, ...]
    best_epoch: int
    stopped: str
    restarts: int


@dataclass(frozen=True, slots=True)
class Split:
    """One split as the kernels take it: flat arrays."""

    x: F32
    y: F32
    w: F32
    q: F32

    @classmethod
    def of(cls, arrays: Arrays) -> Split:
        """View arrays of (N, T, …) as flat ones; nothing is copied where they are contiguous."""
        teachers = _EMPTY if arrays.teachers is None else arrays.teachers.ravel()
        return cls(arrays.features.ravel(), arrays.labels.ravel(), arrays.weights.ravel(), teachers)


@dataclass(frozen=True, slots=True)
class Moved:
    """Where an optimiser has got to.

    Attributes
    ----------
    weights, means, squares : float32, (size,)
        What is trained, and Adam's first and second moments of its gradient.
    steps : float64
        Steps taken and powers of the decay rates, by the kernel's slots.
    """

    weights: F32
    means: F32
    squares: F32
    steps: F64


class Scorer:
    """The forward pass of one shape, with its buffers.

    Parameters
    ----------
    config : FastGRNNConfig
    steps : int
        T.
    meter : Meter, optional
        Told of progress within a pass.
    """

    def __init__(self, config: FastGRNNConfig, steps: int, meter: Meter | None = None) -> None:
        self._config, self._meter = config, meter
        self.layout = Layout(config.input_dim, config.hidden_dim, steps)
        self._score = kernel.scoring_kernel(config.input_dim, config.hidden_dim, steps)
        self._scratch = aligned(Scratch(self.layout, kernel.EVALUATION_BATCH).size)

    def evaluate(self, packed: F32, split: Split) -> tuple[float, float]:
        """Mean loss and accuracy of packed weights."""
        report = self.report(packed, split)
        weight = max(float(report[kernel.WEIGHT]), _TINY)
        return float(report[kernel.LOSS]) / weight, float(report[kernel.RIGHT]) / weight

    def report(self, packed: F32, split: Split) -> F64:
        """Add up loss, right decisions and weight, by the kernel's slots."""
        report = np.zeros(kernel.N_REPORT)
        self._call(packed, split, _EMPTY, report)
        return report

    def logits(self, packed: F32, split: Split) -> F32:
        """Logits of packed weights, (N · T,)."""
        out = np.empty(len(split.y), np.float32)
        self._call(packed, split, out, np.zeros(kernel.N_REPORT))
        return out

    def _call(self, packed: F32, split: Split, out: F32, report: F64) -> None:
        nu, zeta = self._config.nu, self._config.zeta
        with counted(self._meter, report[kernel.WEIGHT : kernel.WEIGHT + 1]):
            self._score(packed, self._scratch, split.x, split.y, split.w, nu, zeta, out, report)


class Optimiser:
    """The training kernel of one shape, the weights it moves, Adam's moments and its buffers.

    Parameters
    ----------
    config : FastGRNNConfig
        Its rank decides whether weights or factors are trained.
    training : TrainingConfig
    layout : Layout
    distilled : bool
        Whether there are teacher logits to learn from.
    mask : float32, (layout.size,), or empty
        Packed ones and zeros; a zero keeps a weight where it is.
    rounded : bool
        Whether the forward pass sees the weights rounded to INT8.
    meter : Meter, optional
        Told of progress within an epoch.
    """

    def __init__(
        self,
        config: FastGRNNConfig,
        training: TrainingConfig,
        layout: Layout,
        distilled: bool = False,
        mask: F32 = _EMPTY,
        rounded: bool = False,
        meter: Meter | None = None,
    ) -> None:
        self._meter = meter
        rank = effective_rank(layout, config.rank)
        self._factored = Factored(layout, rank)
        self._train = kernel.training_kernel(
            layout.features, layout.hidden, layout.steps, training.batch_size, distilled, rank
        )
        self._scratch = aligned(kernel.training_scratch(layout, training.batch_size, rank).size)
        size = self._factored.size
        self._f, self._m, self._v = aligned(size), aligned(size), aligned(size)
        self._p, self._mask = aligned(layout.size), mask
        self._state = np.zeros(kernel.N_STATE)
        self._hyper = np.zeros(kernel.N_HYPER)
        self._hyper[kernel.BETA1], self._hyper[kernel.BETA2] = training.adam_beta1, training.adam_beta2
        self._hyper[kernel.EPSILON], self._hyper[kernel.L2] = training.adam_epsilon, training.l2_reg
        self._hyper[kernel.CLIP] = training.grad_clip
        self._hyper[kernel.ALPHA] = training.distillation_alpha
        self._hyper[kernel.TEMPERATURE] = training.distillation_temperature
        self._hyper[kernel.NU], self._hyper[kernel.ZETA] = config.nu, config.zeta
        self._hyper[kernel.ROUNDED] = float(rounded)
        # What validation scores, and what is kept: with rounding, the finer weights behind the rounded ones.
        self.served = self._p if self._factored.any or rounded else self._f
        self.kept = self._p if self._factored.any else self._f

    def start(self, packed: F32) -> None:
        """Begin at packed weights with fresh moments."""
        self._f[:] = factorise(packed, self._factored)
        self._m[:] = self._v[:] = 0.0
        self._state[:] = 0.0
        self._state[kernel.BETA1_POWER] = self._state[kernel.BETA2_POWER] = 1.0

    def moved(self) -> Moved:
        """Copy the weights and what Adam knows of them."""
        return Moved(self._f.copy(), self._m.copy(), self._v.copy(), self._state.copy())

    def resume(self, moved: Moved) -> None:
        """Go on from what `moved` gave, here or elsewhere, or from a mean of several."""
        self._f[:], self._m[:], self._v[:], self._state[:] = moved.weights, moved.means, moved.squares, moved.steps

    def settle(self) -> None:
        """Bring what is served up to date with the weights, without training."""
        self.passed(Split(_EMPTY, _EMPTY, _EMPTY, _EMPTY), 0.0, 0)

    def epoch(self, split: Split, learning_rate: float, key: int) -> float | None:
        """One epoch; the mean training loss, or None if it diverged (the weights are then the last good ones)."""
        report = self.passed(split, learning_rate, key)
        return None if report is None else float(report[kernel.LOSS] / max(report[kernel.WEIGHT], _TINY))

    def passed(self, split: Split, learning_rate: float, key: int) -> F64 | None:
        """One epoch; the kernel's report, by its slots, or None if it diverged."""
        self._hyper[kernel.LEARNING_RATE] = learning_rate
        report = np.zeros(kernel.N_REPORT)
        data = (split.x, split.y, split.w, split.q)
        moved = (self._f, self._m, self._v, self._p, self._mask, self._scratch)
        with counted(self._meter, self._state):
            done = self._train(*moved, *data, self._hyper, self._state, np.uint64(key), report)
        return None if done < 0 else report


def epoch_key(seed: int, epoch: int) -> int:
    """Key of an epoch's shuffle."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0])


def fit(
    start: Params,
    config: FastGRNNConfig,
    training: TrainingConfig,
    train: Arrays,
    validation: Arrays | None,
    seed: int,
    should_stop: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
    mask: Params | None = None,
    rounded: bool = False,
    meter: Meter | None = None,
) -> Fit:
    """Train from `start` and return the best weights seen.

    Parameters
    ----------
    start : Params
        Fresh or current weights, in the scale of `train`.
    train, validation : Arrays
        Features of (N, T, D); `validation` None or empty trains without early stopping.
    seed : int
        Decides every shuffle: same seed, same data, same machine, same bits.
    should_stop : callable
        Asked between epochs.
    on_epoch : callable
        Called after each epoch.
    mask : Params, optional
        Ones and zeros; a weight under a zero keeps its value.
    rounded : bool
        Train and validate with the weights rounded to INT8 in the forward pass.
    meter : Meter, optional
        Told of progress within epochs and evaluations.

    Raises
    ------
    TrainingDivergedError
        If the loss or gradient is not finite again after `MAX_RESTARTS` returns to the best weights, each at half the
        learning rate.
    """
    distilled = training.enable_distillation and train.teachers is not None
    scorer = Scorer(config, train.features.shape[1], meter)
    packed_mask = _EMPTY if mask is None else pack(mask, scorer.layout)
    optimiser = Optimiser(config, training, scorer.layout, distilled, packed_mask, rounded, meter)
    held_out = None if validation is None or len(validation.labels) == 0 else Split.of(validation)
    engine = _Here(optimiser, scorer, Split.of(train), held_out)
    return run(engine, training, start, seed, should_stop, on_epoch)


@dataclass(frozen=True, slots=True)
class Passed:
    """What an epoch came to; the validation figures are NaN where there are no validation samples."""

    train_loss: float
    train_accuracy: float
    val_loss: float = np.nan
    val_accuracy: float = np.nan


class Engine(Protocol):
    """What trains whole epochs: this process, or many (`streamtrain.scale.rounds`)."""

    layout: Layout
    validates: bool
    """Whether there are validation samples."""

    @property
    def kept(self) -> F32:
        """Packed weights as they are now, float32 (layout.size,)."""

    def start(self, packed: F32) -> None:
        """Begin at packed weights with fresh moments."""

    def epoch(self, learning_rate: float, key: int) -> Passed | None:
        """Train on everything once, in an order that `key` decides; None if that diverged."""


class _Here:
    """An engine on arrays of this process."""

    def __init__(self, optimiser: Optimiser, scorer: Scorer, train: Split, validation: Split | None) -> None:
        self.layout, self.validates = scorer.layout, validation is not None
        self._optimiser, self._scorer, self._train, self._validation = optimiser, scorer, train, validation

    @property
    def kept(self) -> F32:
        return self._optimiser.kept

    def start(self, packed: F32) -> None:
        self._optimiser.start(packed)

    def epoch(self, learning_rate: float, key: int) -> Passed | None:
        optimiser = self._optimiser
        train_loss = optimiser.epoch(self._train, learning_rate, key)
        # The last step of an epoch shows only here: saturated units can hide an infinite weight from the loss.
        if train_loss is None or not np.isfinite(optimiser.kept).all():
            return None
        _, train_accuracy = self._scorer.evaluate(optimiser.served, self._train)
        if self._validation is None:
            return Passed(train_loss, train_accuracy)
        return Passed(train_loss, train_accuracy, *self._scorer.evaluate(optimiser.served, self._validation))


def run(
    engine: Engine,
    training: TrainingConfig,
    start: Params,
    seed: int,
    should_stop: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[EpochMetrics], None] = lambda metrics: None,
) -> Fit:
    """Train an engine from `start` to the end, and return the best weights seen; the rest as in `fit`."""
    made = _Run(engine, training, pack(start, engine.layout))
    made.go(seed, should_stop, on_epoch)
    params = unpack(made.best, engine.layout, start)
    return Fit(params, tuple(made.rows), made.best_epoch, made.stopped, made.restarts)


class _Run:
    """Epochs from first to last, what was best, and how often it diverged."""

    def __init__(self, engine: Engine, training: TrainingConfig, start: F32) -> None:
        self._engine, self._training = engine, training
        self.best = start.copy()
        self.best_epoch = -1
        self.rows: list[EpochMetrics] = []
        self.stopped = "finished"
        self.restarts = 0
        engine.start(start)

    def go(self, seed: int, should_stop: Callable[[], bool], on_epoch: Callable[[EpochMetrics], None]) -> None:
        """Train to the end; an epoch that diverges is begun again from the best weights at half the rate."""
        config = self._training
        best_loss, since = np.inf, 0
        while len(self.rows) < config.epochs:
            if should_stop():
                self.stopped = "interrupted"
                return
            row = self._epoch(len(self.rows), seed)
            if row is None:
                self._restart()
                continue
            self.rows.append(row)
            on_epoch(row)
            if not self._engine.validates or row.val_loss < best_loss:
                self.best[:] = self._engine.kept
                self.best_epoch, best_loss, since = row.epoch, row.val_loss, 0
                continue
            since += 1
            if config.early_stopping_patience is not None and since >= config.early_stopping_patience:
                self.stopped = "early"
                return

    def _epoch(self, epoch: int, seed: int) -> EpochMetrics | None:
        """One epoch and its evaluation; None if it diverged."""
        config = self._training
        rate = config.learning_rate / 2.0**self.restarts * config.lr_decay ** (epoch // config.lr_decay_step)
        passed = self._engine.epoch(rate, epoch_key(seed, epoch))
        if passed is None or (self._engine.validates and not np.isfinite(passed.val_loss)):
            return None
        return EpochMetrics(epoch, passed.train_loss, passed.val_loss, passed.train_accuracy, passed.val_accuracy, rate)

    def _restart(self) -> None:
        config = self._training
        if self.restarts == MAX_RESTARTS:
            raise TrainingDivergedError(
                f"training: loss or gradient was not finite {MAX_RESTARTS + 1} times, the last time at learning rate "
                f"{config.learning_rate / 2.0**self.restarts:g} (asked for {config.learning_rate:g}); lower "
                f"training.learning_rate, or look for extreme values in the features"
            )
        self.restarts += 1
        self._engine.start(self.best)


def logits(params: Params, config: FastGRNNConfig, features: F32, meter: Meter | None = None) -> F32:
    """Logits of features of shape (N, T, D), float32 (N, T); `meter` is told of progress.

    Raises
    ------
    ValueError
        If the features have another shape: the kernels check nothing.
    """
    if features.ndim != 3 or features.shape[2] != config.input_dim:
        raise ValueError(f"logits: features have shape {features.shape}; expected (N, T, {config.input_dim})")
    n, steps, _ = features.shape
    scorer = Scorer(config, steps, meter)
    flat = np.ascontiguousarray(features, np.float32).ravel()
    ones = np.ones(n * steps, np.float32)
    return scorer.logits(pack(params, scorer.layout), Split(flat, ones, ones, _EMPTY)).reshape(n, steps)
