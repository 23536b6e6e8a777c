from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.judge import metrics
from streamtrain.types import F64

FUNCTIONS: list[Callable[..., object]] = [
    metrics.accuracy,
    metrics.log_loss,
    metrics.auc,
    metrics.brier,
    metrics.ece,
    metrics.confusion,
    metrics.calibration_slope,
    metrics.report,
]


def problem(seed: int, n: int = 60, ties: bool = True) -> tuple[F64, F64, F64]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.6).astype(float)
    labels[:2] = 0, 1
    probabilities = np.clip(rng.normal(0.4 + 0.2 * labels, 0.25), 0, 1)
    if ties:
        probabilities = np.round(probabilities, 1)
    return labels, probabilities, rng.integers(1, 4, n).astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_against_plain_definitions(seed: int) -> None:
    y, p, w = problem(seed)
    total = sum(w)
    rows = list(zip(y, p, w, strict=True))
    clip = [min(max(q, 1e-7), 1 - 1e-7) for q in p]
    right = sum(wi for yi, pi, wi in rows if (pi >= 0.5) == (yi == 1))
    losses = [-math.log(q) if yi == 1 else -math.log(1 - q) for yi, q in zip(y, clip, strict=True)]
    pairs = [
        (wi * wj, 1.0 if pi > pj else 0.5 if pi == pj else 0.0)
        for yi, pi, wi in rows
        for yj, pj, wj in rows
        if yi == 1 and yj == 0
    ]
    assert metrics.accuracy(y, p, w) == pytest.approx(right / total)
    assert metrics.log_loss(y, p, w) == pytest.approx(sum(a * b for a, b in zip(losses, w, strict=True)) / total)
    assert metrics.brier(y, p, w) == pytest.approx(sum(wi * (pi - yi) ** 2 for yi, pi, wi in rows) / total)
    assert metrics.auc(y, p, w) == pytest.approx(sum(a * b for a, b in pairs) / sum(a for a, _ in pairs))
    rate = sum(wi for yi, _, wi in rows if yi == 1) / total
    assert metrics.base_rate(y, w) == pytest.approx(rate)
    assert metrics.majority_accuracy(y, w) == pytest.approx(max(rate, 1 - rate))
    assert metrics.base_rate_log_loss(y, w) == pytest.approx(-rate * math.log(rate) - (1 - rate) * math.log(1 - rate))
    table = metrics.confusion(y, p, w)
    assert table.true_positive == sum(wi for yi, pi, wi in rows if yi == 1 and pi >= 0.5)
    assert table.false_positive == sum(wi for yi, pi, wi in rows if yi == 0 and pi >= 0.5)
    assert table.true_negative == sum(wi for yi, pi, wi in rows if yi == 0 and pi < 0.5)
    assert table.false_negative == sum(wi for yi, pi, wi in rows if yi == 1 and pi < 0.5)
    gap = 0.0
    for b in range(15):
        inside = [r for r in rows if b / 15 <= r[1] < (b + 1) / 15 or (b == 14 and r[1] == 1)]
        gap += abs(sum(wi * (yi - pi) for yi, pi, wi in inside))
    assert metrics.ece(y, p, w) == pytest.approx(gap / total)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_weight_of_k_counts_as_k_samples(seed: int, function: Callable[..., object]) -> None:
    y, p, w = problem(seed)
    k = w.astype(int)
    weighted, repeated = function(y, p, w), function(np.repeat(y, k), np.repeat(p, k))
    if isinstance(weighted, metrics.Report) and isinstance(repeated, metrics.Report):
        assert repeated.n_samples == k.sum()
        assert weighted.confusion == repeated.confusion
        assert weighted.log_loss == pytest.approx(repeated.log_loss)
    elif isinstance(weighted, float):
        assert weighted == pytest.approx(repeated, rel=1e-6)
    else:
        assert weighted == repeated


@pytest.mark.parametrize("function", FUNCTIONS[:-1], ids=lambda function: function.__name__)
def test_a_weight_of_zero_counts_as_no_sample(function: Callable[..., object]) -> None:
    y, p, w = problem(0)
    w[10:30] = 0
    kept = w > 0
    full, without = function(y, p, w), function(y[kept], p[kept], w[kept])
    assert full == without or (isinstance(full, float) and full == pytest.approx(without, rel=1e-6))


def test_hand_made_values() -> None:
    y = np.array([1.0, 1.0, 0.0, 0.0])
    assert metrics.auc(y, np.array([0.9, 0.8, 0.2, 0.1])) == 1.0
    assert metrics.auc(y, np.array([0.1, 0.2, 0.8, 0.9])) == 0.0
    assert metrics.auc(y, np.full(4, 0.7)) == 0.5
    assert metrics.auc(y, np.array([0.9, 0.4, 0.4, 0.1])) == 0.875
    assert metrics.accuracy(y, np.array([0.5, 0.4, 0.5, 0.4])) == 0.5
    assert metrics.log_loss(y, np.full(4, 0.5)) == pytest.approx(math.log(2))
    assert metrics.log_loss(np.array([1.0]), np.array([0.0])) == pytest.approx(-math.log(1e-7))
    assert metrics.ece(y, y) == 0.0
    assert metrics.ece(y, 1 - y) == 1.0
    # 0.95 and 1 share the last bin, where their errors of +0.05 and -0.05 cancel.
    assert metrics.ece(np.array([1.0, 0.95]), np.array([0.95, 1.0])) == pytest.approx(0, abs=1e-12)


