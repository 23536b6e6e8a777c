"""L2, clipping and Adam against float64, for one step and many."""

import numpy as np
import pytest
from kernel_run import KernelRun, Settings
from numba import types
from reference import (
    NAMES,
    WEIGHTS,
    Adam,
    Objective,
    clipped,
    drawn_arrays,
    drawn_tensors,
    gradient,
    params_of,
    regularised,
)

from streamtrain.kernels import epoch as kernel
from streamtrain.kernels.adam import adam, penalised_norm
from streamtrain.kernels.policy import FLOATS, entry
from streamtrain.kernels.simd import LANES

SIZE, N_WEIGHTS = 7 * LANES, 5 * LANES


@pytest.fixture(scope="module")
def step():
    @entry(types.void(FLOATS, FLOATS, FLOATS, FLOATS, *(types.float64,) * 7))
    def run(p, m, v, s, shrink, rate, beta1, beta2, epsilon, power1, power2):
        adam(p, m, v, s, 16, SIZE, shrink, rate, beta1, beta2, epsilon, power1, power2)

    return run


@pytest.fixture(scope="module")
def norm_of():
    @entry(types.float32(FLOATS, FLOATS, types.float64))
    def run(p, s, l2):
        return penalised_norm(p, s, 16, N_WEIGHTS, SIZE, l2)

    return run


def with_gradient(g):
    return np.concatenate([np.zeros(16), g]).astype(np.float32)


CONSTANTS = [(0.9, 0.999, 1e-8), (0.0, 0.99, 1e-3), (0.5, 0.9, 1e-6)]


@pytest.mark.parametrize(("beta1", "beta2", "epsilon"), CONSTANTS)
@pytest.mark.parametrize("n_steps", [1, 2, 500])
def test_steps_equal_float64(step, beta1, beta2, epsilon, n_steps):
    rng = np.random.default_rng(n_steps)
    start = rng.normal(size=SIZE).astype(np.float32)
    p, m, v = start.copy(), np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
    wanted, optimiser = {"p": start.astype(np.float64)}, Adam(beta1, beta2, epsilon)
    spread = 10.0 ** rng.uniform(-4, 2, SIZE)
    for t in range(1, n_steps + 1):
        g = (spread * rng.normal(size=SIZE)).astype(np.float32)
        step(p, m, v, with_gradient(g), 0.5, 1e-3, beta1, beta2, epsilon, beta1**t, beta2**t)
        optimiser.step(wanted, {"p": 0.5 * g.astype(np.float64)}, 1e-3)
    moved = np.linalg.norm(wanted["p"] - start)
    assert np.linalg.norm(p - wanted["p"]) <= 1e-4 * moved
    np.testing.assert_allclose(m, optimiser.m["p"], rtol=1e-4, atol=1e-6 * spread.max())
    np.testing.assert_allclose(v, optimiser.v["p"], rtol=1e-4)


@pytest.mark.needs_peers
@pytest.mark.parametrize(("beta1", "beta2", "epsilon"), CONSTANTS)
def test_steps_equal_pytorch(step, beta1, beta2, epsilon):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    start = rng.normal(size=SIZE).astype(np.float32)
    p, m, v = start.copy(), np.zeros(SIZE, np.float32), np.zeros(SIZE, np.float32)
    theirs = torch.tensor(start.astype(np.float64), requires_grad=True)
    optimiser = torch.optim.Adam([theirs], lr=1e-3, betas=(beta1, beta2), eps=epsilon)
    for t in range(1, 101):
        g = rng.normal(size=SIZE).astype(np.float32)
        step(p, m, v, with_gradient(g), 1.0, 1e-3, beta1, beta2, epsilon, beta1**t, beta2**t)
        theirs.grad = torch.tensor(g.astype(np.float64))
        optimiser.step()
    wanted = theirs.detach().numpy()
    assert np.linalg.norm(p - wanted) <= 1e-4 * np.linalg.norm(wanted - start)


def test_penalty_and_norm(norm_of):
    rng = np.random.default_rng(0)
    p, g = rng.normal(size=SIZE).astype(np.float32), rng.normal(size=SIZE).astype(np.float32)
    s = with_gradient(g)
    squared = norm_of(p, s, 0.3)
    wanted = g.astype(np.float64)
    wanted[:N_WEIGHTS] += 0.3 * p[:N_WEIGHTS]
    np.testing.assert_allclose(s[16:], wanted, rtol=1e-5, atol=1e-6)
    assert (s[16 + N_WEIGHTS :] == g[N_WEIGHTS:]).all(), "biases are not regularised"
    assert squared == pytest.approx((wanted**2).sum(), rel=1e-6)


