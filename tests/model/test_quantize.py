from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from streamtrain.model.formats import shapes
from streamtrain.model.params import as_dict, initialise
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
    # Below 1e-38 float32 has no digits left, and below 2**-24 float16 has no scale.
    assert np.all(np.abs(weights - scale[:, None] * levels) <= scale[:, None] * (0.5 + 127e-6) + 2**-24)
    assert np.all(scale > 0)
    assert np.abs(levels).max() <= 127


def test_a_row_uses_its_own_scale():
    params = random_params()
    params.w_reset[0] *= 0.1
    quantized = quantize(params)
    for row, scale in zip(params.w_reset, quantized.scales["w_reset"], strict=True):
        exact = np.abs(row.astype(np.float64)).max() / 127
        assert exact <= scale <= exact * (1 + 2**-10)
        assert np.float16(scale) == scale
    assert np.all(np.abs(quantized.weights["w_reset"]).max(axis=1) == 127)


def test_quantizing_what_is_quantized_changes_nothing():
    once = quantize(random_params())
    again = quantize(dequantize(once))
    for name in WEIGHTS:
        np.testing.assert_array_equal(once.weights[name], again.weights[name])


@pytest.mark.parametrize(("value", "scale"), [(0.0, 1.0), (1e-45, 2**-24)])
def test_a_row_too_small_for_a_scale_becomes_zeros(value, scale):
    params = random_params()
    params.w_recurrent[3] = value
    quantized = quantize(params)
    assert quantized.scales["w_recurrent"][3] == scale
    assert not quantized.weights["w_recurrent"][3].any()


def test_a_weight_beyond_float16_scales_is_refused():
    params = random_params()
    params.w_output[0, 0] = 1e8
    with pytest.raises(ValueError, match="w_output holds a weight of magnitude 1e"):
        quantize(params)


@pytest.mark.parametrize("hidden", [8, 16, 32])
def test_weights_and_scales_take_little_more_than_a_byte_a_parameter(hidden):
    params = initialise(FastGRNNConfig(5, hidden), 0)
    quantized = quantize(params)
    stored = sum(w.nbytes for w in quantized.weights.values()) + 2 * sum(s.size for s in quantized.scales.values())
    assert stored / sum(tensor.size for tensor in as_dict(params).values()) <= 1.35


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
