"""Data-parallel training in rounds: each part trains by itself for an epoch, then their weights are averaged.

Local SGD (Stich 2019), here with Adam: the mean of the parts' weights, and of their moments, each part counting by the
weight of its samples (McMahan et al. 2017 for the weights). The mean is taken in the order of the parts, whoever
trained them and whenever they came: the bits do not depend on the workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamtrain.kernels import epoch as kernel
from streamtrain.kernels.layout import Layout
from streamtrain.model.params import pack
from streamtrain.scale.partition import Prepared
from streamtrain.train.fit import Fit, Moved, Optimiser, Passed, Scorer, epoch_key, run
from streamtrain.train.presets import TrainingConfig
from streamtrain.types import F32, F64, EpochMetrics, FastGRNNConfig, Params


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained: the same in every round of a run.

    Attributes
    ----------
    config : FastGRNNConfig
    steps : int
        T.
    training : TrainingConfig
    distilled : bool
    mask : float32, (layout.size,), or None
    rounded : bool
        As for `Optimiser`.
    """

    config: FastGRNNConfig
    steps: int
    training: TrainingConfig
    distilled: bool = False
    mask: F32 | None = None
    rounded: bool = False

    def optimiser(self) -> Optimiser:
        """Make an optimiser for it."""
        mask = np.zeros(0, np.float32) if self.mask is None else self.mask
        layout = Layout(self.config.input_dim, self.config.hidden_dim, self.steps)
        return Optimiser(self.config, self.training, layout, self.distilled, mask, self.rounded)


@dataclass(frozen=True, slots=True)
class Trained:
    """What a part's epoch came to; `moved` is None where it diverged. `report` is by the kernel's slots."""

    index: int
    weight: float
    moved: Moved | None
    report: F64


def train_parts(parts: Sequence[Prepared], task: Task, start: Moved, rate: float, key: int) -> list[Trained]:
    """Train parts for an epoch, each from the same start."""
    optimiser, found = task.optimiser(), []
    for part in parts:
        optimiser.resume(start)
        report = optimiser.passed(part.train, rate, epoch_key(key, part.index))
        moved = None if report is None or not np.isfinite(optimiser.kept).all() else optimiser.moved()
        found.append(Trained(part.index, part.weight, moved, np.zeros(kernel.N_REPORT) if report is None else report))
    return found


def score_parts(parts: Sequence[Prepared], config: FastGRNNConfig, steps: int, served: F32) -> list[tuple[int, F64]]:
    """Score packed weights on the validation samples of parts; the report of each by the kernel's slots."""
    scorer = Scorer(config, steps)
    return [(part.index, scorer.report(served, part.validation)) for part in parts]


class Crew(Protocol):
    """Whoever holds the parts and works on them; answers come in the order of the parts."""

    validates: bool
    """Whether any part has validation samples."""

    def train(self, task: Task, start: Moved, rate: float, key: int) -> list[Trained]:
        """Have every part trained for an epoch."""

    def score(self, config: FastGRNNConfig, steps: int, served: F32) -> list[F64]:
        """Have every part's validation samples scored."""


class Rounds:
    """An engine (`streamtrain.train.fit.Engine`) whose epochs are rounds.

    Parameters
    ----------
    crew : Crew
    task : Task
    """

    def __init__(self, crew: Crew, task: Task) -> None:
        self._crew, self._task = crew, task
        self._mean = task.optimiser()
        self.layout = Layout(task.config.input_dim, task.config.hidden_dim, task.steps)
        self.validates = crew.validates

    @property
    def kept(self) -> F32:
        """Packed weights as they are now."""
        return self._mean.kept

    def start(self, packed: F32) -> None:
        """Begin at packed weights with fresh moments."""
        self._mean.start(packed)

    def epoch(self, learning_rate: float, key: int) -> Passed | None:
        """Have every part trained once; accuracy in training is that of each batch before its step."""
        trained = self._crew.train(self._task, self._mean.moved(), learning_rate, key)
        if any(one.moved is None for one in trained):
            return None
        self._mean.resume(mean_of(trained))
        self._mean.settle()
        if not np.isfinite(self._mean.kept).all():
            return None
        loss, accuracy = _rates([one.report for one in trained])
        if not self.validates:
            return Passed(loss, accuracy)
        return Passed(loss, accuracy, *_rates(self._crew.score(self._task.config, self._task.steps, self._mean.served)))


class Fitter:
    """Fits in rounds (`streamtrain.train.stages.Fitter`).

    Parameters
    ----------
    crew : Crew
    config : FastGRNNConfig
    steps : int
        T.
    distilled : bool
        Whether the parts have a teacher's logits.
    should_stop : callable
        Asked between rounds.
    """

    def __init__(
        self,
        crew: Crew,
        config: FastGRNNConfig,
        steps: int,
        should_stop: Callable[[], bool],
        *,
        distilled: bool = False,
    ) -> None:
        self._crew, self._config, self._steps = crew, config, steps
        self._distilled, self._should_stop = distilled, should_stop

    def fit(
        self,
        start: Params,
        training: TrainingConfig,
        seed: int,
        on_epoch: Callable[[EpochMetrics], None],
        mask: Params | None = None,
        rounded: bool = False,
    ) -> Fit:
        """Fit from `start`."""
        layout = Layout(self._config.input_dim, self._config.hidden_dim, self._steps)
        packed = None if mask is None else pack(mask, layout)
        distilled = self._distilled and training.enable_distillation
        task = Task(self._config, self._steps, training, distilled, packed, rounded)
        return run(Rounds(self._crew, task), training, start, seed, self._should_stop, on_epoch)

    def loss(self, params: Params) -> float | None:
        """Loss on the validation samples; None without any."""
        if not self._crew.validates:
            return None
        layout = Layout(self._config.input_dim, self._config.hidden_dim, self._steps)
        return _rates(self._crew.score(self._config, self._steps, pack(params, layout)))[0]


def mean_of(trained: Sequence[Trained]) -> Moved:
    """Average what parts came to, in the order given, by their weights; a part of weight 0 says nothing.

    Adam's count of steps, which only corrects its first moments, is that of the part that took most.
    """
    counted = [(one.moved, one.weight) for one in trained if one.moved is not None and one.weight > 0.0]
    if not counted:
        raise ValueError("average weights: no part has a training sample, expected at least one")
    total = sum(weight for _, weight in counted)

    def mean(name: str) -> F32:
        whole: F64 = np.zeros(len(getattr(counted[0][0], name)))
        for moved, weight in counted:
            whole += getattr(moved, name).astype(np.float64) * (weight / total)
        return whole.astype(np.float32)

    most = max((moved for moved, _ in counted), key=lambda moved: float(moved.steps[kernel.STEP]))
    return Moved(mean("weights"), mean("means"), mean("squares"), most.steps)


def _rates(reports: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return mean loss and accuracy of everything."""
    loss, right, weight = (sum(float(one[slot]) for one in reports) for slot in _SLOTS)
    return (loss / weight, right / weight) if weight > 0.0 else (float("nan"), float("nan"))


_SLOTS = (kernel.LOSS, kernel.RIGHT, kernel.WEIGHT)