# One compiled kernel each for one step and through time; shapes shared with the other tests.
SHAPES = [(1, 3, 5, 13), (3, 3, 19, 13)]
OBJECTIVE = Objective(0.8, 1.2)


def problem(shape):
    steps, n_features, hidden, batch = shape
    rng = np.random.default_rng(42)
    return drawn_tensors(rng, n_features, hidden), drawn_arrays(rng, batch, steps, n_features, weighted=True)


def run_of(shape, tensors, **settings):
    return KernelRun(params_of(tensors), shape[0], shape[3], Settings(nu=0.8, zeta=1.2, **settings))


def assert_tensors(made, wanted, tolerance=1e-5):
    for name in NAMES:
        size = np.linalg.norm(wanted[name])
        assert np.linalg.norm(made[name] - wanted[name]) <= tolerance * max(size, 1e-12), name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_l2_is_added_to_weights_and_not_to_biases(shape):
    tensors, arrays = problem(shape)
    run = run_of(shape, tensors, l2=0.1)
    run(arrays)
    wanted = regularised(tensors, gradient(tensors, arrays, OBJECTIVE), 0.1)
    if shape[0] == 1:  # what a single step does not use is not even laid out
        for name in ("w_reset", "w_recurrent", "b_reset"):
            wanted[name] = np.zeros_like(wanted[name])
    assert_tensors(run.first_moment, wanted)
    biases = {name: tensors[name] for name in NAMES if name not in WEIGHTS}
    assert all(np.abs(bias).max() > 0 for bias in biases.values()), "a bias of zero would show nothing"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_is_clipped_by_its_global_norm(shape):
    tensors, arrays = problem(shape)
    plain = gradient(tensors, arrays, OBJECTIVE)
    _, norm = clipped(plain, 0)
    for limit, n_clipped in ((norm / 3, 1), (norm * 1.01, 0), (0.0, 0)):
        run = run_of(shape, tensors, clip=limit)
        run(arrays)
        assert_tensors(run.first_moment, clipped(plain, limit)[0])
        assert run.report[kernel.N_CLIPPED] == n_clipped
        assert run.report[kernel.LARGEST_NORM] == pytest.approx(norm, rel=1e-5), "the norm before clipping"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_l2_counts_towards_the_clipped_norm(shape):
    tensors, arrays = problem(shape)
    if shape[0] == 1:
        for name in ("w_reset", "w_recurrent"):
            tensors[name][:] = 0
    penalised = regularised(tensors, gradient(tensors, arrays, OBJECTIVE), 0.5)
    _, norm = clipped(penalised, 0)
    run = run_of(shape, tensors, l2=0.5, clip=norm / 2)
    run(arrays)
    assert_tensors(run.first_moment, clipped(penalised, norm / 2)[0])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_many_whole_steps_equal_float64(shape):
    """Gradient, L2, clip and Adam together, one batch again and again."""
    tensors, arrays = problem(shape)
    settings = {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-4, "l2": 0.02, "clip": 0.2, "learning_rate": 0.01}
    run = run_of(shape, tensors, **settings)
    active = [name for name in NAMES if shape[0] > 1 or name not in ("w_reset", "w_recurrent", "b_reset")]
    wanted, optimiser = {name: tensor.copy() for name, tensor in tensors.items()}, Adam(0.8, 0.95, 1e-4)
    for _ in range(40):
        assert run(arrays) == 1
        slopes = gradient(wanted, arrays, OBJECTIVE)
        penalised = regularised(wanted, {name: slopes[name] for name in active}, 0.02)
        optimiser.step(wanted, clipped(penalised, 0.2)[0], 0.01)
    for name in active:
        moved = np.linalg.norm(wanted[name] - tensors[name])
        assert np.linalg.norm(run.trained[name] - wanted[name]) <= 1e-3 * moved, name
    assert run.state[kernel.STEP] == 40
    assert run.state[kernel.BETA2_POWER] == pytest.approx(0.95**40)
