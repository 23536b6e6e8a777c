"""Offsets: what is laid out side by side does not overlap, and is whole vectors."""

import itertools

import pytest

from streamtrain.kernels.epoch import EVALUATION_BATCH, training_scratch
from streamtrain.kernels.factors import Factored
from streamtrain.kernels.layout import Layout, Scratch, round_up
from streamtrain.kernels.simd import LANES

SIZES = list(itertools.product([1, 5, 16, 17, 384], [1, 5, 16, 33], [1, 2, 16]))


def assert_consecutive(areas, end):
    """Areas (start, length) in this order, without overlap, up to `end`."""
    for (start, length), (following, _) in itertools.pairwise([*areas, (end, 0)]):
        assert length >= 0
        assert start + length <= following


@pytest.mark.parametrize(("n_features", "hidden", "steps"), SIZES)
def test_parameters_do_not_overlap(n_features, hidden, steps):
    layout = Layout(n_features, hidden, steps)
    recurrent = hidden * layout.padded if steps > 1 else 0
    areas = [
        (0, n_features * layout.panel),
        (layout.w_output, layout.padded),
        (layout.w_recurrent, recurrent),
        (layout.bias, layout.panel),
        (layout.b_output, LANES),
    ]
    assert_consecutive(areas, layout.size)
    assert layout.padded >= hidden
    assert all(start % LANES == 0 for start, _ in areas)
    assert layout.n_weights == layout.bias
    assert layout.gates == (2 if steps == 1 else 3)


@pytest.mark.parametrize("batch", [1, 13, 32, EVALUATION_BATCH])
@pytest.mark.parametrize(("n_features", "hidden", "steps"), SIZES)
def test_scratch_does_not_overlap(n_features, hidden, steps, batch):
    layout = Layout(n_features, hidden, steps)
    scratch = Scratch(layout, batch)
    rows, vector = round_up(batch, 8) * steps, round_up(round_up(batch, 8) * steps, LANES)
    through_time = 0 if steps == 1 else 1
    state = through_time * round_up(batch, 8) * layout.padded
    areas = [
        (scratch.x, rows * n_features),
        (scratch.gates, rows * layout.panel),
        (scratch.h, through_time * rows * layout.padded),
        (scratch.reset_h, through_time * rows * layout.padded),
        (scratch.carry, state),
        (scratch.d_reset_h, state),
        (scratch.w_recurrent, through_time * hidden * layout.padded),
        (scratch.z, vector),
        (scratch.dz, vector),
        (scratch.y, vector),
        (scratch.w, vector),
        (scratch.q, vector),
        (scratch.zeros, layout.panel),
        (scratch.gradient, layout.size),
    ]
    assert_consecutive(areas, scratch.size)


@pytest.mark.parametrize(
    ("n_features", "hidden", "steps", "rank", "inputs", "recurrent"),
    [
        (17, 19, 3, 4, True, True),
        (17, 19, 1, 4, True, False),
        (3, 19, 3, 5, False, True),
        (384, 16, 2, 15, True, True),
        (5, 16, 1, 8, False, False),
        (17, 19, 3, 19, False, False),
        (17, 19, 3, 17, False, True),
        (17, 19, 3, 0, False, False),
    ],
)
def test_factors_do_not_overlap(n_features, hidden, steps, rank, inputs, recurrent):
    """Only a matrix whose smaller side is above the rank is factors."""
    layout = Layout(n_features, hidden, steps)
    factored = Factored(layout, rank)
    assert (factored.inputs, factored.recurrent) == (inputs, recurrent)
    assert factored.any == (inputs or recurrent)
    if not factored.any:
        assert factored.size == layout.size
    gate = n_features * factored.padded_rank + rank * layout.padded
    both = hidden * factored.padded_rank + rank * layout.padded
    areas = [(g * gate, gate) for g in range(layout.gates)] if inputs else [(0, layout.w_output)]
    areas.append((factored.w_output, layout.padded))
    areas.append((factored.w_recurrent, both if recurrent else layout.n_weights - layout.w_recurrent))
    areas.append((factored.n_weights, layout.size - layout.n_weights))
    assert_consecutive(areas, factored.size)
    scratch = training_scratch(layout, 13, rank)
    whole = (scratch.gradient, layout.size)
    extra = [(scratch.turned, hidden * factored.padded_rank), (scratch.factor_gradient, factored.size)]
    assert_consecutive([whole, *(extra if factored.any else [])], scratch.size)
