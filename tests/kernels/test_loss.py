"""Losses and decisions from logits, at sizes where a probability would have been 0 or 1."""

import numpy as np
import pytest
from numba import types
from reference import Objective, losses, sigmoid

from streamtrain.kernels.loss import distilled_loss, hard_loss
from streamtrain.kernels.policy import FLOATS, entry
from streamtrain.kernels.simd import LANES

N = 3 * LANES
Z, Y, W, Q, DZ = (i * N for i in range(5))
_PAIR = types.UniTuple(types.float32, 2)


@pytest.fixture(scope="module")
def hard():
    @entry(_PAIR(FLOATS, types.float64))
    def run(s, scale):
        return hard_loss(s, N, Z, Y, W, DZ, scale)

    return run


@pytest.fixture(scope="module")
def distilled():
    @entry(_PAIR(FLOATS, types.float64, types.float64, types.float64))
    def run(s, scale, alpha, temperature):
        return distilled_loss(s, N, Z, Y, W, Q, DZ, scale, alpha, temperature)

    return run


def drawn(spread, seed=0):
    rng = np.random.default_rng(seed)
    s = np.zeros(5 * N, np.float32)
    s[Z:Y] = spread * rng.normal(size=N)
    s[Y:W] = np.where(rng.random(N) < 0.2, rng.random(N), rng.random(N) < 0.6)
    s[W:Q] = rng.choice([0.0, 0.5, 1.0, 2.0], N)
    s[Q:DZ] = spread * rng.normal(size=N)
    s[Q:DZ:5] = np.nan
    return s, *(s[at : at + N].astype(np.float64) for at in (Z, Y, W, Q))


@pytest.mark.parametrize("spread", [0.1, 3, 40, 1e4])
def test_loss_from_labels(hard, spread):
    s, z, y, w, _ = drawn(spread)
    loss, right = hard(s, 0.25)
    assert loss == pytest.approx((w * losses(z, y, None, Objective())).sum(), rel=2e-6)
    assert right == (w * ((z >= 0) == (y >= 0.5))).sum()
    np.testing.assert_allclose(s[DZ:], 0.25 * w * (sigmoid(z) - y), rtol=0, atol=5e-7)


@pytest.mark.parametrize("spread", [0.1, 3, 40])
@pytest.mark.parametrize(("alpha", "temperature"), [(0.7, 3.0), (1.0, 1.0), (0.3, 5.0), (0.5, 0.5)])
def test_loss_from_a_teacher(distilled, spread, alpha, temperature):
    s, z, y, w, q = drawn(spread)
    objective = Objective(alpha=alpha, temperature=temperature)
    loss, right = distilled(s, 0.25, alpha, temperature)
    assert loss == pytest.approx((w * losses(z, y, q, objective)).sum(), rel=5e-6)
    assert right == (w * ((z >= 0) == (y >= 0.5))).sum()
    step = 1e-6
    slopes = (losses(z + step, y, q, objective) - losses(z - step, y, q, objective)) / (2 * step)
    np.testing.assert_allclose(s[DZ:], 0.25 * w * slopes, rtol=1e-5, atol=1e-6)


def test_a_missing_teacher_means_the_label_alone(hard, distilled):
    s, *_ = drawn(2.0)
    s[Q:DZ] = np.nan
    other = s.copy()
    assert distilled(s, 1.0, 0.9, 4.0) == pytest.approx(hard(other, 1.0), rel=1e-6)
    np.testing.assert_allclose(s[DZ:], other[DZ:], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("taught", [False, True])
def test_one_bad_logit_makes_the_loss_not_finite(hard, distilled, bad, taught):
    s, *_ = drawn(1.0)
    s[Z + 17], s[Y + 17], s[W + 17], s[Q + 17] = bad, 0.5, 1.0, 0.5
    loss, _ = distilled(s, 1.0, 0.5, 2.0) if taught else hard(s, 1.0)
    assert not np.isfinite(loss)


def test_a_decision_at_one_half_is_the_lightweight_model(hard):
    s = np.zeros(5 * N, np.float32)
    s[W] = 1.0
    s[Y] = 1.0
    assert hard(s, 1.0)[1] == 1.0  # logit 0 counts as 1
    s[Y] = 0.5
    assert hard(s, 1.0)[1] == 1.0  # label 0.5 counts as 1
    s[Y] = 0.49
    assert hard(s, 1.0)[1] == 0.0
