"""Vectorised activations with a stated error, over sixteen float32 lanes.

The approximations were fitted for this file (minimax by iteratively reweighted least squares against float64).
NaN in gives NaN out: a diverged run must be noticed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtrain.kernels.policy import inlined
from streamtrain.kernels.simd import fabs, muladd, power_of_two, rint, splat, where_greater

f32 = np.float32
_ZERO, _HALF, _ONE, _TWO = f32(0), f32(0.5), f32(1), f32(2)
_TANH_LIMIT = f32(8.0)  # 1 - tanh(8) = 2.3e-7
_TANH_P0, _TANH_P1, _TANH_P2 = f32(9.999999700e-01), f32(1.343818788e-01), f32(3.564152271e-03)
_TANH_P3, _TANH_P4 = f32(2.177318293e-05), f32(1.506172316e-08)
_TANH_Q1, _TANH_Q2, _TANH_Q3 = f32(4.677150865e-01), f32(2.613600098e-02), f32(3.399173113e-04)
_TANH_Q4 = f32(8.453626291e-07)

_LOG2_E = f32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = f32(0.693145751953125), f32(1.428606765330187e-06)
_EXP_LIMIT = f32(-87.0)  # below, exp is under the smallest normal float
_EXP_2, _EXP_3, _EXP_4 = f32(4.999999345e-01), f32(1.666652068e-01), f32(4.166838740e-02)
_EXP_5, _EXP_6 = f32(8.368711520e-03), f32(1.381461927e-03)

_LOG_0, _LOG_1, _LOG_2 = f32(1.000000004e00), f32(3.333315733e-01), f32(2.001245588e-01)
_LOG_3, _LOG_4 = f32(1.398028876e-01), f32(1.408923298e-01)


@inlined
def tanh(x: Any) -> Any:
    """Hyperbolic tangent as ``x P(x²)/Q(x²)``, degrees 9 and 8, on |x| ≤ 8.

    Absolute error ≤ 4e-7 over all float32, infinities and subnormals included; never above 1 in magnitude.
    """
    limit = splat(_TANH_LIMIT)
    low = splat(-_TANH_LIMIT)
    x = where_greater(x, limit, limit, x)
    x = where_greater(low, x, low, x)
    s = x * x
    p = muladd(s, splat(_TANH_P4), splat(_TANH_P3))
    q = muladd(s, splat(_TANH_Q4), splat(_TANH_Q3))
    p = muladd(s, p, splat(_TANH_P2))
    q = muladd(s, q, splat(_TANH_Q2))
    p = muladd(s, p, splat(_TANH_P1))
    q = muladd(s, q, splat(_TANH_Q1))
    p = muladd(s, p, splat(_TANH_P0))
    q = muladd(s, q, splat(_ONE))
    return x * p / q


@inlined
def exp_negative(x: Any) -> Any:
    """``exp(x)`` for x ≤ 0: ``2^k · exp(f)`` with |f| ≤ ln(2)/2 and a polynomial of degree 6.

    Relative error ≤ 3e-7 for x ≥ -87; below, the value at -87 (1.6e-38), which is 0 for every use here.
    """
    low = splat(_EXP_LIMIT)
    x = where_greater(low, x, low, x)
    k = rint(x * splat(_LOG2_E))
    f = muladd(k, splat(-_LN2_HIGH), x)
    f = muladd(k, splat(-_LN2_LOW), f)
    p = muladd(f, splat(_EXP_6), splat(_EXP_5))
    p = muladd(f, p, splat(_EXP_4))
    p = muladd(f, p, splat(_EXP_3))
    p = muladd(f, p, splat(_EXP_2))
    p = muladd(f * f, p, f) + splat(_ONE)
    return p * power_of_two(k)


@inlined
def sigmoid_and_softplus(z: Any) -> Any:
    """``σ(z)`` and ``log(1 + exp(z))`` from one exponential of -|z|, so that neither overflows or loses a tail.

    ``log(1 + p) = 2 s R(s²)`` with ``s = p / (2 + p)`` and R of degree 4.
    Relative error of both ≤ 1e-6 for |z| ≤ 87, absolute error ≤ 5e-7 everywhere for σ.
    """
    zero = splat(_ZERO)
    one = splat(_ONE)
    p = exp_negative(zero - fabs(z))
    near = one / (one + p)
    sigma = where_greater(zero, z, p * near, near)
    s = p / (p + splat(_TWO))
    u = s * s
    r = muladd(u, splat(_LOG_4), splat(_LOG_3))
    r = muladd(u, r, splat(_LOG_2))
    r = muladd(u, r, splat(_LOG_1))
    r = muladd(u, r, splat(_LOG_0))
    positive = where_greater(zero, z, zero, z)
    return sigma, muladd(splat(_TWO) * s, r, positive)
