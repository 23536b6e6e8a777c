"""The rules against the current version, golden cases, and a holdout that is used again."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from streamtrain.judge.evidence import Evidence, GateRules
from streamtrain.judge.gate import judge
from streamtrain.judge.golden import GoldenAnswers
from streamtrain.types import F64, Decision, Rule

RULES = GateRules(min_accuracy=0, beat_baseline=False, min_auc=0)


def line(decision: Decision, name: str) -> Rule:
    return next(rule for rule in decision.rules if rule.name == name)


def names(decision: Decision) -> set[str]:
    return {rule.name for rule in decision.rules}


def failed(decision: Decision) -> set[str]:
    return {rule.name for rule in decision.rules if not rule.passed}


def decided(labels: F64, right: F64) -> F64:
    """Answers that are right where `right` is, and no surer in one place than in another."""
    return np.where(np.equal(right, 1), 0.5 + 0.2 * (2 * labels - 1), 0.5 - 0.2 * (2 * labels - 1))


def labels_of(n: int) -> F64:
    return (np.arange(n) % 5 < 3).astype(float)


def against(right: F64, current_right: F64, **more: object) -> Evidence:
    y = labels_of(len(right))
    return Evidence(y, decided(y, right), 0.6, (1000, 1000), current=decided(y, current_right), **more)


# --- the floor by its lower bound


def test_the_lower_bound_must_reach_the_floor() -> None:
    right = (np.arange(1000) % 10 > 0).astype(float)  # 90 %
    given = against(right, right)
    for floor, published in ((0.88, True), (0.89, False)):
        point = judge(given, replace(RULES, min_accuracy=floor))
        lower = judge(given, replace(RULES, min_accuracy=floor, bound="lower"))
        assert point.outcome == "published"
        assert (lower.outcome == "published") is published
    # scipy.stats.beta.ppf(0.05, 900, 101)
    assert line(lower, "min_accuracy").figure == pytest.approx(0.8830, abs=2e-4)
    assert "accuracy 0.900 on 1,000 holdout samples, at least 0.883 with 95 % confidence, is below the floor" in (
        line(lower, "min_accuracy").text
    )


def test_nothing_wrong_on_few_samples_is_not_surely_perfect() -> None:
    decision = judge(against(np.ones(200), np.ones(200)), replace(RULES, min_accuracy=0.99, bound="lower"))
    assert line(decision, "min_accuracy").figure == pytest.approx(0.05 ** (1 / 200))
    assert failed(decision) == {"min_accuracy"}


def test_sessions_widen_the_bound_of_accuracy() -> None:
    groups = np.repeat(np.arange(100, dtype=np.uint64), 10)
    right = (groups % 10 > 0).astype(float)  # whole sessions right or wrong
    rules = replace(RULES, min_accuracy=0.5, bound="lower")
    alone, whole = judge(against(right, right), rules), judge(against(right, right, groups=groups), rules)
    assert line(whole, "min_accuracy").figure == pytest.approx(0.836, abs=0.005)  # as of 100 observations
    assert line(alone, "min_accuracy").figure == pytest.approx(0.883, abs=0.005)


def test_advice_leads_to_a_floor_that_the_lower_bound_reaches() -> None:
    rng = np.random.default_rng(3)
    z = 1.5 * rng.normal(size=1000) + 0.4
    y = (rng.random(1000) < 1 / (1 + np.exp(-z))).astype(float)
    given = Evidence(y, 1 / (1 + np.exp(-z)), 0.6, (1000, 1000), uses=3.0)
    rules = GateRules(min_accuracy=0.9, bound="lower")
    advice = judge(given, rules).advice
    assert advice is not None
    floor = float(advice.split("A floor that makes sense is ")[1].split(":")[0])
    assert judge(given, replace(rules, min_accuracy=floor)).outcome == "published"


# --- better and not worse


def test_better_asks_for_log_loss_and_for_decisions() -> None:
    base = (np.arange(2000) % 20 > 0).astype(float)
    more = base.copy()
    more[np.flatnonzero(base == 0)[:60]] = 1
    rules = replace(RULES, versus_current="better")
    assert judge(against(more, base), rules).outcome == "published"
    given = against(base, base)
    assert failed(judge(given, rules)) == {"versus_current_loss", "versus_current_decisions"}
    surer = replace(given, probabilities=0.5 + 1.5 * (given.probabilities - 0.5))
    assert failed(judge(surer, rules)) == {"versus_current_decisions"}


def test_a_gain_too_small_to_be_worth_a_swap() -> None:
    """Sure, on many samples, but by less than a hundredth of the log loss."""
    given = against(np.ones(50_000), np.ones(50_000))
    surer = replace(given, probabilities=0.5 + 1.005 * (given.probabilities - 0.5))
    decision = judge(surer, replace(RULES, versus_current="better"))
    assert not line(decision, "versus_current_loss").passed
    assert judge(replace(surer, probabilities=given.current, current=surer.probabilities), RULES).outcome == "published"


def lost_and_won(n: int, n_lost: int, n_won: int) -> Evidence:
    candidate, current = np.ones(n), np.ones(n)
    candidate[:n_lost] = 0
    current[n_lost : n_lost + n_won] = 0
    return against(candidate, current)


def test_a_loss_of_two_points_is_noticed_where_the_holdout_is_large_enough() -> None:
    """So many are lost that half of 5 % would let it pass, a level at which 5,000 samples do not notice two points."""
    rule = line(judge(lost_and_won(5000, 305, 263), RULES), "versus_current_decisions")
    assert rule.figure == pytest.approx(0.043, abs=0.002)
    assert rule.bound == pytest.approx(0.052, abs=0.002)
    assert not rule.passed
    assert "a loss of 2 points would be refused with 99.5 % probability" in rule.text
    larger = line(judge(lost_and_won(20_000, 305, 263), RULES), "versus_current_decisions")
    assert larger.bound == pytest.approx(0.025)
    assert larger.passed


def test_each_use_of_the_holdout_notices_it_sooner() -> None:
    given = lost_and_won(8000, 305, 263)
    levels = [line(judge(replace(given, uses=k), RULES), "versus_current_decisions").bound for k in (1.0, 30.0, 900.0)]
    assert levels == sorted(levels)
    assert levels[0] == pytest.approx(0.025)
    assert levels[-1] == pytest.approx(0.1)


def test_on_a_small_holdout_nine_of_ten_equals_pass() -> None:
    rng = np.random.default_rng(4)
    passed = 0
    for _ in range(200):
        right = (rng.random((2, 400)) < 0.75).astype(float)
        decision = judge(against(*right, uses=50.0), RULES)
        assert line(decision, "versus_current_decisions").bound == pytest.approx(0.1)
        passed += line(decision, "versus_current_decisions").passed
    assert passed >= 168


# --- slices


def sliced(worse_in: dict[int, float], sizes: dict[int, int], seed: int = 0) -> Evidence:
    """Versions that are equally good but in some slices, where the candidate is worse by so much."""
    rng = np.random.default_rng(seed)
    slices = np.repeat(np.array(list(sizes), np.uint64), list(sizes.values()))
    current = rng.random(len(slices)) < 0.8
    spoilt = rng.random(len(slices)) < np.array([worse_in.get(int(one), 0.0) for one in slices])
    candidate = current & ~spoilt
    won = ~current & (rng.random(len(slices)) < 0.1)
    right = (candidate | won).astype(float)
    return against(right, current.astype(float), slices=slices, slice_names={1: "law", 2: "code", 3: "chat"})


def test_no_slice_may_get_worse_and_the_receipt_names_it() -> None:
    sizes = {0: 500, 1: 300, 2: 4000, 3: 300}
    decision = judge(sliced({1: 0.15}, sizes), RULES)
    assert failed(decision) == {"slices"}
    rule = line(decision, "slices")
    assert "'law', accuracy" in rule.text
    assert "'code'" not in rule.text
    assert "of 3 slices of at least 100 samples 1 worse beyond chance than with the current version" in rule.text
    assert rule.bound == pytest.approx(0.05)
    assert rule.figure is not None
    assert rule.figure < 0.05
    json.dumps(asdict(decision), allow_nan=False)


def test_small_slices_and_samples_without_one_are_compared_with_the_whole_only() -> None:
    sizes = {0: 300, 1: 99, 2: 4000}
    given = sliced({0: 0.15, 1: 0.3}, sizes)
    assert "slices" not in failed(judge(given, RULES))
    assert "slices" in failed(judge(given, replace(RULES, slice_min_samples=99)))
    none = judge(given, replace(RULES, slice_min_samples=5000))
    assert "no slice has the 5,000 holdout samples" in line(none, "slices").text
    assert line(none, "slices").passed


def test_slices_count_only_where_they_are_known_and_compared() -> None:
    given = sliced({1: 0.3}, {1: 1000, 2: 1000})
    assert "slices" not in names(judge(replace(given, slices=None), RULES))
    assert "slices" not in names(judge(given, replace(RULES, versus_current="off")))
    assert "slices" not in names(judge(replace(given, current=None), RULES))
    light = np.where(given.slices == 1, 0.0, 1.0)
    assert "'code'" in line(judge(replace(given, weights=light), RULES), "slices").text


def test_a_slice_without_a_name_is_called_by_its_hash() -> None:
    given = replace(sliced({1: 0.3}, {1: 1000, 2: 1000}), slice_names={})
    assert "'0000000000000001'" in line(judge(given, RULES), "slices").text


def test_many_equal_slices_are_refused_no_more_often_than_promised() -> None:
    refused = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        slices = np.repeat(np.arange(1, 41, dtype=np.uint64), 120)
        right = (rng.random((2, len(slices))) < 0.75).astype(float)
        refused += not line(judge(against(*right, slices=slices), RULES), "slices").passed
    assert 1 <= refused <= 13  # 5 % are 6, with a standard error of 2.4; exact tests stay below


def test_sessions_of_a_slice_count_as_one() -> None:
    """Forty sessions, of which four got worse as a whole: 100 lost samples are four observations."""
    groups = np.repeat(np.arange(40, dtype=np.uint64), 25)
    right = (groups >= 4).astype(float)
    given = against(right, np.ones(1000), slices=np.ones(1000, np.uint64))
    assert not line(judge(given, RULES), "slices").passed
    assert line(judge(replace(given, groups=groups), RULES), "slices").passed


# --- cost


def test_the_powerful_model_may_get_no_more_than_so_much_more() -> None:
    right = np.ones(1000)
    sent = np.arange(1000) % 10 < 3  # 30 %
    given = against(right, right, powerful=sent, current_powerful=np.arange(1000) % 10 < 2)
    assert "max_powerful_rise" not in names(judge(given, RULES))
    refused = judge(given, replace(RULES, max_powerful_rise=0.05))
    assert failed(refused) == {"max_powerful_rise"}
    rule = line(refused, "max_powerful_rise")
    assert (rule.figure, rule.bound) == (pytest.approx(0.1), 0.05)
    assert "30 % of the requests go to the powerful model, 20 % with the current version" in rule.text
    assert judge(given, replace(RULES, max_powerful_rise=0.1)).outcome == "published"
    assert "max_powerful_rise" not in names(
        judge(replace(given, current_powerful=None), replace(RULES, max_powerful_rise=0.0))
    )


def test_the_share_is_weighed() -> None:
    sent = np.arange(1000) < 300
    given = against(np.ones(1000), np.ones(1000), powerful=sent, current_powerful=~sent)
    weights = np.where(sent, 7.0, 3.0)
    rule = line(judge(replace(given, weights=weights), replace(RULES, max_powerful_rise=0.0)), "max_powerful_rise")
    assert rule.figure == pytest.approx((2100 - 2100) / 4200)
    assert rule.passed


# --- golden cases


def golden(answers: list[float]) -> GoldenAnswers:
    labels = np.array([1, 0, 1, 0], np.float32)
    return GoldenAnswers(("line 1", "line 2", "line 4", "line 5"), labels, np.array(answers))


def test_every_golden_case_must_come_out_right_from_the_first_version_on() -> None:
    given = replace(against(np.ones(1000), np.ones(1000)), current=None)
    right = judge(replace(given, golden=golden([0.5, 0.499, 0.9, 0.1])), RULES)
    assert right.outcome == "published"
    assert line(right, "golden").text == "all 4 golden cases come out right"
    wrong = judge(replace(given, golden=golden([0.499, 0.1, math.nan, 0.1])), RULES)
    assert failed(wrong) == {"golden"}
    assert line(wrong, "golden").figure == 2
    assert "line 1: 0.499 where the label is 1, line 4: nan where the label is 1" in wrong.reason
    json.dumps(asdict(wrong), allow_nan=False)


# --- uses of the holdout


def test_a_use_again_makes_tests_stricter_and_says_so() -> None:
    rng = np.random.default_rng(5)
    z = rng.normal(size=1000)
    y = (rng.random(1000) < 1 / (1 + np.exp(-z - 0.5))).astype(float)
    weak = Evidence(y, 1 / (1 + np.exp(-0.12 * z - 0.5)), 0.62, (1000, 1000))
    rules = GateRules(min_accuracy=0, min_auc=0)
    fresh, worn = judge(weak, rules), judge(replace(weak, uses=40.0), rules)
    assert line(fresh, "beat_baseline").passed
    first, later = line(fresh, "beat_baseline").figure, line(worn, "beat_baseline").figure
    assert first is not None
    assert later is not None
    assert later < first
    assert "none of the holdout samples was used before" in line(fresh, "holdout_uses").text
    rule = line(worn, "holdout_uses")
    assert (rule.passed, rule.figure, rule.bound) == (True, 40.0, None)
    assert "use 40.00 of the holdout samples" in rule.text
    assert "99.9939 % confidence instead of 95 %" in rule.text


def test_advice_where_only_repetition_makes_it_too_strict() -> None:
    rng = np.random.default_rng(6)
    z = rng.normal(size=400)
    y = (rng.random(400) < 1 / (1 + np.exp(-0.6 * z - 0.5))).astype(float)
    given = Evidence(y, 1 / (1 + np.exp(-0.6 * z - 0.5)), 0.62, (1000, 1000), uses=400.0)
    decision = judge(given, GateRules(min_accuracy=0))
    assert failed(decision) == {"beat_baseline"}
    assert decision.advice is not None
    assert "trigger.min_new_samples" in decision.advice


def test_fewer_than_one_use_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"used 0\.5 times"):
        judge(replace(against(np.ones(500), np.ones(500)), uses=0.5), RULES)
