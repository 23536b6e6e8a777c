"""What the report of a candidate shows, taken with the bytes that were judged while the samples are at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from streamtrain.answers import answers
from streamtrain.dataset.select import select
from streamtrain.judge import figures
from streamtrain.judge.metrics import log_losses, report
from streamtrain.router.scorer import Model
from streamtrain.types import F64, Bools, Candidate, Decision, EpochMetrics, Samples

MOST_SAMPLES: Final = 2000
"""Samples that the influence of features is measured on: whole sessions, the first by their hash."""
MOST_FEATURES: Final = 32
"""Features that are asked about, and at most as many as shown."""
MOST_EPOCHS: Final = 100
_THRESHOLD, _MAX_UNCERTAINTY = 0.85, 0.15
_NAME_CHARACTERS: Final = 80
_SCREENED: Final = 128


def portrait(
    model: Model,
    holdout: Samples,
    probabilities: F64,
    current: F64 | None,
    names: Mapping[int, str],
    seed: int,
) -> dict[str, Any]:
    """Take the figures of a candidate.

    Parameters
    ----------
    model : Model
        As loaded for serving.
    holdout : Samples
    probabilities : float64, (N,)
        Its answers, finite.
    current : float64, (N,), or None
        The current version's.
    names : mapping of int to str
        Of slices.
    seed : int

    Returns
    -------
    dict
        JSON values, a few kilobytes at most whatever the holdout.
    """
    counted = holdout.weights > 0
    if current is not None and not np.isfinite(current).all():
        current = None
    kept = holdout if counted.all() else select(holdout, counted)
    given = (kept.labels, probabilities[counted], kept.weights)
    now = None if current is None else current[counted]
    threshold = _THRESHOLD if model.threshold is None else model.threshold
    uncertainty = model.max_uncertainty
    if uncertainty is None:
        uncertainty = _MAX_UNCERTAINTY if model.threshold is None else 1.0
    # At or above 0.5, an uncertainty of at most u is a confidence of at least 1 - u / 2.
    served = max(threshold, 1.0 - uncertainty / 2.0)
    taken = {
        "reliability": figures.reliability(*given),
        "slices": figures.by_slice(*given, kept.slices, names, now),
        "time": figures.over_time(*given, kept.timestamps, now),
        "cost": figures.cost_curve(*given),
        "points": [
            {"name": "0.5, where accuracy is counted"} | figures.at_threshold(*given, 0.5),
            {"name": "what routers use"} | figures.at_threshold(*given, served),
        ],
        "influence": influence(model, kept, seed),
        "current": None if now is None else report(kept.labels, now, kept.weights).to_json(),
    }
    rounded: dict[str, Any] = figures.compact(taken)
    return rounded


def influence(model: Model, samples: Samples, seed: int) -> dict[str, Any]:
    """Measure how much worse the answers get when a feature is another request's.

    Permutation importance (Breiman 2001, "Random Forests"; Fisher, Rudin & Dominici 2019): the log loss with the column
    of one feature shuffled, minus the log loss as it is. Of features that say the same, each may look dispensable.

    Parameters
    ----------
    model : Model
    samples : Samples
    seed : int

    Returns
    -------
    dict
        "n_samples", "n_features" of the model, and "features": "feature" (its name) and "loss" (in nats), the most
        influential first. Of a model with more features than `MOST_FEATURES`, those are asked about whose answers
        change most where their values are replaced by their means.
    """
    some = select(samples, _some_sessions(samples))
    n_features = some.features.shape[1]
    weights = some.weights.astype(np.float64)

    def loss(features: Any) -> float:
        given = Samples(**{name: getattr(some, name) for name in Samples.__slots__} | {"features": features})
        return float(np.average(log_losses(some.labels.astype(np.float64), answers(model, given)), weights=weights))

    asked = np.arange(n_features)
    if n_features > MOST_FEATURES:
        asked = np.sort(np.argsort(-_moved(model, some), kind="stable")[:MOST_FEATURES])
    usual = loss(some.features)
    found: list[tuple[float, str]] = []
    for column in asked.tolist():
        shuffled = some.features.copy()
        shuffled[:, column] = shuffled[np.random.default_rng((seed, column)).permutation(len(shuffled)), column]
        found.append((loss(shuffled) - usual, model.features[column][:_NAME_CHARACTERS]))
    found.sort(key=lambda one: -one[0])
    ranked = [{"feature": name, "loss": worse} for worse, name in found]
    return {"n_samples": len(some.labels), "n_features": n_features, "features": ranked}


def _moved(model: Model, samples: Samples) -> F64:
    """Measure how far answers move, on average, where each feature in turn is replaced by its mean."""
    few = samples.features[:: max(1, len(samples.features) // _SCREENED)]
    usual, means = model.score_batch(few), few.mean(axis=0)
    moved: F64 = np.empty(few.shape[1])
    for column in range(few.shape[1]):
        replaced = few.copy()
        replaced[:, column] = means[column]
        moved[column] = np.abs(model.score_batch(replaced) - usual).mean()
    return moved


def epochs_of(epochs: tuple[EpochMetrics, ...]) -> list[dict[str, Any]]:
    """Write learning curves down, of long ones every so many epochs and the last."""
    step = -(-len(epochs) // MOST_EPOCHS)
    return [asdict(one) for place, one in enumerate(epochs) if place % step == 0 or place == len(epochs) - 1]


def refused(
    time_s: float,
    candidate: Candidate,
    decision: Decision,
    epochs: list[dict[str, Any]],
    holdout: dict[str, Any] | None,
) -> dict[str, Any]:
    """Write down what the report of a candidate that was not published shows.

    Parameters
    ----------
    time_s : float
        When it was judged, in seconds since the epoch.
    candidate : Candidate
    decision : Decision
    epochs : list of dict
        From `epochs_of`.
    holdout : dict or None
        As `metrics.json` of a version has it.

    Returns
    -------
    dict
        "time", and "manifest" and "metrics" as a version's, but with few keys.
    """
    about = {
        "origin": candidate.origin,
        "parent": candidate.parent,
        "seed": candidate.seed,
        "sequence_length": candidate.sequence_length,
        "model": asdict(candidate.config),
        "gate": asdict(decision),
    }
    return {"time": time_s, "manifest": about, "metrics": {"epochs": epochs, "holdout": holdout}}


def _some_sessions(samples: Samples) -> Bools:
    """Choose whole sessions of about so many samples, by their hashes, which are random."""
    if len(samples.groups) <= MOST_SAMPLES:
        return np.ones(len(samples.groups), np.bool_)
    last = np.partition(samples.groups, MOST_SAMPLES - 1)[MOST_SAMPLES - 1]
    chosen: Bools = samples.groups <= last
    return chosen
