"""Magnitude pruning."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import NAMES, WEIGHTS, drawn_tensors, params_of

from streamtrain.model.params import initialise
from streamtrain.model.prune import is_pruned, prune, sparsity
from streamtrain.types import FastGRNNConfig

N_WEIGHTS = 3 * 16 * 5 + 16 * 16 + 16


def drawn(seed=0):
    return params_of(drawn_tensors(np.random.default_rng(seed), 5, 16))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.9])
def test_the_smallest_weights_of_each_matrix_become_zero(share):
    before = drawn()
    after = prune(before, share)
    for name in WEIGHTS:
        was, now = getattr(before, name).ravel(), getattr(after, name).ravel()
        n_zero = int(share * was.size)
        assert set(np.flatnonzero(now == 0)) == set(np.argsort(np.abs(was))[:n_zero])
        np.testing.assert_array_equal(now[now != 0], was[now != 0])
    for name in set(NAMES) - set(WEIGHTS):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    assert sparsity(after) == pytest.approx(share, abs=len(WEIGHTS) / N_WEIGHTS)


@given(share=st.floats(0, 0.999), seed=st.integers(0, 50))
def test_what_is_pruned_counts_as_pruned(share, seed):
    """For every share, whole number of weights or not: else a later training would not know its mask."""
    config = FastGRNNConfig(3, 5)
    assert is_pruned(prune(initialise(config, seed), share), share)


def test_what_is_not_pruned_does_not_count_as_pruned():
    fresh = drawn()
    assert not is_pruned(fresh, 0.3)
    assert not is_pruned(prune(fresh, 0.3), 0.31)
    assert is_pruned(prune(fresh, 0.3), 0.2)


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match="sparsity"):
        prune(drawn(), share)
