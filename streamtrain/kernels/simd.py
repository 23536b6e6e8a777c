"""Sixteen float32 lanes as a Numba value, and the one matrix micro-kernel that everything is built on.

Numba's auto-vectoriser gives up on short loops over hidden units (they are unrolled before it sees them). Here the
vector is explicit: a kernel that reads `store(out, i, tanh(load(a, i)))` is sixteen lanes wide on every compiler.
LLVM splits the type on machines with narrower registers, so the result does not depend on the CPU's vector width,
only on whether it has a fused multiply-add.

All offsets are in elements. Nothing here checks bounds: callers own the layout (see `streamtrain.kernels.layout`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

LANES = 16

_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
_INDEX = ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_INTS = ir.VectorType(_INT, LANES)
# Reassociation, contraction to FMA, reciprocals and the sign of zero may change; NaN and Inf may not be assumed away,
# because a diverged run must be noticed.
_FLAGS = ("reassoc", "contract", "arcp", "nsz")


def _instruction(function: Callable[..., Any]) -> Any:
    """Make `function(typingctx, …)` callable from kernels (as Any: the type checker sees only the Python side)."""
    return intrinsic(function)


def _shaped_instruction(function: Callable[..., Any]) -> Any:
    """As `_instruction`; integers known at compile time reach it as such."""
    return intrinsic(prefer_literal=True)(function)


class Vector(types.Type):
    """The Numba type of sixteen float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


VECTOR = Vector()


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _VECTOR)  # type: ignore[no-untyped-call]  # Numba has no types here


def _binary(op: Callable[..., Any], emit: Callable[..., Any]) -> None:
    def typer(context: Any) -> Any:
        def typed(a: Any, b: Any) -> Any:
            return VECTOR if isinstance(a, Vector) and isinstance(b, Vector) else None

        return typed

    type_callable(op)(typer)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, args[0], args[1])

    lower_builtin(op, Vector, Vector)(lower)


_binary(operator.add, lambda b, x, y: b.fadd(x, y, flags=_FLAGS))
_binary(operator.sub, lambda b, x, y: b.fsub(x, y, flags=_FLAGS))
_binary(operator.mul, lambda b, x, y: b.fmul(x, y, flags=_FLAGS))
_binary(operator.truediv, lambda b, x, y: b.fdiv(x, y, flags=_FLAGS))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _load(builder: Any, pointer: Any) -> Any:
    return builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def _store(builder: Any, value: Any, pointer: Any) -> None:
    builder.store(value, builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)


def _splat(builder: Any, scalar: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, _INT(0))
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(_INTS, [0] * LANES))


def _call(builder: Any, name: str, result: Any, args: list[Any]) -> Any:
    kinds = [a.type for a in args]
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, kinds), name)
    return builder.call(function, args, fastmath=_FLAGS)


def _muladd(builder: Any, a: Any, b: Any, c: Any) -> Any:
    # fmuladd fuses only where the CPU can: without FMA units, llvm.fma would be sixteen library calls.
    return _call(builder, f"llvm.fmuladd.v{LANES}f32", _VECTOR, [a, b, c])


@_instruction
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """Sixteen floats of a 1-D float32 array from element `index` on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _load(builder, _pointer(context, builder, sig.args[0], args[0], args[1]))

    return VECTOR(array, types.intp), codegen


@_instruction
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write sixteen floats into a 1-D float32 array from element `index` on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _store(builder, args[2], _pointer(context, builder, sig.args[0], args[0], args[1]))
        return context.get_dummy_value()

    return types.void(array, types.intp, VECTOR), codegen


@_instruction
def splat(typingctx: Any, scalar: Any) -> Any:
    """One number in all sixteen lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _splat(builder, args[0])

    return VECTOR(types.float32), codegen


