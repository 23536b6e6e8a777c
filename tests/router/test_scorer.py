from __future__ import annotations

import numpy as np
import pytest
from make_candidate import make_candidate

from streamtrain.model.forward import probabilities
from streamtrain.model.quantize import dequantize
from streamtrain.publish.artifact import build
from streamtrain.router.compiled import CompiledModel
from streamtrain.router.load import load_version
from streamtrain.router.scorer import Model

pytestmark = pytest.mark.parametrize("model_type", [Model, CompiledModel])


def load_candidate_model(tmp_path, candidate, model_type):
    directory = tmp_path / "staged"
    directory.mkdir()
    for name, data in build(candidate).items():
        (directory / name).write_bytes(data)
    return load_version(directory, model_type=model_type)


@pytest.fixture
def model(tmp_path, model_type):
    return load_candidate_model(tmp_path, make_candidate(1), model_type)


@pytest.mark.parametrize(
    "shape",
    [
        *({}, {"input_dim": 1, "hidden_dim": 1}, {"input_dim": 2}, {"input_dim": 3, "hidden_dim": 7}),
        *({"input_dim": 48}, {"nu": 0.3, "zeta": 2.0}, {"hidden_dim": 33}),
    ],
)
def test_a_score_is_that_of_the_plain_cell_on_normalised_features(tmp_path, shape, model_type):
    candidate = make_candidate(2, **shape)
    model = load_candidate_model(tmp_path, candidate, model_type)
    raw = np.random.default_rng(0).normal(0.5, 1, (300, candidate.config.input_dim))
    z = (raw - candidate.scaling.means) / candidate.scaling.stds
    config = candidate.config
    expected = probabilities(dequantize(candidate.quantized), z, config.nu, config.zeta)
    np.testing.assert_allclose([model.score(row) for row in raw], expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.score_batch(raw), expected, rtol=0, atol=1e-12)


def test_batches_of_every_size_and_kind(model):
    raw = np.random.default_rng(0).normal(0.5, 1, (10_000, 5))
    whole = model.score_batch(raw)
    assert whole.shape == (10_000,)
    for n in (0, 1, 4095, 4096, 4097, 8193):
        np.testing.assert_allclose(model.score_batch(raw[:n]), whole[:n], rtol=0, atol=1e-14)
    np.testing.assert_allclose(model.score_batch(raw.astype(np.float32)), whole, atol=1e-5)
    np.testing.assert_array_equal(model.score_batch([[1, 0, 1, 0, 1]]), [model.score((1, 0, 1, 0, 1))])


def test_features_are_not_changed(model):
    raw = np.random.default_rng(0).normal(0.5, 1, (3, 5))
    before = raw.copy()
    model.score(raw[0])
    model.score_batch(raw)
    np.testing.assert_array_equal(raw, before)


@pytest.mark.parametrize("features", [[], [1.0] * 4, [1.0] * 6, 1.0, [[1.0] * 5]])
def test_another_number_of_features_is_refused_by_name(model, features):
    with pytest.raises(ValueError, match="expected 5 numbers: feature_0, feature_1"):
        model.score(features)


@pytest.mark.parametrize("features", [[1.0] * 5, [[1.0] * 4], np.zeros((2, 3, 5))])
def test_a_batch_of_another_shape_is_refused(model, features):
    with pytest.raises(ValueError, match=r"expected \(N, 5\): feature_0"):
        model.score_batch(features)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39, 1e200])
def test_a_number_that_is_none_is_refused_by_feature(model, value):
    with pytest.raises(ValueError, match=r"'feature_3' is .*; expected a finite number"):
        model.score([0.0, 0.0, 0.0, value, 0.0])
    rows = np.zeros((5000, 5))
    rows[4500, 3] = value
    with pytest.raises(ValueError, match=r"'feature_3' is .* in row 4500; expected a finite number"):
        model.score_batch(rows)


@pytest.mark.parametrize("features", [["a"] * 5, [None] * 5, [1.0, 2.0, 3.0, 4.0, [5.0]]])
def test_what_is_no_number_is_refused(model, features):
    with pytest.raises((ValueError, TypeError)):
        model.score(features)


@pytest.mark.parametrize("value", [1e18, 1e37, -1e38])
def test_huge_numbers_saturate_without_a_warning(model, value):
    assert 0.0 <= model.score([value] * 5) <= 1.0
    assert 0.0 <= model.score_batch([[value] * 5])[0] <= 1.0
