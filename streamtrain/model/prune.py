"""Magnitude pruning: the smallest weights of each matrix become zero.

Matrix by matrix, not over all together: matrices differ in scale, and those that a single step leaves unused (the reset
gate's and the recurrent one) would otherwise be pruned in place of the ones that matter.
"""

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
    """Say whether as many weights of each matrix are zero already as `prune` would make it."""
    weights = [getattr(params, name) for name in WEIGHTS]
    return all(np.count_nonzero(w == 0) >= _n_zero(sparsity, w.size) for w in weights)


def prune(params: Params, sparsity: float) -> Params:
    """Zero the `sparsity` share of each weight matrix with the smallest magnitude; biases stay.

    Parameters
    ----------
    params : Params
    sparsity : float
        0 ≤ sparsity < 1, of each matrix (Han et al., 2015).

    Raises
    ------
    ValueError
        If `sparsity` is outside 0..1.
    """
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(f"prune: sparsity is {sparsity}; expected 0 ≤ sparsity < 1")
    changed: dict[str, F32] = {}
    for name in WEIGHTS:
        weight: F32 = getattr(params, name).copy()
        smallest = np.argsort(np.abs(weight), axis=None, kind="stable")[: _n_zero(sparsity, weight.size)]
        weight.ravel()[smallest] = 0.0
        changed[name] = weight
    return replace(params, **changed)


def _n_zero(sparsity: float, n_weights: int) -> int:
    return int(sparsity * n_weights + 1e-9)  # 0.29 · 100 is 28.999…