@_instruction
def muladd(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """Multiply and add, ``a · b + c``, fused where the CPU can."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _muladd(builder, *args)

    return VECTOR(VECTOR, VECTOR, VECTOR), codegen


@_instruction
def where_greater(typingctx: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """Lane by lane ``x if a > b else y``; a NaN in `a` or `b` gives `y`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return VECTOR(VECTOR, VECTOR, VECTOR, VECTOR), codegen


def _unary(name: str) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, f"llvm.{name}.v{LANES}f32", _VECTOR, list(args))

    return codegen


@_instruction
def sqrt(typingctx: Any, a: Any) -> Any:
    """Square root, lane by lane."""
    return VECTOR(VECTOR), _unary("sqrt")


@_instruction
def fabs(typingctx: Any, a: Any) -> Any:
    """Absolute value, lane by lane."""
    return VECTOR(VECTOR), _unary("fabs")


@_instruction
def rint(typingctx: Any, a: Any) -> Any:
    """Nearest whole number (ties to even), lane by lane."""
    return VECTOR(VECTOR), _unary("rint")


@_instruction
def ceil(typingctx: Any, a: Any) -> Any:
    """Smallest whole number that is not below, lane by lane."""
    return VECTOR(VECTOR), _unary("ceil")


@_instruction
def eleven_bits_up(typingctx: Any, a: Any) -> Any:
    """Smallest number of eleven significant bits, as float16 has, that is not below a positive `a`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        cut = (1 << 13) - 1
        bits = builder.add(builder.bitcast(args[0], _INTS), ir.Constant(_INTS, [cut] * LANES))
        return builder.bitcast(builder.and_(bits, ir.Constant(_INTS, [~cut] * LANES)), _VECTOR)

    return VECTOR(VECTOR), codegen


@_instruction
def power_of_two(typingctx: Any, exponent: Any) -> Any:
    """``2**exponent`` for whole exponents in -126..127, by writing the exponent bits."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        whole = builder.fptosi(args[0], _INTS)
        biased = builder.add(whole, ir.Constant(_INTS, [127] * LANES))
        return builder.bitcast(builder.shl(biased, ir.Constant(_INTS, [23] * LANES)), _VECTOR)

    return VECTOR(VECTOR), codegen


