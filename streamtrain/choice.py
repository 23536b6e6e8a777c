"""Which challenger goes to the gate: the best on validation, or the best lately where the order has turned.

Soon after a change of the world a challenger that has learned the new one is the worse by most of the validation
samples. Choosing by the last of them alone would always be right then, and wrong by chance at any other time. So two
weightings of the same samples are kept (`streamtrain.aftermath.recency`): by the long one the choice is made, unless by
the short one another challenger is better, by their paired difference, with `CONFIDENCE`. Challengers on recent parts
of the window are also stopped by the short one, as by the long one they would never leave the old world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from streamtrain.judge.paired import mean_difference
from streamtrain.lessons import Lesson
from streamtrain.train.challengers import Challenger
from streamtrain.train.fit import Fit, logits
from streamtrain.train.meter import Meter
from streamtrain.types import F64, Arrays, FastGRNNConfig

LATELY = "chosen_lately"
"""Under which a version's lineage keeps whether recent validation samples alone chose it."""
CONFIDENCE = 0.84
"""One-sided; that of one standard error. Equals, which it takes for unequal once in 6, cost nothing by that.
At 0.98, half of what is gained where the world changes (SEA) was lost; at 0.7, a point of AUC where it does not."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Challengers in order, and what put them into it.

    Attributes
    ----------
    ranked : list of Challenger
        Best first, each with its loss on the validation samples as weighted.
    lately : bool
        Whether recent validation samples alone decided.
    validation : Arrays
        The samples as weighted, which the winner is calibrated on too.
    """

    ranked: list[Challenger]
    lately: bool
    validation: Arrays


def choose(
    challengers: Sequence[Challenger], lesson: Lesson, config: FastGRNNConfig, meter: Meter | None = None
) -> Choice:
    """Choose among trained challengers.

    Parameters
    ----------
    challengers : sequence of Challenger
        Ties go to the earlier one.
    lesson : Lesson
        That they were trained by.
    config : FastGRNNConfig
    meter : Meter, optional
        Told of progress.

    Returns
    -------
    Choice
        Those that diverged come last.
    """
    trained = [one for one in challengers if one.fit is not None]
    diverged = [one for one in challengers if one.fit is None]
    losses = [_losses(one.fit, lesson.validation, config, meter) for one in trained if one.fit is not None]
    long = _ranked(trained, losses, lesson.validation)
    if lesson.lately is None or len(trained) < 2:
        return Choice([*long, *diverged], False, lesson.validation)
    short = _ranked(trained, losses, lesson.lately)
    before, after = (
        next(loss for loss, one in zip(losses, trained, strict=True) if one.recipe is ranked[0].recipe)
        for ranked in (long, short)
    )
    weights = lesson.lately.weights.sum(axis=1).astype(np.float64)
    steps = np.maximum(weights, np.finfo(np.float64).tiny)
    differences = ((before - after) * lesson.lately.weights).sum(axis=1) / steps
    gain = mean_difference(differences, weights, lesson.groups)
    if not gain.lower(CONFIDENCE) > 0:
        return Choice([*long, *diverged], False, lesson.validation)
    return Choice([*short, *diverged], True, lesson.lately)


def _losses(fit: Fit, validation: Arrays, config: FastGRNNConfig, meter: Meter | None) -> F64:
    """Cross-entropy of each step, (N, T), in nats."""
    z = logits(fit.params, config, validation.features, meter).astype(np.float64)
    return np.asarray(np.logaddexp(0.0, z) - validation.labels * z)


def _ranked(trained: Sequence[Challenger], losses: Sequence[F64], validation: Arrays) -> list[Challenger]:
    total = float(validation.weights.sum())
    if not total > 0:
        return list(trained)
    means = [float((loss * validation.weights).sum()) / total for loss in losses]
    return sorted(
        (replace(one, validation_loss=mean) for one, mean in zip(trained, means, strict=True)),
        key=lambda one: one.validation_loss,
    )
