"""Low-rank factors inside the training kernel: their product is served, and they are what learns."""

import numpy as np
import pytest
from kernel_run import KernelRun, Settings
from reference import NAMES, Objective, central_differences, drawn_arrays, drawn_tensors, loss, params_of, tensors_of

from streamtrain.types import Params

BATCH, OBJECTIVE = 13, Objective(0.8, 1.3)
# (T, D, H, rank): inputs alone, inputs and recurrence, recurrence alone.
SHAPES = [(1, 17, 19, 4), (3, 17, 19, 4), (3, 3, 19, 5)]
_PANEL_ORDER = ("update", "candidate", "reset")


def problem(shape, **options):
    steps, n_features, hidden, rank = shape
    rng = np.random.default_rng([*shape])
    tensors = drawn_tensors(rng, n_features, hidden)
    arrays = drawn_arrays(rng, BATCH, steps, n_features, weighted=True)
    settings = Settings(nu=OBJECTIVE.nu, zeta=OBJECTIVE.zeta, **options)
    return tensors, arrays, KernelRun(params_of(tensors), steps, BATCH, settings, rank=rank)


def factors_of(vector, run, rank):
    """U (in × k) and V (k × H) of each factored matrix, by the layout's description; in float64."""
    layout, factored = run.layout, run.factored

    def pair(at, n_inputs):
        n_u = n_inputs * factored.padded_rank
        u = vector[at : at + n_u].reshape(n_inputs, factored.padded_rank)
        v = vector[at + n_u : at + n_u + rank * layout.padded].reshape(rank, layout.padded)
        assert not u[:, rank:].any(), "padding of U"
        assert not v[:, layout.hidden :].any(), "padding of V"
        return u[:, :rank].astype(np.float64), v[:, : layout.hidden].astype(np.float64)

    found = {}
    if factored.inputs:
        for g, gate in enumerate(_PANEL_ORDER[: layout.gates]):
            found[f"w_{gate}"] = pair(g * factored.gate, layout.features)
    if factored.recurrent:
        found["w_recurrent"] = pair(factored.w_recurrent, layout.hidden)
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_product_of_the_factors_is_served(shape):
    tensors, arrays, run = problem(shape)
    assert run(arrays) == 1
    factors = factors_of(run.f, run, shape[3])
    assert set(factors) == {
        name for name, used in [
            ("w_update", shape[1] > shape[3]), ("w_candidate", shape[1] > shape[3]),
            ("w_reset", shape[1] > shape[3] and shape[0] > 1), ("w_recurrent", shape[0] > 1),
        ] if used
    }  # fmt: skip
    for name in NAMES:
        wanted = (factors[name][0] @ factors[name][1]).T if name in factors else tensors[name]
        np.testing.assert_allclose(run.served[name], wanted, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_of_the_factors_equals_central_differences(shape):
    tensors, arrays, run = problem(shape)
    run(arrays)
    factors = factors_of(run.f, run, shape[3])
    parts = {(name, side): factors[name][side] for name in factors for side in (0, 1)}
    whole = dict(tensors)

    def value():
        for name in factors:
            whole[name] = (parts[name, 0] @ parts[name, 1]).T
        return loss(whole, arrays, OBJECTIVE)

    wanted = central_differences(value, parts)
    made = factors_of(run.m, run, shape[3])
    for name in factors:
        for side in (0, 1):
            difference = made[name][side] - wanted[name, side]
            assert np.linalg.norm(difference) <= 1e-4 * np.linalg.norm(wanted[name, side]), (name, side)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_rest_learns_as_without_factors(shape):
    """Output weights, biases and whole matrices get the gradient at the served weights."""
    _, arrays, run = problem(shape)
    run(arrays)
    served = {name: tensor.copy() for name, tensor in run.served.items()}
    f = run.factored
    wanted = central_differences(lambda: loss(served, arrays, OBJECTIVE), {k: served[k] for k in ("w_output",)})
    hidden = run.layout.hidden
    made = run.m[f.w_output : f.w_output + hidden]
    np.testing.assert_allclose(made, wanted["w_output"][0], rtol=1e-4, atol=1e-6)
    biases = {k: served[k] for k in ("b_update", "b_candidate", "b_output")}
    wanted = central_differences(lambda: loss(served, arrays, OBJECTIVE), biases)
    tail = run.m[f.n_weights :]
    for at, name in ((0, "b_update"), (run.layout.padded, "b_candidate")):
        np.testing.assert_allclose(tail[at : at + hidden], wanted[name], rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(tail[run.layout.panel], wanted["b_output"][0], rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_training_keeps_the_rank_and_lowers_the_loss(shape):
    tensors, arrays, run = problem(shape, learning_rate=0.01, beta1=0.9)
    run(arrays)
    before = run.loss
    for _ in range(60):
        run(arrays)
    assert run.loss < 0.5 * before
    rank = shape[3]
    for name in factors_of(run.f, run, rank):
        assert np.linalg.matrix_rank(tensors[name]) > rank
        assert np.linalg.matrix_rank(run.served[name], tol=1e-4) == rank, name


@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_masked_weights_are_served_as_zero(shape):
    steps, n_features, hidden, rank = shape
    tensors = drawn_tensors(np.random.default_rng(1), n_features, hidden)
    masked = {name: np.ones_like(tensor) for name, tensor in tensors.items()}
    for name in ("w_update", "w_candidate", "w_reset", "w_recurrent", "w_output"):
        masked[name].ravel()[::3] = 0.0
    mask = Params(**{name: tensor.astype(np.float32) for name, tensor in masked.items()})
    settings = Settings(learning_rate=0.01, beta1=0.9)
    run = KernelRun(params_of(tensors), steps, BATCH, settings, rank=rank, mask=mask)
    arrays = drawn_arrays(np.random.default_rng(2), BATCH, steps, n_features)
    for _ in range(5):
        assert run(arrays) == 1
    moved = tensors_of(params_of(run.served))
    for name, ones in masked.items():
        assert not moved[name][ones == 0].any(), name
        assert moved[name][ones == 1].all(), name
