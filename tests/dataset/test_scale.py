"""Z-score: against a plain float64 computation, and where float32 would fail."""

import numpy as np
import pytest

from streamtrain.dataset.scale import apply, fit


@pytest.fixture
def features():
    rng = np.random.default_rng(1)
    return (rng.normal(size=(70_001, 5)) * [1, 10, 0.001, 3, 1] + [0, 5, 7, -2, 1e4]).astype(np.float32)


def test_same_as_the_plain_definition(features):
    scaling = fit(features)
    np.testing.assert_allclose(scaling.means, features.mean(axis=0, dtype=np.float64), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(scaling.stds, features.astype(np.float64).std(axis=0), rtol=1e-10)
    scaled = apply(features, scaling)
    assert scaled.dtype == np.float32
    assert scaled.flags.c_contiguous
    expected = (features.astype(np.float64) - scaling.means) / scaling.stds
    np.testing.assert_array_equal(scaled, expected.astype(np.float32))


def test_weights_count_like_repeated_rows(features):
    small = features[:50]
    counts = np.arange(50) % 4
    weighted, repeated = fit(small, counts.astype(np.float32)), fit(np.repeat(small, counts, axis=0))
    np.testing.assert_allclose(weighted.means, repeated.means, rtol=1e-12)
    np.testing.assert_allclose(weighted.stds, repeated.stds, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-30, 1e30, -12345.678])
def test_a_constant_feature_has_std_1_and_becomes_0(value):
    features = np.full((10_001, 2), value, np.float32)
    features[:, 1] = np.arange(10_001)
    scaling = fit(features)
    assert scaling.stds[0] == 1.0
    assert scaling.stds[1] > 1000
    assert np.all(np.abs(apply(features, scaling)[:, 0]) <= abs(value) * 1e-7)


def test_one_row():
    scaling = fit(np.array([[3.0, -1.0]], np.float32))
    assert scaling.means.tolist() == [3.0, -1.0]
    assert scaling.stds.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("weights", [None, np.zeros(0, np.float32)])
def test_nothing_to_fit_is_refused(weights):
    with pytest.raises(ValueError, match="0 samples of total weight 0"):
        fit(np.empty((0, 3), np.float32), weights)


def test_all_weights_zero_is_refused():
    with pytest.raises(ValueError, match="4 samples of total weight 0"):
        fit(np.ones((4, 3), np.float32), np.zeros(4, np.float32))
