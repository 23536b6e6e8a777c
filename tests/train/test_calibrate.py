"""Calibration of the logit: what is fitted, and that folding it changes nothing else."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from streamtrain.model.fold import fold, fold_output, fold_output_quantized
from streamtrain.model.forward import probabilities
from streamtrain.model.params import initialise
from streamtrain.model.prune import is_pruned, prune
from streamtrain.model.quantize import dequantize, quantize
from streamtrain.train.calibrate import NOTHING, calibrate, fit_calibration
from streamtrain.types import F64, Arrays, FastGRNNConfig, Params, Scaling

CONFIG = FastGRNNConfig(5, 16)


def sigmoid(z: F64) -> F64:
    return np.asarray(1 / (1 + np.exp(-z)))


def logit(p: F64) -> F64:
    return np.asarray(np.log(p) - np.log1p(-p))


def trained_like(seed: int = 0) -> Params:
    """Weights whose answers are spread, as after training."""
    params = initialise(CONFIG, seed)
    return replace(params, w_output=params.w_output * np.float32(4), b_output=np.array([0.3], np.float32))


def data(params: Params, n: int, slope: float, shift: float, seed: int = 1) -> Arrays:
    """Labels that the model's logits foresee once they are stretched and shifted."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 1, 5)).astype(np.float32)
    z = logit(probabilities(params, x[:, 0]))
    y = (rng.random(n) < sigmoid(slope * z + shift)).astype(np.float32)[:, None]
    return Arrays(x, y, np.ones_like(y))


@pytest.mark.parametrize(
    ("slope", "shift", "method"), [(0.4, 0.0, "temperature"), (2.5, -0.8, "platt"), (1.0, 0.0, "none")]
)
def test_what_was_done_to_the_labels_is_found(slope: float, shift: float, method: str) -> None:
    z = np.random.default_rng(0).normal(size=20_000) * 2
    y = (np.random.default_rng(1).random(20_000) < sigmoid(slope * z + shift)).astype(float)
    found = fit_calibration(z, y, np.ones(20_000))
    assert found.method == method
    assert found.slope == pytest.approx(slope, rel=0.06)
    assert found.shift == pytest.approx(shift, abs=0.06)
    assert found.loss_after <= found.loss_before


def test_the_fit_is_the_maximum_of_the_likelihood() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(2)
    z, w = rng.normal(size=5000), rng.exponential(size=5000)
    y = (rng.random(5000) < sigmoid(3 * z + 1)).astype(float)
    found = fit_calibration(z, y, w)
    peer = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(z[:, None], y, w)
    # Platt's targets are drawn in by one sample of 2,500.
    assert found.slope == pytest.approx(peer.coef_[0, 0], rel=0.02)
    assert found.shift == pytest.approx(peer.intercept_[0], rel=0.02)


def test_a_small_split_asks_for_nothing_by_chance() -> None:
    rng = np.random.default_rng(3)
    chosen = []
    for _ in range(200):
        z = rng.normal(size=100)
        chosen.append(fit_calibration(z, (rng.random(100) < sigmoid(z)).astype(float), np.ones(100)).method)
    assert chosen.count("none") > 120


@pytest.mark.parametrize("direction", [1, -1])
def test_separated_or_reversed_classes_do_not_run_away(direction: int) -> None:
    z = np.linspace(-1, 1, 200)
    found = fit_calibration(z, (direction * z > 0).astype(float), np.ones(200))
    assert 0.05 <= found.slope <= 20
    assert (found.method == "none") == (direction < 0)


def test_nothing_to_learn_from_changes_nothing() -> None:
    none = np.empty(0)
    assert fit_calibration(none, none, none) == NOTHING
    assert fit_calibration(np.array([np.nan]), np.ones(1), np.ones(1)) == NOTHING
    params = trained_like()
    for validation in (None, data(params, 0, 1, 0)):
        made = calibrate(params, CONFIG, validation)
        assert made.params is params
        assert made.calibration == NOTHING
    assert calibrate(params, CONFIG, data(params, 3000, 0.3, 0), wanted=False).calibration == NOTHING


def test_samples_of_weight_nothing_say_nothing() -> None:
    rng = np.random.default_rng(4)
    z = rng.normal(size=2000)
    y = (rng.random(2000) < sigmoid(2 * z)).astype(float)
    found = fit_calibration(z, y, np.ones(2000))
    padded = fit_calibration(np.r_[z, z], np.r_[y, 1 - y], np.r_[np.ones(2000), np.zeros(2000)])
    assert padded == found


def test_the_served_weights_are_calibrated_in_every_form() -> None:
    params = trained_like()
    made = calibrate(params, CONFIG, data(params, 20_000, 0.4, 0.5))
    slope, shift = made.calibration.slope, made.calibration.shift
    assert slope == pytest.approx(0.4, rel=0.1)
    x = np.random.default_rng(9).normal(size=(500, 5))
    before = logit(probabilities(dequantize(quantize(params)), x))
    # A float16 scale says the slope to within a thousandth.
    np.testing.assert_allclose(logit(probabilities(dequantize(made.quantized), x)), slope * before + shift, atol=5e-3)
    exact = logit(probabilities(params, x))
    np.testing.assert_allclose(logit(probabilities(made.params, x)), slope * exact + shift, atol=1e-5)
    scaling = Scaling(np.full(5, 3.0), np.full(5, 0.5))
    folded = fold(dequantize(made.quantized), scaling)
    np.testing.assert_allclose(
        probabilities(folded, x * 0.5 + 3.0), probabilities(dequantize(made.quantized), x), atol=1e-5
    )


def test_only_the_output_layer_moves_and_its_levels_stay() -> None:
    params = prune(trained_like(), 0.4)
    quantized = quantize(params)
    stretched, moved = fold_output_quantized(quantized, 0.37, -0.2), fold_output(params, 0.37, -0.2)
    for field in fields(Params):
        same = np.array_equal(getattr(moved, field.name), getattr(params, field.name))
        assert same == (field.name not in ("w_output", "b_output"))
    for name, levels in quantized.weights.items():
        assert np.array_equal(stretched.weights[name], levels)
    assert is_pruned(moved, 0.4)
    error = np.abs(moved.w_output - dequantize(stretched).w_output)
    assert (error <= stretched.scales["w_output"] * 0.6).all()


def test_sequences_are_calibrated_at_every_step_that_is_there() -> None:
    params = trained_like()
    rng = np.random.default_rng(5)
    x = rng.normal(size=(3000, 3, 5)).astype(np.float32)
    y = (rng.random((3000, 3)) < 0.5).astype(np.float32)
    weights = np.ones((3000, 3), np.float32)
    weights[:, 2] = 0
    made = calibrate(params, CONFIG, Arrays(x, y, weights))
    assert made.calibration.n_samples == 6000
    y[:, 2] = 1 - y[:, 2]
    assert calibrate(params, CONFIG, Arrays(x, y, weights)).calibration == made.calibration
