"""Samples → rows of T steps: the shape that the kernels take."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamtrain.types import F32, F64, U64, Arrays

I64 = NDArray[np.int64]


def layout(groups: U64, timestamps: F64, steps: int) -> I64:
    """Lay samples out in rows of `steps` steps.

    With one step, each sample is a row of its own, in the order given. With more, the samples of one group, in time
    order (ties in the order given), are cut into rows of `steps`; the last row of a group is padded at its end. The
    rows are ordered by their first sample's place in the input.

    Parameters
    ----------
    groups : uint64, (N,)
    timestamps : float64, (N,)
    steps : int
        T ≥ 1.

    Returns
    -------
    int64, (M, T)
        Index of the sample at each step; -1 is padding.

    Raises
    ------
    ValueError
        If `steps` < 1.
    """
    if steps < 1:
        raise ValueError(f"layout: steps is {steps}, expected a whole number ≥ 1")
    n = len(groups)
    if steps == 1 or n == 0:
        return np.arange(n, dtype=np.int64).reshape(-1, steps)
    order = np.lexsort((timestamps, groups))
    ordered = groups[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    lengths = np.diff(np.append(first, n))
    place = np.arange(n) - np.repeat(first, lengths)
    rows_before = np.concatenate(([0], np.cumsum(-(-lengths // steps))))
    rows = np.repeat(rows_before[:-1], lengths) + place // steps
    index = np.full((int(rows_before[-1]), steps), -1, np.int64)
    index[rows, place % steps] = order
    return index[np.argsort(index[:, 0], kind="stable")]


def gather(index: I64, features: F32, labels: F32, weights: F32, teachers: F32 | None = None) -> Arrays:
    """Fill a layout with values; padding is all zeros, with weight 0.

    Parameters
    ----------
    index : int64, (M, T)
        From `layout`.
    features : float32, (N, D)
        Normalised.
    labels, weights : float32, (N,)
    teachers : float32, (N,), optional
        A teacher's *probabilities* (as in `Samples.teachers`); NaN where there is none, and stays so: such a step
        learns from its label alone.

    Returns
    -------
    Arrays
        C-contiguous; with one step of everything in order, a view of the input. Teachers are logits, within ±13.8.
    """
    logits = None if teachers is None else _logits(teachers)
    steps = index.shape[1]
    if steps == 1 and len(index) == len(labels) and np.array_equal(index[:, 0], np.arange(len(labels))):
        return Arrays(
            np.ascontiguousarray(features)[:, None, :],
            np.ascontiguousarray(labels)[:, None],
            np.ascontiguousarray(weights)[:, None],
            None if logits is None else logits[:, None],
        )
    padding = index < 0
    taken = [np.ascontiguousarray(column[index]) for column in (features, labels, weights)]
    for column in taken:
        column[padding] = 0.0
    if logits is not None:
        logits = np.ascontiguousarray(logits[index])
        logits[padding] = 0.0
    return Arrays(taken[0], taken[1], taken[2], logits)


def scatter(index: I64, values: F32 | F64, n: int) -> F64:
    """Bring values per step, such as predictions, back into the order of the samples.

    Parameters
    ----------
    index : int64, (M, T)
        From `layout`.
    values : float, (M, T)
    n : int
        Number of samples N.

    Returns
    -------
    float64, (N,)
        NaN for a sample that is nowhere in `index`.
    """
    samples = np.full(n, np.nan)
    present = index >= 0
    samples[index[present]] = values[present]
    return samples


def _logits(probabilities: F32) -> F32:
    """Turn probabilities into logits; a missing one, NaN, stays missing."""
    clipped = np.clip(probabilities.astype(np.float64), 1e-6, 1.0 - 1e-6)
    return (np.log(clipped) - np.log1p(-clipped)).astype(np.float32)
