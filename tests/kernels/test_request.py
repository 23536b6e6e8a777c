from __future__ import annotations

import numpy as np
from numba import types

from streamtrain.kernels.policy import DOUBLES, entry
from streamtrain.kernels.request import LARGEST, exp, request_kernels


def compiled_exp():
    @entry(types.void(DOUBLES, DOUBLES))
    def run(x, y):
        for i in range(x.size):
            y[i] = exp(x[i])

    return run


def test_exp_is_exact_to_a_few_last_places_within_its_limits_and_constant_beyond():
    x = np.concatenate([np.linspace(-40, 40, 200_001), np.random.default_rng(0).normal(0, 1e-3, 10_000), [0.0, -0.0]])
    y = np.empty_like(x)
    compiled_exp()(x, y)
    np.testing.assert_allclose(y, np.exp(x), rtol=2e-15)
    x = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, 41.0])
    y = np.empty_like(x)
    compiled_exp()(x, y)
    assert np.isnan(y[0])
    np.testing.assert_allclose(y[1:], np.exp([40, -40, 40, -40, 40]), rtol=2e-15)


def test_what_cannot_be_scored_is_said():
    one, many = request_kernels()
    weights, scratch = np.ones(2 * 2 * 4 + 2 + 1), np.empty(4)
    for value in (np.nan, np.inf, LARGEST):
        x = np.array([0.0, value, LARGEST])
        assert np.isnan(one(x, scratch, weights, 2))
        assert not many(np.array([[0.0, 0.0, 0.0], x]), scratch, weights, 2, np.empty(2))
    assert many(np.zeros((2, 3)), scratch, weights, 2, np.empty(2))