def test_the_best_constant_is_the_base_rate() -> None:
    y, _, w = problem(4)
    bound = metrics.base_rate_log_loss(y, w)
    losses = [metrics.log_loss(y, np.full(len(y), c), w) for c in np.linspace(0.01, 0.99, 199)]
    assert min(losses) >= bound
    assert min(losses) == pytest.approx(bound, abs=1e-4)


def test_soft_labels_count_as_they_are_in_losses_and_by_class_elsewhere() -> None:
    y, p = np.array([0.9, 0.5, 0.2]), np.array([0.8, 0.4, 0.4])
    losses = [-(yi * math.log(pi) + (1 - yi) * math.log(1 - pi)) for yi, pi in zip(y, p, strict=True)]
    assert metrics.log_loss(y, p) == pytest.approx(sum(losses) / 3)
    assert metrics.accuracy(y, p) == pytest.approx(2 / 3)
    assert metrics.auc(y, p) == 0.75
    assert metrics.base_rate(y) == pytest.approx(1.6 / 3)


def test_one_class_has_no_auc() -> None:
    assert math.isnan(metrics.auc(np.ones(3), np.array([0.1, 0.5, 0.9])))
    assert metrics.report(np.ones(3), np.array([0.1, 0.5, 0.9])).to_json()["auc"] is None


def test_a_report_is_json() -> None:
    y, p, w = problem(1)
    text = json.dumps(metrics.report(y, p, w).to_json(), allow_nan=False)
    assert json.loads(text)["confusion"]["true_positive"] > 0


@pytest.mark.parametrize("slope", [-1.5, 0.4, 1.0, 3.0])
def test_the_calibration_slope_is_what_the_log_odds_were_divided_by(slope: float) -> None:
    rng = np.random.default_rng(7)
    logits = rng.normal(0.5, 1.5, 200_000)
    labels = (rng.random(logits.size) < 1 / (1 + np.exp(-logits))).astype(float)
    probabilities = 1 / (1 + np.exp(-logits / slope))
    assert metrics.calibration_slope(labels, probabilities) == pytest.approx(slope, rel=0.02)


def test_the_calibration_slope_stays_finite_where_the_true_one_is_not() -> None:
    y = np.array([0.0] * 50 + [1.0] * 50)
    assert metrics.calibration_slope(y, np.linspace(0.3, 0.7, 100)) > 20
    assert math.isfinite(metrics.calibration_slope(y, y))
    assert metrics.calibration_slope(y, np.full(100, 0.3)) == 0.0
    assert math.isfinite(metrics.calibration_slope(np.ones(100), np.linspace(0, 1, 100)))


@pytest.mark.parametrize(
    ("labels", "probabilities", "weights", "complaint"),
    [
        ([1, 0], [0.5], None, "2 labels, 1 probabilities"),
        ([1, 0], [0.5, 0.5], [1], "1 weights"),
        ([], [], None, "shape"),
        ([[1]], [[0.5]], None, "shape"),
        ([1, 0], [0.5, math.nan], None, "probabilities have NaN"),
        ([1, math.inf], [0.5, 0.5], None, "labels have NaN"),
        ([1, 0], [0.5, 1.5], None, "probabilities reach from 0.5 to 1.5"),
        ([1, 2], [0.5, 0.5], None, "labels reach"),
        ([1, 0], [0.5, 0.5], [0, 0], "weights"),
        ([1, 0], [0.5, 0.5], [1, -1], "weights"),
    ],
)
def test_what_does_not_go_together_is_refused(
    labels: list[float], probabilities: list[float], weights: list[float] | None, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        metrics.report(labels, probabilities, weights)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.floats(0, 1), st.floats(0.001, 1000)), min_size=1, max_size=30)
)
def test_every_metric_stays_in_its_range(rows: list[tuple[float, float, float]]) -> None:
    y, p, w = (np.array(column) for column in zip(*rows, strict=True))
    report = metrics.report(y, p, w)
    for value in (report.accuracy, report.brier, report.ece, report.base_rate):
        assert -1e-12 <= value <= 1 + 1e-12
    assert 0 <= report.log_loss <= -math.log(1e-7) + 1e-9
    assert math.isnan(report.auc) or 0 <= report.auc <= 1 + 1e-12
    assert 0.5 <= report.majority_accuracy <= 1 + 1e-12
    assert math.isfinite(metrics.calibration_slope(y, p, w))


@pytest.mark.needs_peers
@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn(seed: int) -> None:
    from sklearn import linear_model
    from sklearn import metrics as peer

    y, p, w = problem(seed, n=500, ties=seed % 2 == 0)
    p = np.clip(p, 0.01, 0.99)
    assert metrics.auc(y, p, w) == pytest.approx(peer.roc_auc_score(y, p, sample_weight=w), rel=1e-12)
    assert metrics.log_loss(y, p, w) == pytest.approx(peer.log_loss(y, p, sample_weight=w), rel=1e-12)
    assert metrics.brier(y, p, w) == pytest.approx(peer.brier_score_loss(y, p, sample_weight=w), rel=1e-12)
    assert metrics.accuracy(y, p, w) == pytest.approx(peer.accuracy_score(y, p >= 0.5, sample_weight=w), rel=1e-12)
    logits = np.log(p / (1 - p))[:, None]
    fitted = linear_model.LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(logits, y, sample_weight=w)
    assert metrics.calibration_slope(y, p, w) == pytest.approx(fitted.coef_[0, 0], rel=1e-4)
