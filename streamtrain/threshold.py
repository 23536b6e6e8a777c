"""The threshold that a version advises routers to decide by, from the samples that are set aside for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streamtrain.config import Config
from streamtrain.intake import Splits
from streamtrain.judge.promise import Held, Promise, promise
from streamtrain.router.scorer import Model
from streamtrain.router.served import decide_by
from streamtrain.types import F64, Samples

# The threshold says it all: Tiny Dancer's 0.15 would mean 0.925 beside it.
_ANY_UNCERTAINTY = 1.0


def threshold_for(config: Config, splits: Splits, answers: Callable[[Samples], F64]) -> Promise | None:
    """Choose the threshold that keeps `router.max_error`.

    Parameters
    ----------
    config : Config
    splits : Splits
    answers : callable
        What the candidate's bytes answer to some samples.

    Returns
    -------
    Promise or None
        None where nothing is promised.
    """
    if config.router.max_error is None or splits.promise is None:
        return None
    held, guide = (
        Held(part.labels, answers(part), part.weights, part.groups) for part in (splits.promise, splits.validation)
    )
    return promise(held, guide, config.router.max_error, config.gate.confidence)


def chosen(model: Model, probabilities: F64) -> tuple[F64, float]:
    """Tell which samples a router sends to the lightweight model by a version, and from which confidence on.

    Parameters
    ----------
    model : Model
        As loaded for serving.
    probabilities : float64, (N,)
        Its answers.

    Returns
    -------
    float64, (N,)
        1 for those, 0 for others.
    float
        The least such confidence.
    """
    threshold, most = decide_by(model)
    lowest = max(threshold, 1.0 - most / 2.0)
    routed = (probabilities >= threshold) & (1.0 - 2.0 * np.abs(probabilities - 0.5) <= most)
    return routed.astype(np.float64), lowest


def advice(promised: Promise | None) -> dict[str, object] | None:
    """Return what the manifest says to routers: ``threshold``, ``max_uncertainty``, and what they are good for."""
    if promised is None:
        return None
    return {
        "threshold": promised.threshold,
        "max_uncertainty": _ANY_UNCERTAINTY,
        "promised": promised.kept,
        "max_error": promised.max_error,
        "confidence": promised.confidence,
        "share_lightweight": promised.share,
    }
