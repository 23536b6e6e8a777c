from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamtrain.model.formats import shapes
from streamtrain.model.quantize import BIASES, WEIGHTS, dequantize, quantize
from streamtrain.types import FastGRNNConfig, Params


def random_params(seed: int = 0) -> Params:
    rng = np.random.default_rng(seed)
    whole = shapes(FastGRNNConfig())
    return Params(**{name: rng.normal(size=shape).astype(np.float32) for name, shape in whole.items()})


@given(arrays(np.float32, (16, 5), elements=st.floats(-1e6, 1e6, width=32)))
@settings(deadline=None, max_examples=50)
def test_every_weight_is_within_half_a_step_of_its_row(weights):
    quantized = quantize(replace(random_params(), w_reset=weights))
    scale = quantized.scales["w_reset"].astype(np.float64)
    levels = quantized.weights["w_reset"].astype(np.float64)
    # One part in a million for the float32 rounding of the scale itself; below 1e-38 float32 has no digits left.
    assert np.all(np.abs(weights - scale[:, None] * levels) <= scale[:, None] * (0.5 + 127e-6) + 1e-38)
    assert np.all(scale > 0)
    assert np.abs(levels).max() <= 127


def test_a_row_uses_its_own_scale():
    params = random_params()
    params.w_reset[0] *= 1e-4
    quantized = quantize(params)
    for row, scale in zip(params.w_reset, quantized.scales["w_reset"], strict=True):
        assert scale == pytest.approx(np.abs(row).max() / 127, rel=1e-6)
    assert np.all(np.abs(quantized.weights["w_reset"]).max(axis=1) == 127)


def test_quantizing_what_is_quantized_changes_nothing():
    once = quantize(random_params())
    again = quantize(dequantize(once))
    for name in WEIGHTS:
        np.testing.assert_array_equal(once.weights[name], again.weights[name])


@pytest.mark.parametrize("value", [0.0, 1e-45])
def test_a_row_too_small_for_a_scale_becomes_zeros(value):
    params = random_params()
    params.w_recurrent[3] = value
    quantized = quantize(params)
    assert quantized.scales["w_recurrent"][3] == 1.0
    assert not quantized.weights["w_recurrent"][3].any()


def test_biases_stay_and_are_not_shared():
    params = random_params()
    quantized = quantize(params)
    for name in BIASES:
        np.testing.assert_array_equal(quantized.biases[name], getattr(params, name))
        assert not np.shares_memory(quantized.biases[name], getattr(params, name))
        np.testing.assert_array_equal(getattr(dequantize(quantized), name), getattr(params, name))


@pytest.mark.parametrize("name", [*WEIGHTS, *BIASES])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_diverged_model_is_refused(name, value):
    params = random_params()
    getattr(params, name).flat[0] = value
    with pytest.raises(ValueError, match=f"{name} holds 1 of .* not finite"):
        quantize(params)
