"""Z-score normalisation: x' = (x - mean) / std, per feature."""

from __future__ import annotations

from collections.abc import Iterator

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
    n, dim = features.shape
    total = float(n) if weights is None else float(np.sum(weights, dtype=np.float64))
    if total <= 0.0:
        raise ValueError(f"fit the scaling: {n} samples of total weight {total:g}, expected at least one above 0")
    sums = np.zeros(dim)
    for block, share in _blocks(features, weights):
        sums += share @ block
    means = sums / total
    squares = np.zeros(dim)
    for block, share in _blocks(features, weights):
        block -= means
        np.square(block, out=block)
        squares += share @ block
    stds = np.sqrt(squares / total)
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
