"""What a candidate is chosen and judged by after the world has changed: only by what came after.

Soon after a change nearly all of the window, and so of the validation and holdout splits, is from before it. There, a
candidate that has learned the new world loses to the champion that knows the old one: chosen and judged by all of them
it could never be published. So after an alarm both splits are cut to what came after the change, as soon as that is
enough to judge by. Before, they stay whole.

An alarm has to be nearly never false, and so a small or slow change is none for long. Where the champion has visibly
done worse on the later part of the validation samples (`worse_since`), what chooses and judges is cut as after an
alarm, but only for that training: when that is for nothing, the test has fewer samples, and that is all. A champion
that has learned a little of both worlds does as well in one as in the other; so the same is asked of the champion's
losses minus the candidate's, before the candidate is judged: where their order has turned, the holdout is cut to what
came after. Only the validation samples decide about such a cut, so that the holdout stays what nobody has looked at.

And in any case the choice counts recent samples for more than old ones (`streamtrain.choice`): the last half of the
validation samples has 4/5 of the weight; by a second count, where something serves already, the last eighth has 3/4.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamtrain.dataset.select import select
from streamtrain.intake import Splits
from streamtrain.judge.evidence import class_counts
from streamtrain.judge.gate import MIN_HOLDOUT_PER_CLASS, MIN_HOLDOUT_SESSIONS
from streamtrain.judge.paired import mean_difference
from streamtrain.types import F32, F64, Bools, Samples

SINCE = "judged_since"
"""Under which a version's lineage keeps from when on samples chose and judged it."""
MIN_VALIDATION = 50
"""With fewer validation samples after a change, a choice by them is one by chance."""
VISIBLY = 2.5
"""Standard errors by which the champion must have done worse: the most of seven, by chance alone in 3 of 100 cuts."""
HALF_LIFE = 1 / 4
"""Share of the validation rows after which one counts half as much."""
LATELY_HALF_LIFE = 1 / 16
"""The same by the second count. Where nothing serves yet there is none: then nothing tells where in the window the
world changed, and the holdout stays whole; what was chosen by the last eighth alone might not pass on all of it."""


def after(splits: Splits, since: float, min_holdout: int, steps: int) -> Splits | None:
    """Cut what chooses and judges to what came after a change.

    Parameters
    ----------
    splits : Splits
        In the order of time.
    since : float
        Timestamp of the first sample after it.
    min_holdout : int
        Holdout samples that are needed.
    steps : int
        Steps of a session that are trained on one after the other; more than 1 leaves sessions whole.

    Returns
    -------
    Splits or None
        None where it would not leave enough.
    """
    validation = select(splits.validation, _later(splits.validation, since, steps))
    holdout = select(splits.holdout, _later(splits.holdout, since, steps))
    enough = (
        len(validation.labels) >= MIN_VALIDATION
        and len(holdout.labels) >= min_holdout
        and min(class_counts(holdout.labels, holdout.weights)) >= MIN_HOLDOUT_PER_CLASS
        and len(np.unique(holdout.groups)) >= MIN_HOLDOUT_SESSIONS
    )
    if not enough:
        return None
    promise = None if splits.promise is None else select(splits.promise, _later(splits.promise, since, steps))
    return replace(splits, validation=validation, holdout=holdout, promise=promise)


def worse_since(losses: F64, samples: Samples) -> float | None:
    """Tell since when a model has visibly done worse, if it has.

    Parameters
    ----------
    losses : float64, (N,)
        Of a model's answers; or of these minus another's.
    samples : Samples
        To these, in the order of time, none of which its weights were fitted to.

    Returns
    -------
    float or None
        Timestamp of the first sample after the likeliest of seven places.
    """
    n, weights = len(losses), samples.weights.astype(np.float64)
    most, since = VISIBLY, None
    for eighth in range(1, 8):
        place = n * eighth // 8
        parts = [slice(0, place), slice(place, n)]
        if min(place, n - place) < MIN_VALIDATION or any(weights[part].sum() <= 0 for part in parts):
            continue
        before, now = (mean_difference(losses[part], weights[part], samples.groups[part]) for part in parts)
        spread = float(np.hypot(before.standard_error, now.standard_error))
        if now.mean - before.mean > most * spread:
            most, since = (now.mean - before.mean) / spread, float(samples.timestamps[place])
    return since


def recency(n_rows: int, half_life: float = HALF_LIFE) -> F32:
    """Weights by which rows in the order of time choose: half as much every `half_life` of them, with a mean of 1.

    Parameters
    ----------
    n_rows : int
    half_life : float

    Returns
    -------
    float32, (n_rows,)
    """
    age = np.arange(n_rows, dtype=np.float64)[::-1] / max(1.0, half_life * n_rows)
    weights = np.exp2(-age)
    return (weights / weights.mean()).astype(np.float32) if n_rows else weights.astype(np.float32)


def _later(samples: Samples, since: float, steps: int) -> Bools:
    later: Bools = samples.timestamps >= since
    if steps == 1 or not len(later):
        return later
    begun = {int(group) for group in np.unique(samples.groups[~later])}
    return later & ~np.isin(samples.groups, np.array(sorted(begun), np.uint64))
