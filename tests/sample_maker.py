"""Samples to fill a store with."""

import numpy as np

from streamtrain.types import Samples


def make(n, first_key=0, dim=3, start=0.0, timestamps=None, seed=0):
    """`n` samples with keys from `first_key` on, one a second; every column is different and none is usual."""
    rng = np.random.default_rng(seed)
    keys = np.arange(first_key, first_key + n, dtype=np.uint64)
    times = start + np.arange(first_key, first_key + n, dtype=np.float64) if timestamps is None else timestamps
    return Samples(
        features=rng.random((n, dim), np.float32),
        labels=rng.random(n, np.float32),
        timestamps=np.asarray(times, np.float64),
        keys=keys,
        groups=keys // np.uint64(3),
        weights=rng.random(n, np.float32),
        teachers=rng.random(n, np.float32),
        propensities=rng.random(n, np.float32),
        slices=keys % np.uint64(5),
    )
