"""One number for each sample: by them a window is written down exactly, and found again among what logs give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamtrain.dataset.split import mix
from streamtrain.types import F32, U64, Samples

_NAN = np.uint32(0x7FC00000)


def fingerprints(samples: Samples) -> U64:
    """Hash everything of each sample that training depends on.

    Times are left out: what depends on them is the order, and a line without a time has that of its reading, which no
    log tells again. So are slices, which only judge.

    Parameters
    ----------
    samples : Samples

    Returns
    -------
    uint64, (N,)
        The same on every machine; of two different samples the same with a chance of 2⁻⁶⁴.
    """
    hashed = mix(samples.keys.astype(np.uint64))
    for column in (samples.groups.astype(np.uint64), *map(_bits, _numbers(samples))):
        hashed = mix(hashed ^ column)
    return hashed


def _numbers(samples: Samples) -> list[F32]:
    columns = [samples.labels, samples.weights, samples.teachers, samples.propensities]
    return [*columns, *samples.features.T]


def _bits(column: F32) -> U64:
    bits: NDArray[np.uint32] = np.ascontiguousarray(column, np.float32).view(np.uint32)
    return np.where(np.isnan(column), _NAN, bits).astype(np.uint64)
