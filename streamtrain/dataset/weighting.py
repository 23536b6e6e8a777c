"""Weights against selection bias: what was logged rarely counts for more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamtrain.types import Samples


def reweighted(samples: Samples, largest: float) -> Samples:
    """Multiply each weight by the inverse of its propensity, clipped.

    Inverse propensity weighting (Horvitz & Thompson, 1952); clipping trades a little bias for bounded variance
    (Ionides, 2008).

    Parameters
    ----------
    samples : Samples
    largest : float
        Largest factor ``1 / p``, ≥ 1.

    Returns
    -------
    Samples
        With propensities spent (NaN), so that they can't count twice. Without propensities, `samples` itself.
    """
    known = ~np.isnan(samples.propensities)
    if not known.any():
        return samples
    factors = np.ones(len(known), np.float32)
    factors[known] = np.minimum(1.0 / samples.propensities[known], np.float32(largest))
    spent = np.full_like(samples.propensities, np.nan)
    return replace(samples, weights=samples.weights * factors, propensities=spent)
