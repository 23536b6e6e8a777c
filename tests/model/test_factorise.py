"""Packed weights as low-rank factors."""

import numpy as np
import pytest
from reference import drawn_tensors, params_of

from streamtrain.kernels.factors import Factored
from streamtrain.kernels.layout import Layout
from streamtrain.model.factorise import factorise
from streamtrain.model.params import pack


def drawn(n_features, hidden, steps, seed=0):
    tensors = drawn_tensors(np.random.default_rng(seed), n_features, hidden)
    layout = Layout(n_features, hidden, steps)
    return tensors, layout


def product(trained, at, rows, factored):
    u = trained[at : at + rows * factored.padded_rank].reshape(rows, factored.padded_rank)
    v = trained[at + rows * factored.padded_rank :][: factored.rank * factored.layout.padded]
    return u[:, : factored.rank].astype(np.float64) @ v.reshape(factored.rank, -1).astype(np.float64)


def best(matrix, rank):
    left, singular, right = np.linalg.svd(matrix, full_matrices=False)
    return (left[:, :rank] * singular[:rank]) @ right[:rank]


@pytest.mark.parametrize(("n_features", "hidden", "steps", "rank"), [(17, 19, 3, 4), (17, 19, 1, 4), (6, 33, 2, 5)])
def test_factors_are_the_best_approximation_of_their_rank(n_features, hidden, steps, rank):
    tensors, layout = drawn(n_features, hidden, steps)
    factored = Factored(layout, rank)
    trained = factorise(pack(params_of(tensors), layout), factored)
    for g, gate in enumerate(("update", "candidate", "reset")[: layout.gates]):
        made = product(trained, g * factored.gate, n_features, factored)
        np.testing.assert_allclose(made[:, :hidden], best(tensors[f"w_{gate}"].T, rank), atol=1e-5)
        assert not made[:, hidden:].any()
    if steps > 1:
        made = product(trained, factored.w_recurrent, hidden, factored)
        np.testing.assert_allclose(made[:, :hidden], best(tensors["w_recurrent"].T, rank), atol=1e-5)


def test_matrices_within_the_rank_come_back_exactly():
    """As after an earlier training with factors: a second one begins where it ended."""
    tensors, layout = drawn(17, 19, 3)
    for name in ("w_reset", "w_update", "w_candidate", "w_recurrent"):
        tensors[name] = best(tensors[name], 4)
    factored = Factored(layout, 4)
    trained = factorise(pack(params_of(tensors), layout), factored)
    made = product(trained, factored.gate, 17, factored)
    np.testing.assert_allclose(made[:, :19], tensors["w_candidate"].T, atol=1e-6)


def test_the_rest_is_copied():
    tensors, layout = drawn(3, 19, 3)
    factored = Factored(layout, 5)  # the input matrices are whole, the recurrent one is not
    packed = pack(params_of(tensors), layout)
    trained = factorise(packed, factored)
    end = layout.w_output + layout.padded
    np.testing.assert_array_equal(trained[:end], packed[:end])
    np.testing.assert_array_equal(trained[factored.n_weights :], packed[layout.n_weights :])


def test_without_factors_nothing_changes():
    tensors, layout = drawn(5, 16, 1)
    packed = pack(params_of(tensors), layout)
    for rank in (0, 5, 8):
        np.testing.assert_array_equal(factorise(packed, Factored(layout, rank)), packed)
