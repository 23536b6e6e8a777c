"""How far probabilities mean what they say: the table behind a reliability diagram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from streamtrain.judge.metrics import checked

N_BINS = 15
DEFINITION = f"{N_BINS} bins of equal width [b/{N_BINS}, (b+1)/{N_BINS}), the last one closed; sum of share · |gap|"
"""What the expected calibration error of every report is made of (Naeini et al. 2015, Guo et al. 2017)."""


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a reliability diagram (DeGroot and Fienberg 1983).

    Attributes
    ----------
    low, high : float
        Its edges.
    n_samples : int
    share : float
        Of the weight of all samples.
    confidence, frequency : float or None
        Weighted mean probability and mean label in it; None where it is empty. Their difference is the bin's gap.
    """

    low: float
    high: float
    n_samples: int
    share: float
    confidence: float | None
    frequency: float | None


def reliability(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None = None, n_bins: int = N_BINS
) -> tuple[Bin, ...]:
    """Put samples into bins by their probability, and compare what was said with what came.

    Parameters
    ----------
    labels, probabilities, weights : (N,)
        As for `metrics.report`.
    n_bins : int

    Returns
    -------
    tuple of Bin
        ``Σ share · |frequency - confidence|`` is `metrics.ece`.
    """
    y, p, w = checked(labels, probabilities, weights)
    bins = np.minimum((p * n_bins).astype(np.int64), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    mass = np.bincount(bins, weights=w, minlength=n_bins)
    said = np.bincount(bins, weights=w * p, minlength=n_bins)
    came = np.bincount(bins, weights=w * y, minlength=n_bins)
    return tuple(
        Bin(
            low=b / n_bins,
            high=(b + 1) / n_bins,
            n_samples=int(counts[b]),
            share=float(mass[b] / w.sum()),
            confidence=float(said[b] / mass[b]) if mass[b] else None,
            frequency=float(came[b] / mass[b]) if mass[b] else None,
        )
        for b in range(n_bins)
    )
