"""Against the cell written out number by number, with nothing but the math module."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streamtrain.model.formats import shapes
from streamtrain.model.forward import logits, probabilities, sigmoid, step
from streamtrain.types import FastGRNNConfig, Params


def random_params(n_features: int, n_hidden: int) -> Params:
    rng = np.random.default_rng(n_features * 100 + n_hidden)
    config = FastGRNNConfig(n_features, n_hidden)
    return Params(**{name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes(config).items()})


def plain_step(p: Params, x: list[float], h: list[float], nu: float, zeta: float) -> list[float]:
    def affine(w, b, v, i):
        return sum(float(w[i, j]) * v[j] for j in range(len(v))) + float(b[i])

    n = len(h)
    r = [1 / (1 + math.exp(-nu * affine(p.w_reset, p.b_reset, x, i))) for i in range(n)]
    u = [1 / (1 + math.exp(-nu * affine(p.w_update, p.b_update, x, i))) for i in range(n)]
    rh = [r[i] * h[i] for i in range(n)]
    c = [
        math.tanh(zeta * (affine(p.w_candidate, p.b_candidate, x, i) + affine(p.w_recurrent, np.zeros(n), rh, i)))
        for i in range(n)
    ]
    return [u[i] * h[i] + (1 - u[i]) * c[i] for i in range(n)]


@pytest.mark.parametrize(("n_features", "n_hidden"), [(1, 1), (5, 16), (7, 3)])
@pytest.mark.parametrize(("nu", "zeta"), [(1.0, 1.0), (0.6, 1.7)])
def test_three_steps_number_by_number(n_features, n_hidden, nu, zeta):
    params = random_params(n_features, n_hidden)
    x = np.random.default_rng(0).normal(size=(3, 4, n_features))
    h = np.zeros((4, n_hidden))
    plain = [[0.0] * n_hidden for _ in range(4)]
    for t in range(3):
        answers = probabilities(params, x[t], nu, zeta, h0=h)
        h = step(params, x[t], h, nu, zeta)
        plain = [plain_step(params, x[t, i].tolist(), plain[i], nu, zeta) for i in range(4)]
        np.testing.assert_allclose(h, plain, rtol=1e-13, atol=1e-14)
        z = [sum(float(w) * v for w, v in zip(params.w_output[0], row, strict=True)) for row in plain]
        expected = [1 / (1 + math.exp(-(value + float(params.b_output[0])))) for value in z]
        np.testing.assert_allclose(answers, expected, rtol=1e-13)
        np.testing.assert_allclose(sigmoid(logits(params, h)), expected, rtol=1e-13)


def test_float32_stays_float32():
    params = random_params(5, 16)
    x = np.random.default_rng(0).normal(size=(10, 5))
    answers = probabilities(params, x, dtype=np.float32)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers, probabilities(params, x), atol=1e-6)


def test_extreme_inputs_saturate_without_a_warning():
    params = random_params(2, 3)
    answers = probabilities(params, [[1e30, -1e30], [-1e30, 1e30]])
    assert np.all((answers >= 0) & (answers <= 1))
    np.testing.assert_array_equal(sigmoid(np.array([-1e300, 0.0, 1e300])), [0.0, 0.5, 1.0])


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 5)])
def test_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(N, 5\)"):
        probabilities(random_params(5, 4), np.zeros(shape))
