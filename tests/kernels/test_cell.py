"""Gradients and logits of the cell, for one step and through time.

How a gradient is held against another: per tensor, the Euclidean norm of the difference relative to the norm of the
reference's; and no single number is off by more than the same share of the tensor's largest.
"""

import numpy as np
import pytest
from kernel_run import KernelRun, Settings
from reference import (
    INERT_WITH_ONE_STEP,
    NAMES,
    Objective,
    central_differences,
    drawn_arrays,
    drawn_tensors,
    logits,
    loss,
    params_of,
)

from streamtrain.train.fit import logits as kernel_logits
from streamtrain.types import FastGRNNConfig

BATCH = 13
# (T, D, H, distilled): a kernel each.
SHAPES = [
    (1, 3, 5, False),
    (1, 17, 33, False),
    (1, 3, 5, True),
    (3, 3, 19, False),
    (3, 17, 33, False),
    (3, 3, 19, True),
    (16, 17, 19, False),
]
# What a compiled kernel takes at run time: constants of the cell, samples in the batch, weights and padding.
VARIANTS = {
    "plain": (Objective(), BATCH, {}),
    "scaled, weighted, padded, not full": (Objective(0.7, 1.4), 11, {"weighted": True, "padded": True}),
    "one sample": (Objective(1.3, 0.6), 1, {}),
}


def drawn(shape, variant):
    steps, n_features, hidden, distilled = shape
    objective, n, options = VARIANTS[variant]
    if distilled:
        objective = Objective(objective.nu, objective.zeta, 0.7, 3.0)
    rng = np.random.default_rng([steps, n_features, hidden, n])
    tensors = drawn_tensors(rng, n_features, hidden)
    return tensors, drawn_arrays(rng, n, steps, n_features, taught=distilled, **options), objective


def kernel_gradient(shape, tensors, arrays, objective):
    """One batch with β₁ = 0 and learning rate 0: the first moment is the gradient."""
    steps, _, _, distilled = shape
    settings = Settings(nu=objective.nu, zeta=objective.zeta, alpha=objective.alpha, temperature=objective.temperature)
    run = KernelRun(params_of(tensors), steps, BATCH, settings, distilled=distilled)
    assert run(arrays) == 1
    for name in NAMES:
        np.testing.assert_array_equal(run.trained[name], tensors[name], err_msg=f"{name} moved at learning rate 0")
    return run.first_moment, run.loss


def assert_close(made, wanted, tolerance):
    for name in NAMES:
        difference = made[name] - wanted[name]
        if name == "b_output":
            # A mean of terms up to 1 that may cancel: nearer than their rounding to float32 is chance.
            assert abs(difference[0]) <= max(tolerance * abs(wanted[name][0]), 2.0**-24), name
            continue
        assert np.linalg.norm(difference) <= tolerance * np.linalg.norm(wanted[name]), name
        assert np.abs(difference).max() <= tolerance * np.abs(wanted[name]).max(), name


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_equals_central_differences(shape, variant):
    tensors, arrays, objective = drawn(shape, variant)
    made, mean = kernel_gradient(shape, tensors, arrays, objective)
    wanted = central_differences(lambda: loss(tensors, arrays, objective), tensors)
    if shape[0] == 1:
        for name in INERT_WITH_ONE_STEP:
            assert not wanted[name].any()
    assert_close(made, wanted, 1e-4)
    assert mean == pytest.approx(loss(tensors, arrays, objective), rel=1e-6)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def torch_gradient(torch, tensors, arrays, objective):
    """Autograd in float64, of a loss built from PyTorch's own."""
    p = {name: torch.tensor(tensor, requires_grad=True) for name, tensor in tensors.items()}
    x, y, w = (torch.tensor(a.astype(np.float64)) for a in (arrays.features, arrays.labels, arrays.weights))
    h = torch.zeros(len(x), len(p["b_update"]), dtype=torch.float64)
    columns = []
    for t in range(x.shape[1]):
        step = x[:, t]
        r = torch.sigmoid(objective.nu * torch.nn.functional.linear(step, p["w_reset"], p["b_reset"]))
        u = torch.sigmoid(objective.nu * torch.nn.functional.linear(step, p["w_update"], p["b_update"]))
        recurrent = torch.nn.functional.linear(r * h, p["w_recurrent"])
        mixed = torch.nn.functional.linear(step, p["w_candidate"], p["b_candidate"]) + recurrent
        h = u * h + (1 - u) * torch.tanh(objective.zeta * mixed)
        columns.append(torch.nn.functional.linear(h, p["w_output"], p["b_output"])[:, 0])
    z = torch.stack(columns, dim=1)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    per_step = entropy(z, y, reduction="none")
    if arrays.teachers is not None:
        q = torch.tensor(arrays.teachers.astype(np.float64))
        taught = ~torch.isnan(q)
        target = torch.sigmoid(torch.nan_to_num(q) / objective.temperature)
        soft = entropy(z / objective.temperature, target, reduction="none")
        per_step = torch.where(taught, objective.alpha * soft + (1 - objective.alpha) * per_step, per_step)
    ((w * per_step).sum() / w.sum()).backward()
    return {name: np.zeros(t.shape) if t.grad is None else t.grad.numpy() for name, t in p.items()}


@pytest.mark.needs_peers
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_equals_autograd(torch, shape, variant):
    tensors, arrays, objective = drawn(shape, variant)
    made, _ = kernel_gradient(shape, tensors, arrays, objective)
    assert_close(made, torch_gradient(torch, tensors, arrays, objective), 1e-5)


@pytest.mark.parametrize("n", [1, 7, 8, 63, 64, 65, 130])
@pytest.mark.parametrize("shape", [(1, 17, 33, False), (3, 3, 19, False)], ids=str)
def test_scored_logits_equal_the_reference(shape, n):
    """Whole and partial evaluation batches; every sample at its place."""
    steps, n_features, hidden, _ = shape
    rng = np.random.default_rng(n)
    tensors, objective = drawn_tensors(rng, n_features, hidden), Objective(0.7, 1.4)
    x = rng.normal(size=(n, steps, n_features)).astype(np.float32)
    config = FastGRNNConfig(n_features, hidden, nu=objective.nu, zeta=objective.zeta)
    made = kernel_logits(params_of(tensors), config, x)
    np.testing.assert_allclose(made, logits(tensors, x.astype(np.float64), objective), rtol=0, atol=1e-5)
