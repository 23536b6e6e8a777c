"""Samples in as few bytes as they can do with, for where very many are held: columns that say nothing are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrain.dataset.select import COLUMNS
from streamtrain.types import Samples

_NOTHING = {"weights": 1.0, "teachers": np.nan, "propensities": np.nan}


@dataclass(frozen=True, slots=True)
class Compact:
    """Samples.

    Attributes
    ----------
    n : int
        How many.
    columns : mapping of str to array
        By their names in `Samples`. Left out are groups that are the keys, weights of 1, teachers and propensities of
        which none is known, and slices that are none. Labels that are 0 or 1 are bytes.
    """

    n: int
    columns: Mapping[str, NDArray[Any]]


def compact(samples: Samples) -> Compact:
    """Leave out what says nothing; the columns that stay are not copied."""
    columns: dict[str, NDArray[Any]] = {name: getattr(samples, name) for name in COLUMNS}
    if np.array_equal(samples.groups, samples.keys):
        del columns["groups"]
    for name, value in _NOTHING.items():
        column = columns[name]
        if np.isnan(column).all() if np.isnan(value) else (column == value).all():
            del columns[name]
    if not samples.slices.any():
        del columns["slices"]
    if np.isin(samples.labels, (0.0, 1.0)).all():
        columns["labels"] = samples.labels.astype(np.uint8)
    return Compact(len(samples.keys), columns)


def restored(held: Compact) -> Samples:
    """Return the samples as they were, bit for bit."""
    columns = dict(held.columns)
    columns["labels"] = columns["labels"].astype(np.float32, copy=False)
    columns.setdefault("groups", columns["keys"])
    for name, value in _NOTHING.items():
        if name not in columns:
            columns[name] = np.full(held.n, value, np.float32)
    if "slices" not in columns:
        columns["slices"] = np.zeros(held.n, np.uint64)
    return Samples(**columns)
