"""What the report of a candidate shows, in figures of bounded size, taken when it is judged.

They stay with the version, so that its report needs no samples: how far its probabilities mean what they say, how it
does slice by slice and over time, and what each threshold would cost. All are weighted, as the gate's own figures are;
a label or an answer ≥ 0.5 counts as 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamtrain.judge.metrics import checked, log_losses
from streamtrain.types import F32, F64, U64

Floats = F32 | F64
Json = dict[str, Any]

N_BINS: Final = 15
"""Bins of equal width, those of `metrics.ece`."""
MOST_SLICES: Final = 24
"""The largest slices by name; the others are added up."""
MOST_PERIODS: Final = 24
N_THRESHOLDS: Final = 41
NAME_CHARACTERS: Final = 80
_LEAST_IN_PERIOD: Final = 50
_DIGITS: Final = 6


def reliability(labels: Floats, probabilities: Floats, weights: Floats | None = None) -> list[Json]:
    """Group answers by what they say, and compare that with what happened.

    Parameters
    ----------
    labels, probabilities, weights
        As for `metrics.ece`.

    Returns
    -------
    list of dict
        One for each bin that holds samples: "n", the share of the weight "share", the mean probability "said" and the
        mean label "happened". ``Σ share |happened - said|`` is the expected calibration error.
    """
    y, p, w = checked(labels, probabilities, weights)
    bins = np.minimum((p * N_BINS).astype(np.int64), N_BINS - 1)
    found = []
    for number in np.unique(bins[w > 0]):
        here = bins == number
        found.append(
            {
                "n": int(here.sum()),
                "share": float(w[here].sum() / w.sum()),
                "said": float(np.average(p[here], weights=w[here])),
                "happened": float(np.average(y[here], weights=w[here])),
            }
        )
    return found


def by_slice(
    labels: Floats,
    probabilities: Floats,
    weights: Floats | None,
    slices: U64,
    names: Mapping[int, str],
    current: Floats | None = None,
) -> list[Json]:
    """Score slice by slice.

    Parameters
    ----------
    labels, probabilities, weights
        As for `metrics.report`.
    slices : uint64, (N,)
        As in `Samples.slices`.
    names : mapping of int to str
        Of slices; as the log has them.
    current : (N,), optional
        The current version's answers.

    Returns
    -------
    list of dict
        The largest first: "slice", its name (null for samples without one) and what `_scored` gives. Beyond
        `MOST_SLICES`, the rest together, with "others", their number.
    """
    y, p, w = checked(labels, probabilities, weights)
    values, of, counts = np.unique(slices, return_inverse=True, return_counts=True)
    if values.tolist() in ([], [0]):
        return []
    order = np.lexsort((values, -counts))
    found: list[Json] = []
    for place in order[:MOST_SLICES]:
        value = int(values[place])
        name = None if not value else names.get(value, f"#{value:016x}")[:NAME_CHARACTERS]
        found.append({"slice": name, **_scored(y, p, w, current, of == place)})
    rest = order[MOST_SLICES:]
    if len(rest):
        found.append({"slice": None, "others": len(rest), **_scored(y, p, w, current, np.isin(of, rest))})
    return found


def over_time(
    labels: Floats, probabilities: Floats, weights: Floats | None, timestamps: F64, current: Floats | None = None
) -> list[Json]:
    """Score period by period, each of about as many samples, in the order of time.

    Parameters
    ----------
    labels, probabilities, weights, current
        As for `by_slice`.
    timestamps : float64, (N,)

    Returns
    -------
    list of dict
        "from" and "to" in seconds since the epoch, and what `_scored` gives.
    """
    y, p, w = checked(labels, probabilities, weights)
    order = np.argsort(timestamps, kind="stable")
    n_periods = max(1, min(MOST_PERIODS, len(y) // _LEAST_IN_PERIOD))
    found = []
    for rows in np.array_split(order, n_periods):
        here = np.zeros(len(y), np.bool_)
        here[rows] = True
        ends = {"from": float(timestamps[rows[0]]), "to": float(timestamps[rows[-1]])}
        found.append(ends | _scored(y, p, w, current, here))
    return found


def cost_curve(labels: Floats, probabilities: Floats, weights: Floats | None = None) -> list[Json]:
    """Say for many thresholds what using the lightweight model from there on would save, and what it would cost.

    Parameters
    ----------
    labels, probabilities, weights
        As for `metrics.report`.

    Returns
    -------
    list of dict
        From the lowest "threshold" to the highest, as `at_threshold` gives them, at quantiles of the answers.
    """
    y, p, w = checked(labels, probabilities, weights)
    thresholds = np.unique(np.quantile(p, np.linspace(0.0, 1.0, N_THRESHOLDS - 1), method="inverted_cdf"))
    above = np.nextafter(thresholds[-1], np.inf)
    return [at_threshold(y, p, w, float(threshold)) for threshold in (*thresholds, above)]


def at_threshold(labels: Floats, probabilities: Floats, weights: Floats | None, threshold: float) -> Json:
    """Route by a threshold.

    Parameters
    ----------
    labels, probabilities, weights
        As for `metrics.report`.
    threshold : float
        The lightweight model is used from this probability on.

    Returns
    -------
    dict
        "threshold"; "share" of the requests that use the lightweight model; "accuracy", the share of right choices;
        "spoilt", the share of all requests that used it although it was not good enough.
    """
    y, p, w = checked(labels, probabilities, weights)
    light, good = p >= threshold, y >= 0.5
    total = w.sum()
    return {
        "threshold": float(threshold),
        "share": float(w[light].sum() / total),
        "accuracy": float(w[light == good].sum() / total),
        "spoilt": float(w[light & ~good].sum() / total),
    }


def compact(value: Any) -> Any:
    """Round the numbers of a JSON value to 6 significant digits; times (whole seconds or more) stay exact to 1/1000."""
    if isinstance(value, bool) or not isinstance(value, float | dict | list):
        return value
    if isinstance(value, dict):
        return {key: compact(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [compact(entry) for entry in value]
    return round(value, 3) if abs(value) >= 1e6 else float(f"{value:.{_DIGITS}g}")


def _scored(y: F64, p: F64, w: F64, current: Floats | None, rows: NDArray[np.bool_]) -> Json:
    """Give "n", "accuracy", "log_loss", "base_rate" and "current_accuracy" (each null where unknown) of some rows."""
    total = w[rows].sum()
    if not total:
        return {"n": int(rows.sum()), **dict.fromkeys(("accuracy", "log_loss", "base_rate", "current_accuracy"))}

    def mean(values: NDArray[Any]) -> float:
        return float(np.average(values[rows], weights=w[rows]))

    good = y >= 0.5
    return {
        "n": int(rows.sum()),
        "accuracy": mean((p >= 0.5) == good),
        "log_loss": mean(log_losses(y, p)),
        "base_rate": mean(y),
        "current_accuracy": None if current is None else mean((current.astype(np.float64) >= 0.5) == good),
    }
