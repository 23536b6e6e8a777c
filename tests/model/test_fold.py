from __future__ import annotations

import numpy as np
import pytest

from streamtrain.model.fold import fold, rescale
from streamtrain.model.formats import shapes
from streamtrain.model.forward import probabilities
from streamtrain.types import FastGRNNConfig, Params, Scaling


def random_params(n_features: int, n_hidden: int = 7, seed: int = 0) -> Params:
    rng = np.random.default_rng(seed)
    config = FastGRNNConfig(n_features, n_hidden)
    return Params(**{name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes(config).items()})


def random_scaling(n_features: int, seed: int = 1) -> Scaling:
    rng = np.random.default_rng(seed)
    return Scaling(rng.normal(0, 3, n_features), rng.uniform(0.05, 5, n_features))


@pytest.mark.parametrize("n_features", [1, 5, 48])
@pytest.mark.parametrize("scaled", [False, True])
def test_folded_weights_on_raw_features_are_the_weights_on_normalised_ones(n_features, scaled):
    params, scaling = random_params(n_features), random_scaling(n_features)
    factors = np.random.default_rng(2).uniform(0.1, 3, n_features) if scaled else None
    raw = np.random.default_rng(3).normal(0, 3, (200, n_features))
    expected = probabilities(params, (raw - scaling.means) / scaling.stds, nu=1.3, zeta=0.7)
    served = fold(params, scaling, None if factors is None else factors.tolist())
    answers = probabilities(served, raw if factors is None else raw * factors, nu=1.3, zeta=0.7)
    np.testing.assert_allclose(answers, expected, atol=2e-5)
    assert all(getattr(served, name).dtype == np.float32 for name in shapes(FastGRNNConfig()))


def test_folding_leaves_the_recurrent_and_the_output_layer_alone():
    params = random_params(3)
    served = fold(params, random_scaling(3))
    for name in ("w_recurrent", "w_output", "b_output"):
        np.testing.assert_array_equal(getattr(served, name), getattr(params, name))


def test_rescaling_keeps_the_function_of_the_raw_input():
    params, old, new = random_params(5), random_scaling(5, 1), random_scaling(5, 2)
    raw = np.random.default_rng(3).normal(0, 3, (200, 5))
    before = probabilities(params, (raw - old.means) / old.stds)
    after = probabilities(rescale(params, old, new), (raw - new.means) / new.stds)
    np.testing.assert_allclose(after, before, atol=2e-5)


def test_rescaling_to_the_same_scale_changes_no_bit():
    params, scaling = random_params(5), random_scaling(5)
    same = rescale(params, scaling, scaling)
    for name in shapes(FastGRNNConfig()):
        np.testing.assert_array_equal(getattr(same, name), getattr(params, name))


def test_there_and_back_again():
    params, old, new = random_params(5), random_scaling(5, 1), random_scaling(5, 2)
    back = rescale(rescale(params, old, new), new, old)
    for name in shapes(FastGRNNConfig()):
        np.testing.assert_allclose(getattr(back, name), getattr(params, name), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("means", "stds"),
    [([0.0, 0.0], [1.0, 1.0]), ([0.0] * 3, [1.0, 0.0, 1.0]), ([0.0, np.nan, 0.0], [1.0] * 3), ([0.0] * 3, [-1.0] * 3)],
)
def test_a_scaling_that_cannot_be_is_refused(means, stds):
    params, bad, good = random_params(3), Scaling(np.array(means), np.array(stds)), random_scaling(3)
    with pytest.raises(ValueError, match=r"column|means"):
        fold(params, bad)
    with pytest.raises(ValueError, match=r"column|means"):
        rescale(params, good, bad)
    with pytest.raises(ValueError, match=r"column|means"):
        rescale(params, bad, good)


@pytest.mark.parametrize("factors", [[1.0, 1.0], [1.0, 0.0, 1.0], [1.0, np.inf, 1.0]])
def test_an_input_scale_that_cannot_be_is_refused(factors):
    with pytest.raises(ValueError, match=r"input_scale is .* expected 3"):
        fold(random_params(3), random_scaling(3), factors)


@pytest.mark.parametrize("std", [1e-40, 1e-300])
def test_what_overflows_float32_is_refused(std):
    scaling = Scaling(np.ones(3), np.array([1.0, std, 1.0]))
    with pytest.raises(ValueError, match="too large for float32"):
        fold(random_params(3), scaling)
    with pytest.raises(ValueError, match="too large for float32"):
        rescale(random_params(3), Scaling(np.zeros(3), np.full(3, std)), Scaling(np.ones(3), np.ones(3)))
