"""Weights rounded to INT8 in the forward pass, as they are when served."""

import numpy as np
import pytest
from kernel_run import KernelRun, Settings
from reference import (
    INERT_WITH_ONE_STEP,
    NAMES,
    WEIGHTS,
    Objective,
    drawn_arrays,
    drawn_tensors,
    gradient,
    loss,
    params_of,
    tensors_of,
)

from streamtrain.model.quantize import dequantize, quantize

BATCH = 13
SHAPES = [(1, 3, 5), (3, 3, 19)]


def problem(shape):
    steps, n_features, hidden = shape
    rng = np.random.default_rng([9, *shape])
    tensors = drawn_tensors(rng, n_features, hidden)
    tensors["w_update"][1] = 0.0  # a row of zeros has no scale
    tensors["w_update"][2] *= 1e-3  # the scale is a subnormal float16
    tensors["w_update"][3] *= 1e-7  # and here the smallest there is
    return tensors, drawn_arrays(rng, BATCH, steps, n_features, weighted=True)


def rounded_run(shape, tensors, **settings):
    return KernelRun(params_of(tensors), shape[0], BATCH, Settings(rounded=True, **settings))


def active(shape):
    return [name for name in NAMES if shape[0] > 1 or name not in INERT_WITH_ONE_STEP]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_forward_sees_the_weights_that_would_be_served(shape):
    tensors, arrays = problem(shape)
    run = rounded_run(shape, tensors)
    assert run(arrays) == 1
    served = tensors_of(dequantize(quantize(params_of(tensors))))
    for name in active(shape):
        np.testing.assert_allclose(run.served[name], served[name], rtol=1e-6, atol=0, err_msg=name)
    for name in set(active(shape)) & set(WEIGHTS):
        assert np.abs(served[name] - tensors[name]).max() > 1e-4, "rounding would not show"
    assert run.loss == pytest.approx(loss(served, arrays, Objective()), rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rounded_weights_stay_as_they_are(shape):
    tensors, arrays = problem(shape)
    once = tensors_of(dequantize(quantize(params_of(tensors))))
    run = rounded_run(shape, once)
    run(arrays)
    for name in active(shape):
        np.testing.assert_array_equal(run.served[name], once[name], err_msg=name)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradient_passes_straight_through(shape):
    """What moves the fine weights is the gradient at the rounded ones."""
    tensors, arrays = problem(shape)
    run = rounded_run(shape, tensors)
    run(arrays)
    at_rounded = gradient(tensors_of(dequantize(quantize(params_of(tensors)))), arrays, Objective())
    at_fine = gradient(tensors, arrays, Objective())
    for name in active(shape):
        size = np.linalg.norm(at_rounded[name])
        assert np.linalg.norm(run.first_moment[name] - at_rounded[name]) <= 1e-5 * size, name
    assert np.linalg.norm(at_fine["w_candidate"] - at_rounded["w_candidate"]) > 1e-4 * np.linalg.norm(
        at_fine["w_candidate"]
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fine_weights_move_and_what_is_served_follows(shape):
    tensors, arrays = problem(shape)
    run = rounded_run(shape, tensors, learning_rate=0.01, beta1=0.9)
    for _ in range(10):
        assert run(arrays) == 1
    fine = params_of(run.trained)
    assert np.abs(run.trained["w_candidate"] - tensors["w_candidate"]).max() > 0.01
    assert np.isfinite(run.trained["w_update"]).all()
    wanted = tensors_of(dequantize(quantize(fine)))
    for name in active(shape):
        np.testing.assert_allclose(run.served[name], wanted[name], rtol=1e-5, atol=1e-7, err_msg=name)
