"""Parameters made and packed."""

import numpy as np
import pytest
from reference import INERT_WITH_ONE_STEP, NAMES, drawn_tensors, params_of

from streamtrain.kernels.layout import Layout
from streamtrain.model.params import aligned, as_dict, initialise, pack, shapes, unpack
from streamtrain.types import FastGRNNConfig

SHAPES = [(5, 16, 1), (5, 16, 2), (3, 5, 1), (17, 33, 3), (1, 1, 1), (1, 1, 4)]


def drawn(n_features, hidden, seed=0):
    return params_of(drawn_tensors(np.random.default_rng(seed), n_features, hidden))


@pytest.mark.parametrize(("n_features", "hidden", "steps"), SHAPES)
def test_unpacking_gives_back_what_was_packed(n_features, hidden, steps):
    params, other = drawn(n_features, hidden), drawn(n_features, hidden, seed=1)
    layout = Layout(n_features, hidden, steps)
    back = unpack(pack(params, layout), layout, other)
    for name in NAMES:
        # What a single step leaves out comes from the rest.
        source = other if steps == 1 and name in INERT_WITH_ONE_STEP else params
        np.testing.assert_array_equal(getattr(back, name), getattr(source, name), err_msg=name)
        assert getattr(back, name).dtype == np.float32
        assert getattr(back, name).flags.c_contiguous
        assert not np.shares_memory(getattr(back, name), getattr(other, name))


@pytest.mark.parametrize(("n_features", "hidden", "steps"), SHAPES)
def test_packing_puts_every_number_in_a_place_of_its_own_and_zeros_elsewhere(n_features, hidden, steps):
    config, layout = FastGRNNConfig(n_features, hidden), Layout(n_features, hidden, steps)
    used = [name for name in NAMES if steps > 1 or name not in INERT_WITH_ONE_STEP]
    numbers, tensors = 1, {}
    for name, shape in shapes(config).items():
        size = int(np.prod(shape))
        tensors[name] = np.arange(numbers, numbers + size, dtype=np.float64).reshape(shape)
        numbers += size
    packed = pack(params_of(tensors), layout)
    assert packed.shape == (layout.size,)
    assert packed.dtype == np.float32
    expected = np.concatenate([tensors[name].ravel() for name in used])
    np.testing.assert_array_equal(np.sort(packed[packed != 0]), np.sort(expected))
    # Hidden units lie across the lanes, inputs down the rows.
    assert packed[0] == tensors["w_update"][0, 0]
    if hidden > 1:
        assert packed[1] == tensors["w_update"][1, 0]
    assert packed[layout.padded] == tensors["w_candidate"][0, 0]


def test_alignment():
    for n in (1, 16, 1000, 4097):
        made = aligned(n)
        assert made.shape == (n,)
        assert made.ctypes.data % 64 == 0
        assert not made.any()
        assert made.flags.c_contiguous


def test_fresh_parameters():
    """Glorot-uniform: within √(6 / (fan-in + fan-out)), filling it, with mean 0; biases 0."""
    config = FastGRNNConfig(40, 64)
    made = as_dict(initialise(config, 3))
    assert tuple(made) == tuple(shapes(config))
    for name, shape in shapes(config).items():
        assert made[name].shape == shape
        assert made[name].dtype == np.float32
        if len(shape) == 1:
            assert not made[name].any()
            continue
        limit = np.sqrt(6 / sum(shape))
        assert np.abs(made[name]).max() <= limit
        assert np.abs(made[name]).max() > 0.9 * limit
        assert abs(made[name].mean()) < 4 * limit / np.sqrt(3 * made[name].size)


def test_seeds():
    config = FastGRNNConfig()
    first, again, other = (as_dict(initialise(config, seed)) for seed in (1, 1, 2))
    for name in ("w_reset", "w_update", "w_candidate", "w_recurrent", "w_output"):
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).all()
