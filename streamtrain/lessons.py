"""What is trained in a cycle: the scaled arrays, the teacher, and the recipes that compete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streamtrain.aftermath import LATELY_HALF_LIFE, recency
from streamtrain.dataset import scale, sequence
from streamtrain.intake import Intake, Splits
from streamtrain.model.fastgrnn import FastGRNN
from streamtrain.model.fold import rescale
from streamtrain.model.params import initialise
from streamtrain.publish.artifact import Champion
from streamtrain.train import recent
from streamtrain.train.challengers import Recipe, calm
from streamtrain.train.distill import taught, train_teacher
from streamtrain.train.fit import TrainingDivergedError
from streamtrain.train.meter import Meter
from streamtrain.train.presets import PRESET_SIZES, TrainingConfig, resolve
from streamtrain.train.recent import Part
from streamtrain.train.warm import Shape, warm
from streamtrain.types import U64, Arrays, FastGRNNConfig, Params, Samples, Scaling


class TeacherError(ValueError):
    """The teacher that the configuration names can't be read, or doesn't fit the data."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a cycle learns from and chooses by.

    Attributes
    ----------
    train : Arrays
    validation : Arrays
        To stop and choose by.
    recipes : list of Recipe
    lately : Arrays or None
        The validation samples as weighted for what is recent; None where nothing serves yet.
    groups : uint64, (N,)
        Session of each row of them.
    """

    train: Arrays
    validation: Arrays
    recipes: list[Recipe]
    lately: Arrays | None
    groups: U64


class Lessons:
    """Prepares lessons under one configuration.

    Parameters
    ----------
    intake : Intake
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._config = intake.config

    def prepare(
        self,
        splits: Splits,
        scaling: Scaling,
        champion: Champion | None,
        should_stop: Callable[[], bool],
        meter: Meter | None = None,
        since: float | None = None,
        serving: bool | None = None,
    ) -> Lesson:
        """Make the lesson of a cycle.

        Parameters
        ----------
        splits : Splits
        scaling : Scaling
            Fitted on the training split.
        champion : Champion or None
            Where fine-tuning goes on from.
        should_stop : callable
            Asked while a teacher is trained.
        meter : Meter, optional
            Told of progress while it is.
        since : float, optional
            Timestamp of the first sample after a change of the world.
        serving : bool, optional
            Whether there is a version to go on from, even if its weights are not at hand (`champion` None): then the
            recipes that start from them are left out, and everything else is as with them.

        Raises
        ------
        TeacherError
        """
        train, validation = self._arrays(splits.train, scaling), self._arrays(splits.validation, scaling)
        n_rows, lately = len(validation.labels), None
        groups = splits.validation.groups[self._first_places(splits.validation)]
        serving = champion is not None if serving is None else serving
        if serving:
            lately = replace(validation, weights=validation.weights * recency(n_rows, LATELY_HALF_LIFE)[:, None])
        validation = replace(validation, weights=validation.weights * recency(n_rows)[:, None])
        n_samples = len(splits.train.labels) + len(splits.validation.labels)
        training = self._intake.training_config(n_samples)
        if training.enable_distillation:
            train = self._taught(train, validation, splits.train, training, should_stop, meter)
        elif self._has_column(splits.train):
            train = self._with_column(train, splits.train)
        start = None if champion is None else rescale(champion.params, champion.scaling, scaling)
        recipes = self.recipes(start, training, n_samples, train.teachers is not None)
        first_rows = recent.parts(self._first_places(splits.train), splits.train.timestamps, since)
        names = {recipe.name for recipe in recipes}
        for part in first_rows:
            recipe = self._recent(part, start, serving, len(train.labels) - part.first_row)
            if recipe is not None and recipe.name not in names:  # with nothing to go on from, two are the same
                names.add(recipe.name)
                recipes.append(recipe)
        return Lesson(train, validation, recipes, lately, groups)

    def warm(
        self, should_stop: Callable[[], bool] = lambda: False, on_kernel: Callable[[int], None] = lambda n_ready: None
    ) -> int:
        """Compile every kernel that a lesson may call, as `streamtrain.train.warm.warm` does."""
        steps, shape = self._config.model.sequence_length, self._intake.shape()
        settings = [self._intake.training_config(size) for size in PRESET_SIZES]
        batches = sorted({one.batch_size for one in settings})
        distilled = settings[0].enable_distillation
        kinds = [distilled, True] if self._may_use_column() else [distilled]
        shapes = [Shape(shape, steps, batch, kind) for kind in dict.fromkeys(kinds) for batch in batches]
        if distilled and self._teacher() == "trained":
            shapes += [Shape(self._teacher_shape(), steps, batch, False) for batch in batches]
        elif distilled and self._teacher() != "column":
            shapes.append(Shape(self._teacher_file().config, steps, batches[0], False))
        return warm(shapes, should_stop, on_kernel)

    def _arrays(self, samples: Samples, scaling: Scaling) -> Arrays:
        index = sequence.layout(samples.groups, samples.timestamps, self._config.model.sequence_length)
        return sequence.gather(index, scale.apply(samples.features, scaling), samples.labels, samples.weights)

    def _first_places(self, samples: Samples) -> NDArray[np.int64]:
        """Place, in the order of time, of the first sample of each row of the arrays."""
        steps = self._config.model.sequence_length
        return sequence.layout(samples.groups, samples.timestamps, steps)[:, 0]

    def recipes(
        self, start: Params | None, training: TrainingConfig, n_samples: int, has_teacher: bool
    ) -> list[Recipe]:
        """List how candidates are made of all samples.

        From scratch by the preset, calmly and boldly; from the current weights, slowly and fast.

        Parameters
        ----------
        start : Params or None
            Current weights, in the scale of the training arrays.
        training : TrainingConfig
            For training from scratch.
        n_samples : int
            To train and to choose by.
        has_teacher : bool
            Whether the training arrays have a teacher's logits.

        Returns
        -------
        list of Recipe
            Ties go to the earlier one.
        """
        seed, given = self._config.dataset.seed, self._intake.overrides()
        fresh = initialise(self._intake.shape(), seed)
        calmer = calm(training, given)
        recipes = [Recipe("scratch-calm", fresh, calmer, seed), Recipe("scratch", fresh, training, seed)]
        if has_teacher and not training.enable_distillation:
            recipes.append(Recipe("distilled", fresh, replace(calmer, enable_distillation=True), seed))
        if start is None:
            return recipes
        section = self._config.training
        slow = {"learning_rate": section.fine_tune_learning_rate, "epochs": section.fine_tune_epochs}
        tuned = resolve(section.preset, n_samples, given | slow)
        return [Recipe("fine-tuned", start, tuned, seed), Recipe("fine-tuned-fast", start, calmer, seed), *recipes]

    def _recent(self, part: Part, start: Params | None, serving: bool, n_rows: int) -> Recipe | None:
        """Train on the last rows only: from the current weights, or from scratch, calmly or boldly."""
        seed, given = self._config.dataset.seed, self._intake.overrides()
        training = resolve(self._config.training.preset, n_rows * self._config.model.sequence_length, given)
        if not part.bold:
            training = calm(training, given)
        if n_rows > recent.MANY and given.get("epochs") is None:
            training = replace(training, epochs=min(training.epochs, self._config.training.fine_tune_epochs))
        tuned = serving and not part.fresh
        if tuned and start is None:
            return None
        name = f"{'fine-tuned' if tuned else 'scratch' if part.bold else 'scratch-calm'}-{part.name}"
        begun = start if tuned and start is not None else initialise(self._intake.shape(), seed)
        return Recipe(name, begun, training, seed, part.first_row, lately=True)

    def _may_use_column(self) -> bool:
        """Whether a teacher in the logs may be learned from, beside learning without it."""
        return self._config.training.enable_distillation is None and self._config.schema.teacher is not None

    def _has_column(self, samples: Samples) -> bool:
        return self._may_use_column() and bool(np.isfinite(samples.teachers).any())

    def _with_column(self, train: Arrays, samples: Samples) -> Arrays:
        index = sequence.layout(samples.groups, samples.timestamps, self._config.model.sequence_length)
        logged = sequence.gather(index, samples.features, samples.labels, samples.weights, samples.teachers)
        return replace(train, teachers=logged.teachers)

    def _teacher(self) -> str:
        teacher = self._config.training.teacher
        if teacher == "auto":
            return "trained" if self._config.schema.teacher is None else "column"
        return teacher

    def _teacher_shape(self) -> FastGRNNConfig:
        hidden = self._config.training.teacher_hidden_dim or 2 * self._config.model.hidden_dim
        return replace(self._intake.shape(), hidden_dim=hidden, rank=None)

    def _taught(
        self,
        train: Arrays,
        validation: Arrays,
        samples: Samples,
        training: TrainingConfig,
        should_stop: Callable[[], bool],
        meter: Meter | None,
    ) -> Arrays:
        """Give the training arrays a teacher's logits."""
        teacher = self._teacher()
        index = sequence.layout(samples.groups, samples.timestamps, self._config.model.sequence_length)
        if teacher == "column":
            return self._with_column(train, samples)
        if teacher == "trained":
            shape, calmer = self._teacher_shape(), calm(training, self._intake.overrides())
            try:
                seed = self._config.dataset.seed
                params = train_teacher(shape, calmer, train, validation, seed, should_stop, meter)
            except TrainingDivergedError as error:
                raise TeacherError(f"training.teacher: the teacher diverged; {error}") from error
            return taught(train, params, shape, meter=meter)
        model = self._teacher_file()
        # A model file takes what a router feeds it: raw features, times the scale that is folded into it.
        factors = np.asarray(self._config.router.input_scale or 1.0, np.float32)
        raw = sequence.gather(index, samples.features * factors, samples.labels, samples.weights)
        return taught(train, model.params, model.config, raw.features, meter)

    def _teacher_file(self) -> FastGRNN:
        file = Path(self._teacher())
        try:
            model = FastGRNN.load(file)
        except (OSError, ValueError) as error:
            raise TeacherError(f"training.teacher: {error}") from error
        wanted = len(self._config.schema.feature_names)
        if model.config.input_dim != wanted:
            raise TeacherError(
                f"training.teacher {file}: it takes {model.config.input_dim} features, the data has {wanted}; "
                "use a teacher that was trained on this schema"
            )
        return model
