"""The approximations against float64, over the whole float32 range."""

import numpy as np
import pytest
from numba import types

from streamtrain.kernels.activations import exp_negative, sigmoid_and_softplus, tanh
from streamtrain.kernels.policy import FLOATS, INPUT, entry
from streamtrain.kernels.simd import LANES, load, store

TANH_BOUND, SIGMOID_BOUND, RELATIVE_BOUND = 4e-7, 5e-7, 1e-6
BOUNDS = {
    "tanh": TANH_BOUND,
    "tanh size": 1.0,
    "sigmoid": SIGMOID_BOUND,
    "sigmoid relative": RELATIVE_BOUND,
    "softplus relative": RELATIVE_BOUND,
    "exp relative": 3e-7,
}
INFINITIES_AND_ZEROS = np.array([np.inf, -np.inf, 0.0, -0.0], np.float32)


@pytest.fixture(scope="module")
def every_tanh():
    @entry(types.void(INPUT, FLOATS))
    def run(x, out):
        for i in range(0, len(x), LANES):
            store(out, i, tanh(load(x, i)))

    return run


@pytest.fixture(scope="module")
def every_sigmoid_and_softplus():
    @entry(types.void(INPUT, FLOATS, FLOATS))
    def run(x, out, second):
        for i in range(0, len(x), LANES):
            sigma, softplus = sigmoid_and_softplus(load(x, i))
            store(out, i, sigma)
            store(second, i, softplus)

    return run


@pytest.fixture(scope="module")
def every_exp():
    @entry(types.void(INPUT, FLOATS))
    def run(x, out):
        for i in range(0, len(x), LANES):
            store(out, i, exp_negative(load(x, i)))

    return run


def neighbours(centres, ulps=4096):
    """Every float within some ulps of each centre, both signs."""
    bits = np.abs(np.asarray(centres, np.float32)).view(np.int32).astype(np.int64)
    near = np.unique(np.clip(bits[:, None] + np.arange(-ulps, ulps + 1), 0, 0x7F7FFFFF)).astype(np.uint32)
    return np.concatenate([near, near | np.uint32(0x80000000)]).view(np.float32)


def blocks():
    """All of float32 in strides (a prime, so that every pattern of low bits occurs), and dense where it bends."""
    stride, chunk = 251, 1 << 20
    for first in range(0, 1 << 32, stride * chunk):
        bits = first + stride * np.arange(chunk, dtype=np.uint64)
        x = bits[bits < 1 << 32].astype(np.uint32).view(np.float32)
        yield x[~np.isnan(x)]
    tiny = np.finfo(np.float32).smallest_normal
    yield neighbours([0.0, tiny, 1e-20, 1e-4, 0.1, np.log(2) / 2, 0.5, 1, 2, 4, 7.9, 8, 9, 17, 86.9, 87, 88, 104, 3e38])
    yield np.linspace(-10, 10, 1 << 20, dtype=np.float32)
    yield np.linspace(-105, 105, 1 << 20, dtype=np.float32)
    yield INFINITIES_AND_ZEROS


def padded(x):
    """Whole vectors: the rest filled with the first number."""
    return np.concatenate([x, np.full(-len(x) % LANES, x[0], np.float32)])


@pytest.fixture(scope="module")
def worst(every_tanh, every_sigmoid_and_softplus, every_exp):
    """Largest errors of each approximation over `blocks`."""
    found = dict.fromkeys(BOUNDS, 0.0)

    def note(name, errors):
        if errors.size:
            found[name] = max(found[name], float(errors.max()))

    for block in blocks():
        x = padded(block)
        with np.errstate(over="ignore", under="ignore"):
            z = x.astype(np.float64)
            small = np.exp(-np.abs(z))
            sigma, softplus = np.where(z < 0, small, 1) / (1 + small), np.maximum(z, 0) + np.log1p(small)
        out, second = np.empty_like(x), np.empty_like(x)
        every_tanh(x, out)
        note("tanh", np.abs(out - np.tanh(z)))
        note("tanh size", np.abs(out.astype(np.float64)))
        every_sigmoid_and_softplus(x, out, second)
        note("sigmoid", np.abs(out - sigma))
        within = np.abs(z) <= 87
        note("sigmoid relative", np.abs(out[within] / sigma[within] - 1))
        exact = within | (z > 0) & np.isfinite(z)
        note("softplus relative", np.abs(second[exact] / softplus[exact] - 1))
        if not np.isfinite(second[z < np.inf]).all():
            found["softplus relative"] = np.inf
        every_exp(-np.abs(x), out)
        note("exp relative", np.abs(out[within] / small[within] - 1))
    return found


@pytest.mark.parametrize(("name", "bound"), BOUNDS.items())
def test_error_is_within_the_stated_bound(worst, name, bound):
    assert 0 < worst[name] <= bound


def test_infinities(every_tanh, every_sigmoid_and_softplus):
    x = padded(INFINITIES_AND_ZEROS)
    out, second = np.empty_like(x), np.empty_like(x)
    every_tanh(x, out)
    np.testing.assert_allclose(out[:4], [1, -1, 0, 0], rtol=0, atol=TANH_BOUND)
    every_sigmoid_and_softplus(x, out, second)
    np.testing.assert_allclose(out[:4], [1, 0, 0.5, 0.5], rtol=0, atol=SIGMOID_BOUND)
    assert second[0] == np.inf
    np.testing.assert_allclose(second[1:4], [0, np.log(2), np.log(2)], rtol=RELATIVE_BOUND, atol=1e-37)


def test_subnormals_keep_their_sign_and_size(every_tanh):
    x = np.arange(1, 17, dtype=np.uint32).view(np.float32)
    out = np.empty_like(x)
    every_tanh(x, out)
    assert (np.abs(out - x) <= np.finfo(np.float32).smallest_normal).all()
    assert (out >= 0).all()


@pytest.mark.parametrize("bits", [0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF])
def test_nan_in_one_lane_gives_nan_there_and_only_there(every_tanh, every_sigmoid_and_softplus, every_exp, bits):
    x = np.linspace(-3, 3, LANES, dtype=np.float32)
    x[5] = np.uint32(bits).view(np.float32)
    out, second, third, fourth = (np.empty_like(x) for _ in range(4))
    every_tanh(x, out)
    every_sigmoid_and_softplus(x, second, third)
    every_exp(x, fourth)
    for result in (out, second, third, fourth):
        assert np.isnan(result).tolist() == [i == 5 for i in range(LANES)]
