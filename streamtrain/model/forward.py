"""The FastGRNN cell in plain NumPy, for any float dtype: what serving is checked against.

Equations (those of Tiny Dancer's released binary; nu and zeta after Kusupati et al., "FastGRNN", NeurIPS 2018)::

    r = σ(nu (W_reset x + b_reset))                        u = σ(nu (W_update x + b_update))
    c = tanh(zeta (W_candidate x + W_recurrent (r ⊙ h) + b_candidate))
    h' = u ⊙ h + (1 - u) ⊙ c                               y = σ(W_output h' + b_output)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from streamtrain.types import FastGRNNConfig, Params

Floats = NDArray[np.floating[Any]]


def sigmoid(z: Floats) -> Floats:
    """``σ(z) = (1 + tanh(z / 2)) / 2``: exact at both ends and free of overflow, unlike ``1 / (1 + exp(-z))``.

    Parameters
    ----------
    z : float array

    Returns
    -------
    float array of the same shape and dtype, in 0..1
    """
    half = z.dtype.type(0.5)
    result: Floats = half * (np.tanh(half * z) + z.dtype.type(1))
    return result


def step(params: Params, x: Floats, h: Floats, nu: float = 1.0, zeta: float = 1.0) -> Floats:
    """Hidden states after one step.

    Parameters
    ----------
    params : Params
    x : float, (N, D)
        In the space that `params` take: normalised, or raw if folded.
    h : float, (N, H)
        Hidden states before the step.
    nu, zeta : float
        Scales of the gates' and of the candidate's pre-activation.

    Returns
    -------
    float, (N, H)
        In the dtype of `x`.
    """
    dtype = x.dtype
    w_reset, w_update, w_candidate = (w.astype(dtype) for w in (params.w_reset, params.w_update, params.w_candidate))
    b_reset, b_update, b_candidate = (b.astype(dtype) for b in (params.b_reset, params.b_update, params.b_candidate))
    scale_gate, scale_candidate = dtype.type(nu), dtype.type(zeta)
    reset = sigmoid(scale_gate * (x @ w_reset.T + b_reset))
    update = sigmoid(scale_gate * (x @ w_update.T + b_update))
    recurrent = (reset * h) @ params.w_recurrent.astype(dtype).T
    candidate = np.tanh(scale_candidate * (x @ w_candidate.T + recurrent + b_candidate))
    result: Floats = update * h + (dtype.type(1) - update) * candidate
    return result


def logits(params: Params, h: Floats) -> Floats:
    """Logit of label 1 for each hidden state.

    Parameters
    ----------
    params : Params
    h : float, (N, H)

    Returns
    -------
    float, (N,)
        In the dtype of `h`.
    """
    result: Floats = h @ params.w_output[0].astype(h.dtype) + params.b_output[0].astype(h.dtype)
    return result


def probabilities(
    params: Params,
    x: ArrayLike,
    nu: float = 1.0,
    zeta: float = 1.0,
    h0: Floats | None = None,
    dtype: DTypeLike = np.float64,
) -> Floats:
    """Probability of label 1 after one step, for a batch.

    Parameters
    ----------
    params : Params
    x : (N, D) numbers
    nu, zeta : float
    h0 : float, (N, H), optional
        Hidden states before the step; zeros if None, as for a single request.
    dtype : float32 or float64
        Arithmetic to compute in.

    Returns
    -------
    float, (N,)
        In 0..1.

    Raises
    ------
    ValueError
        If `x` is not (N, D).
    """
    batch: Floats = np.asarray(x, dtype=dtype)
    n_features = params.w_reset.shape[1]
    if batch.ndim != 2 or batch.shape[1] != n_features:
        raise ValueError(f"probabilities: x has shape {batch.shape}; expected (N, {n_features})")
    h = np.zeros((len(batch), params.w_reset.shape[0]), batch.dtype) if h0 is None else h0.astype(batch.dtype)
    return sigmoid(logits(params, step(params, batch, h, nu, zeta)))


def sequence_probabilities(params: Params, x: ArrayLike, config: FastGRNNConfig) -> Floats:
    """Probability of label 1 at each step of sequences, each from ``h = 0``: what the kernels train.

    Parameters
    ----------
    params : Params
    x : (N, T, D) numbers
        In the space that `params` take.
    config : FastGRNNConfig
        Its nu and zeta.

    Returns
    -------
    float64, (N, T)
        In 0..1.

    Raises
    ------
    ValueError
        If `x` is not (N, T, D).
    """
    batch: Floats = np.asarray(x, dtype=np.float64)
    hidden, n_features = params.w_reset.shape
    if batch.ndim != 3 or batch.shape[2] != n_features:
        raise ValueError(f"sequence_probabilities: x has shape {batch.shape}; expected (N, T, {n_features})")
    h: Floats = np.zeros((len(batch), hidden))
    result: Floats = np.empty(batch.shape[:2])
    for t in range(batch.shape[1]):
        h = step(params, batch[:, t], h, config.nu, config.zeta)
        result[:, t] = sigmoid(logits(params, h))
    return result