@_instruction
def total(typingctx: Any, a: Any) -> Any:
    """Sum of the sixteen lanes, as a tree."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, f"llvm.vector.reduce.fadd.v{LANES}f32", _FLOAT, [_FLOAT(0.0), args[0]])

    return types.float32(VECTOR), codegen


@_instruction
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of element `index`; the address is never read, so it may lie outside the array."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.bitcast(_pointer(context, builder, sig.args[0], args[0], args[1]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, _INT, _INT, _INT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, _INT(0), _INT(2), _INT(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


def _tile(builder: Any, rows: int, columns: int, row: Any, depth: Any, keep: Any, at: Any, start: Any) -> None:
    """Emit one block of `rows` × `columns` vectors, all of it held in registers.

    `at(r)` gives the output's pointer of row r, `start(c)` the bias vector's, `row` the operands at depth k.
    """
    cells = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(columns)] for _ in range(rows)]
    with builder.if_else(keep) as (then, otherwise):
        with then:
            for r in range(rows):
                for c in range(columns):
                    builder.store(_load(builder, at(r, c)), cells[r][c])
        with otherwise:
            for c in range(columns):
                first = _load(builder, start(c))
                for r in range(rows):
                    builder.store(first, cells[r][c])
    with cgutils.for_range(builder, depth) as loop:
        scalars, wide = row(loop.index, rows, columns)
        for r in range(rows):
            for c in range(columns):
                builder.store(_muladd(builder, scalars[r], wide[c], builder.load(cells[r][c])), cells[r][c])
    for r in range(rows):
        for c in range(columns):
            _store(builder, builder.load(cells[r][c]), at(r, c))


ROW_BLOCK = 8


def _tile_limits(context: Any) -> tuple[int, int]:
    """Accumulators of a tile, and of them in one row, that fit the registers beside their operands.

    A lane vector is one register of AVX-512's 32, two of AVX2's 16, four of NEON's 32. One tile too large lives in
    memory, at a third of the speed.
    """
    _, _, features = context.codegen().magic_tuple()
    return (24, 4) if "+avx512f" in features else (6, 1)


@_shaped_instruction
def matmul(
    typingctx: Any,
    out: Any,
    out_at: Any,
    out_row: Any,
    a: Any,
    a_at: Any,
    a_row: Any,
    a_step: Any,
    b: Any,
    b_at: Any,
    b_step: Any,
    rows: Any,
    columns: Any,
    depth: Any,
    keep: Any,
    bias: Any,
    bias_at: Any,
) -> Any:
    """``out[r, :] = (out[r, :] if keep else bias) + Σ_k a[r, k] · b[k, :]`` over flat float32 arrays.

    Parameters
    ----------
    out, a, b, bias : float32, 1-D
        Element (r, c) of `out` is ``out[out_at + r·out_row + c]``; (r, k) of `a` is ``a[a_at + r·a_row + k·a_step]``;
        (k, c) of `b` is ``b[b_at + k·b_step + c]``; `bias` starts at `bias_at`.
    rows : int
        A compile-time constant, or at run time a multiple of `ROW_BLOCK`.
    columns : int
        Of vectors; a compile-time constant.
    depth : int
        Length of the sum.
    keep : bool
        Add to what `out` holds, or start from `bias`.
    """
    if not isinstance(columns, types.IntegerLiteral):
        return None
    n_columns = columns.literal_value
    n_rows = rows.literal_value if isinstance(rows, types.IntegerLiteral) else None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (_, out_at, out_row, _, a_at, a_row, a_step, _, b_at, b_step, rows, _, depth, keep, _, bias_at) = args

        def base(position: int) -> Any:
            return context.make_array(sig.args[position])(context, builder, args[position]).data

        out, a, b, bias = base(0), base(3), base(7), base(14)

        def offset(index: Any, by: int) -> Any:
            return builder.add(index, _INDEX(by))

        def block(first_row: Any, n: int, first_column: int, width: int) -> None:
            out_first = offset(builder.add(out_at, builder.mul(first_row, out_row)), first_column * LANES)
            a_first = builder.add(a_at, builder.mul(first_row, a_row))

            def at(r: int, c: int) -> Any:
                return builder.gep(out, [offset(builder.add(out_first, builder.mul(out_row, _INDEX(r))), c * LANES)])

            def start(c: int) -> Any:
                return builder.gep(bias, [offset(bias_at, (first_column + c) * LANES)])

            def operands(k: Any, height: int, breadth: int) -> Any:
                a_k = builder.add(a_first, builder.mul(k, a_step))
                b_k = offset(builder.add(b_at, builder.mul(k, b_step)), first_column * LANES)
                scalars = [
                    _splat(builder, builder.load(builder.gep(a, [builder.add(a_k, builder.mul(a_row, _INDEX(r)))])))
                    for r in range(height)
                ]
                return scalars, [_load(builder, builder.gep(b, [offset(b_k, c * LANES)])) for c in range(breadth)]

            _tile(builder, n, width, operands, depth, keep, at, start)

        accumulators, widest = _tile_limits(context)
        for first_column in range(0, n_columns, widest):
            width = min(widest, n_columns - first_column)
            height = accumulators // width
            if n_rows is None:
                height = min(1 << height.bit_length() - 1, ROW_BLOCK)
            left = 0 if n_rows is None else n_rows % height
            blocks = builder.udiv(builder.sub(rows, _INDEX(left)), _INDEX(height))
            with cgutils.for_range(builder, blocks) as loop:
                block(builder.mul(loop.index, _INDEX(height)), height, first_column, width)
            if left:
                block(builder.sub(rows, _INDEX(left)), left, first_column, width)
        return context.get_dummy_value()

    whole = types.intp
    # Numba keeps one body per signature: a constant that shapes the body has to be part of it.
    signature = types.void(
        *(out, whole, whole),
        *(a, whole, whole, whole),
        *(b, whole, whole),
        *(whole if n_rows is None else rows, columns, whole, types.boolean, bias, whole),
    )
    return signature, codegen
