"""The vector type and its matrix micro-kernel against NumPy."""

import numpy as np
import pytest
from numba import types

from streamtrain.kernels.policy import FLOATS, INPUT, entry
from streamtrain.kernels.simd import (
    LANES,
    ROW_BLOCK,
    ceil,
    eleven_bits_up,
    fabs,
    load,
    matmul,
    muladd,
    power_of_two,
    rint,
    splat,
    sqrt,
    store,
    total,
    where_greater,
)

f32 = np.float32


@pytest.fixture(scope="module")
def lanewise():
    @entry(types.void(INPUT, INPUT, INPUT, FLOATS))
    def run(a, b, c, out):
        x, y, z = load(a, 0), load(b, 0), load(c, 0)
        store(out, 0, x + y)
        store(out, 16, x - y)
        store(out, 32, x * y)
        store(out, 48, x / y)
        store(out, 64, muladd(x, y, z))
        store(out, 80, where_greater(x, y, z, x))
        store(out, 96, sqrt(fabs(x)))
        store(out, 112, fabs(x))
        store(out, 128, rint(x))
        store(out, 144, power_of_two(rint(x)))
        store(out, 160, splat(f32(2.5)))
        out[176] = total(x)

    return run


def test_lanewise_operations_equal_numpy(lanewise):
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(scale=20, size=LANES).astype(f32) for _ in range(3))
    a[:4] = [0.5, 1.5, -0.5, -2.5]  # ties go to even
    out = np.zeros(177, f32)
    lanewise(a, b, c, out)
    wanted = [
        a + b, a - b, a * b, a / b, a * b + c, np.where(a > b, c, a), np.sqrt(np.abs(a)), np.abs(a), np.rint(a),
        np.exp2(np.rint(a)), np.full(LANES, 2.5, f32),
    ]  # fmt: skip
    for row, expected in zip(out[:176].reshape(11, LANES), wanted, strict=True):
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-5)
    assert out[176] == pytest.approx(a.sum(dtype=np.float64), rel=1e-5, abs=1e-4)


@pytest.fixture(scope="module")
def half_up():
    @entry(types.void(INPUT, FLOATS, FLOATS))
    def run(a, up, whole):
        for i in range(0, len(a), LANES):
            store(up, i, eleven_bits_up(load(a, i)))
            store(whole, i, ceil(load(a, i)))

    return run


def test_rounding_up_to_float16(half_up):
    rng = np.random.default_rng(0)
    a = (2.0 ** rng.uniform(-14, 15.9, 4096)).astype(f32)
    a[:1024] = a[:1024].astype(np.float16)  # these are there already
    a[1024:1040] = 2.0 ** np.arange(-14, 2)
    up, whole = np.empty_like(a), np.empty_like(a)
    half_up(a, up, whole)
    half = a.astype(np.float16)
    wanted = np.where(half.astype(f32) < a, np.nextafter(half, np.float16(np.inf)), half)
    np.testing.assert_array_equal(up, wanted.astype(f32))
    np.testing.assert_array_equal(whole, np.ceil(a))


def test_a_comparison_with_nan_is_false(lanewise):
    a, c, out = np.full(LANES, np.nan, f32), np.ones(LANES, f32), np.zeros(177, f32)
    b = np.zeros(LANES, f32)
    lanewise(a, b, c, out)
    assert np.isnan(out[80:96]).all()  # "a if not greater": a is NaN
    assert np.isnan(out[176])


_WHOLE = types.int64
_OPERANDS = (FLOATS, _WHOLE, _WHOLE, INPUT, _WHOLE, _WHOLE, _WHOLE, INPUT, _WHOLE, _WHOLE)
_REST = (_WHOLE, types.boolean, INPUT, _WHOLE)


def constant_rows(rows, columns):
    """`matmul` with a compile-time number of rows."""

    @entry(types.void(*_OPERANDS, *_REST))
    def run(out, out_at, out_row, a, a_at, a_row, a_step, b, b_at, b_step, depth, keep, bias, bias_at):
        matmul(out, out_at, out_row, a, a_at, a_row, a_step, b, b_at, b_step, rows, columns, depth, keep, bias, bias_at)

    return run


def running_rows(columns):
    """`matmul` with a number of rows known only when it runs."""

    @entry(types.void(*_OPERANDS, _WHOLE, *_REST))
    def run(out, out_at, out_row, a, a_at, a_row, a_step, b, b_at, b_step, rows, depth, keep, bias, bias_at):
        matmul(out, out_at, out_row, a, a_at, a_row, a_step, b, b_at, b_step, rows, columns, depth, keep, bias, bias_at)

    return run


def case(rng, rows, width, depth, turned):
    """Operands with gaps between rows and junk around them; what `out` should be."""
    out_at, out_row, a_at, b_at, b_step, bias_at = 3, width + 5, 2, 7, width + 2, 1
    a = rng.normal(size=a_at + (rows + 1) * (depth + 3)).astype(f32)
    a_row, a_step = (1, rows + 1) if turned else (depth + 3, 1)
    b = rng.normal(size=b_at + (depth + 1) * b_step + width).astype(f32)
    bias = rng.normal(size=bias_at + width).astype(f32)
    out = rng.normal(size=out_at + rows * out_row + 4).astype(f32)
    r, k, c = np.arange(rows)[:, None], np.arange(depth), np.arange(width)
    left = a.astype(np.float64)[a_at + r * a_row + k * a_step]
    right = b.astype(np.float64)[b_at + k[:, None] * b_step + c]
    places = out_at + r * out_row + c
    expected = {}
    for keep in (False, True):
        full = out.astype(np.float64)
        full[places] = left @ right + (full[places] if keep else bias[bias_at:])
        expected[keep] = full
    arguments = (out_at, out_row, a, a_at, a_row, a_step, b, b_at, b_step)
    return out, arguments, bias, bias_at, expected


def check(kernel, rng, rows, columns, given_rows):
    for depth in (0, 1, 2, 5, 33):
        for turned in (False, True):
            out, arguments, bias, bias_at, expected = case(rng, rows, columns * LANES, depth, turned)
            for keep in (False, True):
                made = out.copy()
                kernel(made, *arguments, *given_rows, depth, keep, bias, bias_at)
                np.testing.assert_allclose(made, expected[keep], rtol=0, atol=1e-5)


# Widths around the widest tile (6 vectors), and every remainder of rows at the tiles' heights.
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (3, 2), (5, 1), (7, 6), (9, 2), (9, 7), (8, 4), (4, 13)])
def test_product_with_constant_rows(rows, columns):
    check(constant_rows(rows, columns), np.random.default_rng(rows), rows, columns, ())


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5, 6, 7])
def test_product_with_running_rows(columns):
    kernel = running_rows(columns)
    for rows in (0, ROW_BLOCK, 2 * ROW_BLOCK, 5 * ROW_BLOCK):
        check(kernel, np.random.default_rng(rows), rows, columns, (rows,))


def test_nan_and_infinity_go_through():
    a, b, bias = np.ones(8, f32), np.ones(8 * LANES, f32), np.zeros(LANES, f32)
    b[0], b[LANES + 1] = np.nan, np.inf
    out = np.zeros(LANES, f32)
    constant_rows(1, 1)(out, 0, LANES, a, 0, 8, 1, b, 0, LANES, 8, False, bias, 0)
    assert np.isnan(out[0])
    assert out[1] == np.inf
    assert (out[2:] == 8).all()
