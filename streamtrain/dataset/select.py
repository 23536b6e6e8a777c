"""Rows of a batch of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from streamtrain.types import Bools, Samples

COLUMNS = tuple(column.name for column in fields(Samples))


def select(samples: Samples, rows: Bools | NDArray[np.integer] | slice) -> Samples:
    """Take some rows, by mask, index or slice.

    Parameters
    ----------
    samples : Samples
    rows : bool, (N,), or integer, (M,), or slice
        A slice gives views, the others copies.

    Returns
    -------
    Samples
    """
    return Samples(**{name: getattr(samples, name)[rows] for name in COLUMNS})


def concatenate(parts: Sequence[Samples], dim: int) -> Samples:
    """Join batches of samples in order.

    Parameters
    ----------
    parts : sequence of Samples
        May be empty.
    dim : int
        Number of features D, for when it is.

    Returns
    -------
    Samples
    """
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return empty(dim)
    return Samples(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS})


def empty(dim: int) -> Samples:
    """Make a batch of no samples with D = `dim` features."""
    none = np.empty(0, np.float32)
    keys = np.empty(0, np.uint64)
    return Samples(np.empty((0, dim), np.float32), none, np.empty(0), keys, keys, none, none, none, keys)
