"""Z-score normalisation: x' = (x - mean) / std, per feature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from streamtrain.types import F32, F64, Scaling

_BLOCK_VALUES = 1 << 18  # float64 values converted at a time: 2 MiB, which stays in the cache


def fit(features: F32, weights: F32 | F64 | None = None) -> Scaling:
    """Fit mean and standard deviation (of the population) of each feature in float64.

    Two passes, so that a large mean doesn't swallow a small spread. A constant feature gets std 1; so does one whose
    spread is no more than float32 rounding of its mean.

    Parameters
    ----------
    features : float32, (N, D)
        Training samples only.
    weights : float, (N,), optional
        Finite and ≥ 0, not all 0; without them all count the same.

    Returns
    -------
    Scaling

    Raises
    ------
    ValueError
        If there are no samples, or none with a weight above 0.
    """
    n = len(features)
    total = float(n) if weights is None else float(np.sum(weights, dtype=np.float64))
    if total <= 0.0:
        raise ValueError(f"fit the scaling: {n} samples of total weight {total:g}, expected at least one above 0")
    return scaling_of(moments(features, weights))


@dataclass(frozen=True, slots=True)
class Moments:
    """Of some samples.

    Attributes
    ----------
    total : float
        Weight.
    means, squares : float64, (D,)
        Means, and sums of the squared distances from them, of each feature.
    """

    total: float
    means: F64
    squares: F64


def moments(features: F32, weights: F32 | F64 | None = None) -> Moments:
    """Measure some samples; arguments as for `fit`, but there may be none."""
    n, dim = features.shape
    total = float(n) if weights is None else float(np.sum(weights, dtype=np.float64))
    sums = np.zeros(dim)
    for block, share in _blocks(features, weights):
        sums += share @ block
    means = sums / total if total > 0.0 else sums
    squares = np.zeros(dim)
    for block, share in _blocks(features, weights):
        block -= means
        squares += share @ np.square(block, out=block)
    return Moments(total, means, squares)


def merged(parts: Sequence[Moments]) -> Moments:
    """Put together what was measured of parts (Chan, Golub & LeVeque 1979), in the order given.

    Raises
    ------
    ValueError
        If there is no part.
    """
    if not parts:
        raise ValueError("merge moments: there are none, expected those of at least one part")
    whole = parts[0]
    for part in parts[1:]:
        total = whole.total + part.total
        if part.total <= 0.0:
            continue
        apart = part.means - whole.means
        means = whole.means + apart * (part.total / total)
        squares = whole.squares + part.squares + apart**2 * (whole.total * part.total / total)
        whole = Moments(total, means, squares)
    return whole


def scaling_of(measured: Moments) -> Scaling:
    """Make the scaling of samples that were measured; the weight must not be 0."""
    means, stds = measured.means, np.sqrt(measured.squares / measured.total)
    stds[stds <= np.abs(means) * np.finfo(np.float32).eps] = 1.0
    return Scaling(means, stds)


def apply(features: F32, scaling: Scaling) -> F32:
    """Normalise; the arithmetic is float64, block by block, so that there is one copy and no more.

    Parameters
    ----------
    features : float32, (N, D)
    scaling : Scaling

    Returns
    -------
    float32, (N, D)
        C-contiguous.
    """
    scaled = np.empty(features.shape, np.float32)
    rows = _rows_per_block(features.shape[1])
    for start in range(0, len(features), rows):
        block = features[start : start + rows].astype(np.float64)
        block -= scaling.means
        block /= scaling.stds
        scaled[start : start + rows] = block
    return scaled


def _rows_per_block(dim: int) -> int:
    return max(1, _BLOCK_VALUES // max(1, dim))


def _blocks(features: F32, weights: F32 | F64 | None) -> Iterator[tuple[F64, F64]]:
    """Yield float64 copies of the rows, and their weights, a block at a time."""
    rows = _rows_per_block(features.shape[1])
    for start in range(0, len(features), rows):
        block = features[start : start + rows].astype(np.float64)
        share = np.ones(len(block)) if weights is None else weights[start : start + rows].astype(np.float64)
        yield block, share
