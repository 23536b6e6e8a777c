"""Magnitude pruning: the smallest weights become zero."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamtrain.model.params import WEIGHTS
from streamtrain.types import F32, Params


def sparsity(params: Params) -> float:
    """Return the share of weights that are zero, 0..1; biases don't count."""
    weights = [getattr(params, name) for name in WEIGHTS]
    return float(sum(np.count_nonzero(w == 0) for w in weights) / sum(w.size for w in weights))


def is_pruned(params: Params, sparsity: float) -> bool:
    """Whether as many weights are zero already as `prune` would make it."""
    weights = [getattr(params, name) for name in WEIGHTS]
    n_zero = sum(np.count_nonzero(w == 0) for w in weights)
    return bool(n_zero >= _n_zero(sparsity, sum(w.size for w in weights)))


def prune(params: Params, sparsity: float) -> Params:
    """Zero the `sparsity` share of all weights with the smallest magnitude; biases stay.

    Parameters
    ----------
    params : Params
    sparsity : float
        0 ≤ sparsity < 1, over all weight matrices together (Han et al., 2015).

    Raises
    ------
    ValueError
        If `sparsity` is outside 0..1.
    """
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(f"prune: sparsity is {sparsity}; expected 0 ≤ sparsity < 1")
    magnitudes = np.concatenate([np.abs(getattr(params, name)).ravel() for name in WEIGHTS])
    n_zero = _n_zero(sparsity, magnitudes.size)
    if n_zero == 0:
        return params
    threshold = np.partition(magnitudes, n_zero - 1)[n_zero - 1]
    changed: dict[str, F32] = {}
    for name in WEIGHTS:
        weight: F32 = getattr(params, name)
        changed[name] = np.where(np.abs(weight) <= threshold, np.float32(0), weight)
    return replace(params, **changed)


def _n_zero(sparsity: float, n_weights: int) -> int:
    return int(sparsity * n_weights + 1e-9)  # 0.29 · 100 is 28.999…
