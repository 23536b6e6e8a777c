"""Scoring of requests, each one step from an empty hidden state, in float64 and with nothing of Python in between.

The cell then is ``h = (1 - σ(a_u)) ⊙ tanh(a_c) = (C - 1) / ((1 + U) (1 + C))`` with ``U = exp(a_u)`` and ``C = exp(2
a_c)``: one division. Sizes are arguments and no compile-time constants: a router may swap to a version of another
shape, and must not compile while it serves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from streamtrain.kernels.policy import DOUBLES, entry, entry_point, inlined

LARGEST = 1.7e38
"""Half of float32's range: features that sum up to more are not scored."""

_ROWS = types.Array(types.float64, 2, "C")
_LOG2_E = math.log2(math.e)
_LN2_HIGH, _LN2_LOW = 0.693145751953125, 1.4286068203094172e-06
_LIMIT = 40.0  # exp(-40) = 4.2e-18
_E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9, _E10, _E11, _E12 = (1.0 / math.factorial(n) for n in range(2, 13))


def _instruction(function: Callable[..., Any]) -> Any:
    """Make `function(typingctx, …)` callable from kernels (as Any: the type checker sees only the Python side)."""
    return intrinsic(function)


@_instruction
def _whole(typingctx: Any, x: Any) -> Any:
    """Return the nearest whole number: Numba's own calls the C library, which no loop is vectorised across."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic("llvm.rint", [ir.DoubleType()]), args)

    return types.float64(types.float64), codegen


@_instruction
def _power_of_two(typingctx: Any, k: Any) -> Any:
    """``2^k`` for a whole k in -1022..1023, put together from its bits."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # Added to 1.5 · 2^52, k stands in the lowest bits of the sum; AVX2 has no conversion to integers of 64 bits.
        bits = builder.bitcast(builder.fadd(args[0], ir.Constant(ir.DoubleType(), 1.5 * 2.0**52)), ir.IntType(64))
        exponent = builder.add(bits, ir.Constant(ir.IntType(64), 1023))
        return builder.bitcast(builder.shl(exponent, ir.Constant(ir.IntType(64), 52)), ir.DoubleType())

    return types.float64(types.float64), codegen


@_instruction
def _at(typingctx: Any, array: Any, index: Any) -> Any:
    """``array[index]`` for an index that is not negative: one that may be costs a selection in every loop."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, sig, args))

    return types.float64(array, types.intp), codegen


@_instruction
def _put(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index] = value``, as `_at`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, sig, args))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.float64), codegen


def _pointer(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    data = cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0]).data
    return builder.gep(data, [args[1]], inbounds=True)


@inlined
def exp(x: Any) -> Any:
    """``2^k`` times the Taylor series to degree 12 on |r| ≤ ln(2)/2, x taken into -40..40.

    Relative error ≤ 1e-15; NaN gives NaN. At the ends the sigmoid and tanh are within half a last place of 0 and ±1.
    """
    x = _LIMIT if x > _LIMIT else x
    x = -_LIMIT if x < -_LIMIT else x
    k = _whole(x * _LOG2_E)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = _E12
    p = p * r + _E11
    p = p * r + _E10
    p = p * r + _E9
    p = p * r + _E8
    p = p * r + _E7
    p = p * r + _E6
    p = p * r + _E5
    p = p * r + _E4
    p = p * r + _E3
    p = p * r + _E2
    p = p * r + 1.0
    p = p * r + 1.0
    return p * _power_of_two(k)


@inlined
def _logit(x: Any, first: Any, n_features: Any, a: Any, weights: Any, n_hidden: Any) -> Any:
    n = 2 * n_hidden
    total = _at(x, first)
    for k in range(n):
        _put(a, k, _at(weights, k) + _at(weights, n + k) * total)
    # Two at a time: half of the loads and stores.
    for j in range(1, n_features - 1, 2):
        even = _at(x, first + j)
        odd = _at(x, first + j + 1)
        total += even + odd
        row = (j + 1) * n
        for k in range(n):
            _put(a, k, _at(a, k) + _at(weights, row + k) * even + _at(weights, row + n + k) * odd)
    if n_features % 2 == 0:
        last = _at(x, first + n_features - 1)
        total += last
        row = n_features * n
        for k in range(n):
            _put(a, k, _at(a, k) + _at(weights, row + k) * last)
    # NaN and infinities survive a sum.
    if not -LARGEST < total < LARGEST:
        return np.nan
    output = (n_features + 1) * n
    logit = _at(weights, output + n_hidden)
    for k in range(n_hidden):
        u = exp(_at(a, k))
        c = exp(_at(a, n_hidden + k))
        logit += _at(weights, output + k) * ((c - 1.0) / ((1.0 + u) * (1.0 + c)))
    return logit


@inlined
def _sigmoid(logit: Any) -> Any:
    return 1.0 / (1.0 + exp(-logit))


@cache
def request_kernels() -> tuple[Callable[..., float], Callable[..., bool]]:
    """Compile, or fetch from the cache, the kernels for one request and for many.

    They check nothing: arguments of another type or length than these are a crash. They run without the GIL, the
    first too, although giving it up costs 0.1 µs: beside a loop that does nothing but score, a thread that loads the
    next version would else wait 5 ms each time.

    Returns
    -------
    one : callable (x, scratch, weights, n_hidden) -> float
        x : float64, (D,), raw features; scratch : float64, (2H,); weights : float64, (2H (D + 1) + H + 1,), the
        biases of update gate and candidate, their weights feature by feature, all with nu and 2 zeta multiplied in,
        then the output's weights and bias. Gives the probability; NaN if the features' sum is not within `LARGEST`.
    many : callable (x, scratch, weights, n_hidden, probabilities) -> bool
        The same for x : float64, (N, D), to probabilities : float64, (N,); False, and nothing of use in them, if one
        is NaN.
    """

    @entry(types.float64(DOUBLES, DOUBLES, DOUBLES, types.int64))
    def one(x: Any, scratch: Any, weights: Any, n_hidden: Any) -> Any:
        return _sigmoid(_logit(x, 0, x.shape[0], scratch, weights, n_hidden))

    @entry(types.boolean(_ROWS, DOUBLES, DOUBLES, types.int64, DOUBLES))
    def many(x: Any, scratch: Any, weights: Any, n_hidden: Any, probabilities: Any) -> Any:
        flat = x.ravel()
        n_features = x.shape[1]
        for i in range(x.shape[0]):
            logit = _logit(flat, i * n_features, n_features, scratch, weights, n_hidden)
            if logit != logit:
                return False
            probabilities[i] = logit
        for i in range(x.shape[0]):
            probabilities[i] = _sigmoid(probabilities[i])
        return True

    return entry_point(one), entry_point(many)
