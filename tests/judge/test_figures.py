"""Figures of a report, each against its definition written plainly."""

import json

import numpy as np
import pytest

from streamtrain.judge import figures, metrics


@pytest.fixture(scope="module")
def answered():
    rng = np.random.default_rng(1)
    p = np.clip(rng.beta(1.5, 1.2, 4000), 0.0, 1.0)
    labels = (rng.random(4000) < p**1.3).astype(np.float32)
    weights = rng.random(4000).astype(np.float32) * 2
    return labels, p, weights


def test_reliability_adds_up_to_the_calibration_error(answered):
    bins = figures.reliability(*answered)
    error = sum(one["share"] * abs(one["happened"] - one["said"]) for one in bins)
    assert error == pytest.approx(metrics.ece(*answered), rel=1e-9)
    assert sum(one["n"] for one in bins) == 4000
    assert sum(one["share"] for one in bins) == pytest.approx(1.0)
    assert [one["said"] for one in bins] == sorted(one["said"] for one in bins)
    assert len(bins) <= figures.N_BINS


def test_slices_are_scored_apart_and_the_small_ones_together(answered):
    labels, p, weights = answered
    rng = np.random.default_rng(2)
    slices = np.minimum(rng.geometric(0.08, 4000), 60).astype(np.uint64)
    slices[:600], slices[600:1100], slices[1100:1500] = 1, 2, 3
    names = {1: "maths", 2: "x" * 500}
    current = 1 - p
    found = figures.by_slice(labels, p, weights, slices, names, current)
    assert len(found) == figures.MOST_SLICES + 1
    assert found[-1]["others"] == len(np.unique(slices)) - figures.MOST_SLICES
    assert sum(one["n"] for one in found) == 4000
    assert [one["n"] for one in found[:-1]] == sorted((one["n"] for one in found[:-1]), reverse=True)
    assert (found[0]["slice"], len(found[1]["slice"])) == ("maths", figures.NAME_CHARACTERS)
    assert found[2]["slice"] == f"#{3:016x}"
    here = slices == 1
    expected = metrics.report(labels[here], p[here], weights[here])
    assert found[0]["accuracy"] == pytest.approx(expected.accuracy)
    assert found[0]["log_loss"] == pytest.approx(expected.log_loss)
    assert found[0]["base_rate"] == pytest.approx(expected.base_rate)
    assert found[0]["current_accuracy"] == pytest.approx(metrics.accuracy(labels[here], current[here], weights[here]))


def test_without_slices_there_are_none_and_what_has_none_is_one_of_them(answered):
    labels, p, weights = answered
    assert figures.by_slice(labels, p, weights, np.zeros(4000, np.uint64), {}) == []
    slices = np.r_[np.zeros(3000, np.uint64), np.full(1000, 7, np.uint64)]
    found = figures.by_slice(labels, p, weights, slices, {7: "law"})
    assert [(one["slice"], one["n"], one["current_accuracy"]) for one in found] == [
        (None, 3000, None),
        ("law", 1000, None),
    ]


def test_periods_are_in_order_and_together_everything(answered):
    labels, p, weights = answered
    times = np.random.default_rng(3).permutation(4000).astype(float)
    found = figures.over_time(labels, p, weights, times)
    assert len(found) == figures.MOST_PERIODS
    assert sum(one["n"] for one in found) == 4000
    ends = [value for one in found for value in (one["from"], one["to"])]
    assert ends == sorted(ends)
    here = (times >= found[5]["from"]) & (times <= found[5]["to"])
    assert found[5]["accuracy"] == pytest.approx(metrics.accuracy(labels[here], p[here], weights[here]))
    assert len(figures.over_time(labels[:120], p[:120], weights[:120], times[:120])) == 2
    assert len(figures.over_time(labels[:9], p[:9], weights[:9], times[:9])) == 1


def test_the_curve_goes_from_everything_to_nothing(answered):
    labels, p, weights = answered
    curve = figures.cost_curve(*answered)
    assert len(curve) <= figures.N_THRESHOLDS
    assert curve[0]["share"] == pytest.approx(1.0)
    assert (curve[-1]["share"], curve[-1]["spoilt"]) == (0.0, 0.0)
    shares = [one["share"] for one in curve]
    assert shares == sorted(shares, reverse=True)
    assert np.abs(np.diff(shares)).max() < 0.06
    for one in curve[:: len(curve) // 5]:
        light = p >= one["threshold"]
        assert one["accuracy"] == pytest.approx(np.average(light == (labels >= 0.5), weights=weights))
        assert one["spoilt"] == pytest.approx(np.average(light & (labels < 0.5), weights=weights))
    at = figures.at_threshold(*answered, 0.5)
    assert at["accuracy"] == pytest.approx(metrics.accuracy(*answered))


def test_a_constant_answer_has_a_curve_of_two_points():
    curve = figures.cost_curve(np.array([0.0, 1.0, 1.0]), np.full(3, 0.4))
    assert [one["share"] for one in curve] == [1.0, 0.0]
    assert [one["accuracy"] for one in curve] == pytest.approx([2 / 3, 1 / 3])


def test_numbers_are_rounded_and_times_are_not():
    told = figures.compact({"a": [0.123456789, 1763838000.1234567, True, None, 7, "x"], "b": {"c": 1e-9 / 3}})
    assert told == {"a": [0.123457, 1763838000.123, True, None, 7, "x"], "b": {"c": 3.33333e-10}}
    assert json.loads(json.dumps(told)) == told
