from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest

from streamtrain.judge.evidence import Counts, Evidence, GateRules, class_counts
from streamtrain.judge.gate import judge, may_be_heard_again, ready
from streamtrain.types import F64, Decision, Rule

ENOUGH = (1000, 2000)


def sigmoid(z: F64) -> F64:
    return np.asarray(1 / (1 + np.exp(-z)))


def evidence(seed: int = 0, n: int = 1000, spread: float = 1.2, truth: float = 1.0) -> Evidence:
    """Make a candidate that knows what moves the log-odds of each label, `spread` wide, up to the factor `truth`."""
    rng = np.random.default_rng(seed)
    moved = spread * rng.normal(size=n)
    labels = (rng.random(n) < sigmoid(0.7 + moved)).astype(float)
    return Evidence(labels, sigmoid(0.7 + truth * moved), train_base_rate=0.64, n_train_per_class=ENOUGH)


def line(decision: Decision, name: str) -> Rule:
    return next(rule for rule in decision.rules if rule.name == name)


def failed(decision: Decision) -> set[str]:
    return {rule.name for rule in decision.rules if not rule.passed}


LOW = GateRules(min_accuracy=0.6)


def test_a_good_candidate_is_published_with_every_rule_in_words_and_figures() -> None:
    given = evidence()
    decision = judge(given, LOW)
    assert decision.outcome == "published"
    assert decision.version is None
    assert [rule.name for rule in decision.rules] == [
        "min_samples",
        "min_per_class",
        "min_holdout",
        "holdout_classes",
        "finite",
        "min_accuracy",
        "beat_baseline",
        "beat_any_constant",
        "min_auc",
        "learned",
        "holdout_uses",
    ]
    accuracy = np.mean((given.probabilities >= 0.5) == given.labels)
    assert decision.holdout_accuracy == pytest.approx(accuracy)
    assert decision.current_accuracy is None
    assert line(decision, "min_accuracy").figure == pytest.approx(accuracy)
    assert line(decision, "min_accuracy").bound == 0.6
    assert f"Accuracy {accuracy:.3f} on 1,000 holdout samples" in decision.reason
    assert all(rule.text and rule.passed for rule in decision.rules)
    json.dumps(asdict(decision), allow_nan=False)


@pytest.mark.parametrize(
    ("counts", "name", "text"),
    [
        (Counts((300, 300), (100, 299)), "min_samples", "only 999 samples in the window; 1,000 are needed"),
        (Counts((99, 2000), (100, 900)), "min_per_class", "only 99 training samples with label 0; 100 are needed"),
        (Counts((2000, 99), (100, 900)), "min_per_class", "only 99 training samples with label 1; 100 are needed"),
        (Counts((2000, 900), (100, 99)), "min_holdout", "only 199 holdout samples; 200 are needed"),
        (Counts((2000, 900), (900, 9)), "holdout_classes", "only 9 holdout samples with label 1; 10 are needed"),
        (Counts((2000, 900), (900, 90), 19), "holdout_sessions", "only 19 holdout sessions; 20 are needed"),
    ],
)
def test_too_little_is_skipped(counts: Counts, name: str, text: str) -> None:
    decision = ready(counts, GateRules())
    assert decision is not None
    assert decision.outcome == "skipped"
    assert failed(decision) == {name}
    assert decision.reason == text[0].upper() + text[1:]
    assert decision.holdout_accuracy is None


def test_just_enough_is_ready() -> None:
    assert ready(Counts((100, 700), (10, 190), 20), GateRules()) is None
    assert ready(Counts((100, 700), (10, 190)), GateRules()) is None


def test_judging_counts_for_itself() -> None:
    given = evidence()
    assert failed(judge(replace(given, n_train_per_class=(10, 5000)), LOW)) == {"min_per_class"}
    assert failed(judge(evidence(n=150), LOW)) == {"min_holdout"}
    few_sessions = replace(given, groups=np.arange(1000, dtype=np.uint64) % np.uint64(15))
    assert failed(judge(few_sessions, LOW)) == {"holdout_sessions"}
    light = np.ones(1000)
    light[150:] = 0
    assert failed(judge(replace(given, weights=light), LOW)) == {"min_holdout"}
    nobody = replace(given, labels=np.zeros(0), probabilities=np.zeros(0))
    assert judge(nobody, LOW).outcome == "skipped"


def test_class_counts() -> None:
    assert class_counts(np.array([0, 0.4, 0.5, 1, 1], np.float32)) == (2, 3)
    assert class_counts(np.array([0, 0.4, 0.5, 1, 1]), np.array([1, 0, 1, 0, 2])) == (1, 2)


def test_samples_without_weight_do_not_exist() -> None:
    given = evidence()
    weights = np.ones(1000)
    weights[::3] = 0
    kept = weights > 0
    nan_where_unlabelled = np.where(kept, given.probabilities, math.nan)
    masked = judge(replace(given, weights=weights, probabilities=nan_where_unlabelled), LOW)
    cut = judge(replace(given, labels=given.labels[kept], probabilities=given.probabilities[kept]), LOW)
    assert masked == cut


def test_the_floor() -> None:
    given = evidence()
    accuracy = float(np.mean((given.probabilities >= 0.5) == given.labels))
    assert judge(given, GateRules(min_accuracy=accuracy)).outcome == "published"
    refused = judge(given, GateRules(min_accuracy=accuracy + 1e-6))
    assert refused.outcome == "rejected"
    assert failed(refused) == {"min_accuracy"}
    assert refused.reason.startswith(f"Accuracy {accuracy:.3f} on 1,000 holdout samples is below the floor of ")
    assert refused.holdout_accuracy == pytest.approx(accuracy)
    assert "min_accuracy" not in {rule.name for rule in judge(given, GateRules(min_accuracy=0)).rules}


@pytest.mark.parametrize("constant", [0.0, 0.5, 0.64, "train", "holdout", 1.0])
def test_no_constant_passes(constant: float | str) -> None:
    given = evidence()
    rate = {"train": given.train_base_rate, "holdout": float(np.mean(given.labels))}.get(str(constant), constant)
    decision = judge(replace(given, probabilities=np.full(1000, rate)), GateRules(min_accuracy=0, min_auc=0))
    assert decision.outcome == "rejected"
    assert {"beat_any_constant", "beat_baseline"} <= failed(decision)


def test_a_constant_passes_by_luck_where_only_the_training_base_rate_counts() -> None:
    """The reason for the rule against any constant: this one happens to know the holdout's base rate."""
    given = replace(evidence(), train_base_rate=0.5)
    decision = judge(replace(given, probabilities=np.full(1000, np.mean(given.labels))), GateRules(min_auc=0))
    assert line(decision, "beat_baseline").passed
    assert not line(decision, "beat_any_constant").passed


def test_a_small_gain_is_not_enough() -> None:
    """Better in log loss by a hair, within chance."""
    rng = np.random.default_rng(3)
    given = evidence()
    noise = sigmoid(np.log(0.64 / 0.36) + 0.3 * rng.normal(size=1000) + 0.03 * (given.labels - 0.64))
    decision = judge(replace(given, probabilities=noise), LOW)
    assert "beat_baseline" in failed(decision)
    assert "not better beyond chance" in line(decision, "beat_baseline").text


def test_auc() -> None:
    decision = judge(evidence(spread=0.45), GateRules(min_accuracy=0, min_auc=0.65))
    assert "min_auc" in failed(decision)
    figure = line(decision, "min_auc").figure
    assert figure is not None
    assert 0.55 < figure < 0.65


def test_what_is_right_by_accident_is_refused_unless_it_is_right_enough() -> None:
    timid = judge(evidence(truth=0.1), LOW)
    assert failed(timid) == {"learned"}
    assert line(timid, "learned").figure == pytest.approx(10, rel=0.15)
    assert timid.advice is not None
    strong = judge(evidence(spread=4.0, truth=0.3), LOW)
    assert strong.outcome == "published"
    slope = line(strong, "learned").figure
    assert slope is not None
    assert slope > 2


def test_nan_and_infinity_are_refused() -> None:
    given = evidence()
    broken = given.probabilities.copy()
    broken[3], broken[9] = math.nan, math.inf
    decision = judge(replace(given, probabilities=broken), GateRules(min_accuracy=0))
    assert decision.outcome == "rejected"
    assert decision.reason == "2 answers on the holdout are NaN or infinite"
    assert failed(decision) == {"finite"}


def test_beat_baseline_can_be_switched_off() -> None:
    constant = replace(evidence(), probabilities=np.full(1000, 0.9))
    assert judge(constant, GateRules(min_accuracy=0.5, min_auc=0, beat_baseline=False)).outcome == "published"


def worse_and_better() -> tuple[Evidence, F64]:
    """Return evidence of a good candidate, and the answers of a clearly worse one."""
    given = evidence()
    rng = np.random.default_rng(5)
    logits = np.log(given.probabilities / (1 - given.probabilities))
    return given, sigmoid(logits + 1.5 * rng.normal(size=1000))


@pytest.mark.parametrize("versus", ["not_worse", "better"])
def test_a_clearly_worse_candidate_is_refused(versus: str) -> None:
    given, worse = worse_and_better()
    rules = replace(LOW, versus_current=versus, min_auc=0.5, beat_baseline=False)
    decision = judge(replace(given, probabilities=worse, current=given.probabilities, current_version="v7"), rules)
    assert {"versus_current_loss", "versus_current_decisions"} == failed(decision)
    words = {"not_worse": "of v7 is worse beyond chance", "better": "of v7 is not better beyond chance"}
    assert words[versus] in line(decision, "versus_current_decisions").text
    assert decision.current_accuracy == pytest.approx(np.mean((given.probabilities >= 0.5) == given.labels))


def test_a_clearly_better_candidate_passes_either_way() -> None:
    given, worse = worse_and_better()
    for versus in ("not_worse", "better"):
        decision = judge(replace(given, current=worse), replace(LOW, versus_current=versus))
        assert decision.outcome == "published"
        assert "the current version on the same samples" in decision.reason


def test_an_equal_candidate_is_not_worse_and_not_better() -> None:
    given = evidence()
    same = replace(given, current=given.probabilities)
    assert judge(same, LOW).outcome == "published"
    assert failed(judge(same, replace(LOW, versus_current="better"))) == {
        "versus_current_loss",
        "versus_current_decisions",
    }


def test_the_comparison_can_be_switched_off() -> None:
    given, worse = worse_and_better()
    rules = GateRules(min_accuracy=0, min_auc=0, beat_baseline=False, versus_current="off")
    decision = judge(replace(given, probabilities=worse, current=given.probabilities), rules)
    assert decision.outcome == "published"
    assert decision.current_accuracy is not None


def test_decisions_count_even_where_log_loss_is_better() -> None:
    """A candidate that is better calibrated but decides worse is refused by McNemar's test alone."""
    rng = np.random.default_rng(8)
    labels = (np.arange(1000) % 10 < 7).astype(float)
    current = np.where(labels == 1, 0.99, np.where(rng.random(1000) < 0.15, 0.99999, 0.01))
    flipped = rng.random(1000) < 0.09
    candidate = np.where(flipped, 0.5 + 0.01 * (1 - 2 * labels), np.where(labels == 1, 0.9, 0.1))
    decision = judge(replace(evidence(), labels=labels, probabilities=candidate, current=current), LOW)
    assert failed(decision) == {"versus_current_decisions"}


def test_many_small_sessions_lost_against_few_large_ones_won_is_no_loss() -> None:
    rng = np.random.default_rng(9)
    groups = np.concatenate((np.arange(400), np.repeat(np.arange(400, 430), 20))).astype(np.uint64)
    labels = (rng.random(1000) < 0.6).astype(float)
    small = groups < 400
    lost = small & (np.arange(1000) % 4 == 0)  # 100 sessions of one, against 30 sessions of twenty
    candidate = np.where(lost, 0.5 + 0.02 * (0.5 - labels), 0.5 + 0.3 * (labels - 0.5))
    current = np.where(small, 0.5 + 0.3 * (labels - 0.5), 0.5 + 0.02 * (0.5 - labels))
    given = replace(evidence(), labels=labels, probabilities=candidate, current=current, groups=groups)
    decision = judge(given, replace(LOW, beat_baseline=False))
    assert line(decision, "versus_current_decisions").figure == pytest.approx(0, abs=1e-6)
    assert decision.outcome == "published"


def test_both_tests_together_keep_to_the_confidence() -> None:
    given = evidence()
    decision = judge(replace(given, current=given.probabilities), replace(LOW, confidence=0.9))
    assert line(decision, "versus_current_decisions").bound == pytest.approx(0.05)
    assert "95 % confidence" in line(decision, "versus_current_loss").text
    assert "90 % confidence" in line(decision, "beat_baseline").text


def test_a_current_version_that_answers_nan_protects_nothing() -> None:
    given = evidence()
    decision = judge(replace(given, current=np.full(1000, math.nan)), LOW)
    assert decision.outcome == "published"
    assert decision.current_accuracy is None


def test_sessions_weigh_as_one() -> None:
    """Repeating each sample ten times within its session must not turn chance into evidence."""
    n_passed = n_passed_alone = 0
    for seed in range(60):
        weak = evidence(seed=seed, n=120, spread=0.5, truth=1.0)
        groups = np.repeat(np.arange(120, dtype=np.uint64), 10)
        repeated = replace(weak, labels=np.repeat(weak.labels, 10), probabilities=np.repeat(weak.probabilities, 10))
        rules = GateRules(min_accuracy=0, min_auc=0, min_samples=1)
        n_passed += line(judge(replace(repeated, groups=groups), rules), "beat_baseline").passed
        n_passed_alone += line(judge(repeated, rules), "beat_baseline").passed
    assert n_passed < 0.6 * n_passed_alone


def test_advice_where_the_floor_is_out_of_reach() -> None:
    given = replace(evidence(), recent_accuracies=(0.715, 0.722))
    decision = judge(given, GateRules())
    assert decision.advice is not None
    majority = max(np.mean(given.labels), 1 - np.mean(given.labels))
    assert "gate.min_accuracy = 0.85 is out of reach" in decision.advice
    assert f"commoner answer is right on {majority:.3f}" in decision.advice
    assert "the best of the last 3 on 0.7" in decision.advice
    floor = float(decision.advice.split("A floor that makes sense is ")[1].split(":")[0])
    assert majority < floor < 0.73
    assert judge(given, GateRules(min_accuracy=floor)).outcome == "published"


def test_advice_where_the_floor_is_nearly_reached() -> None:
    given = evidence()
    accuracy = float(np.mean((given.probabilities >= 0.5) == given.labels))
    decision = judge(given, GateRules(min_accuracy=accuracy + 0.01))
    assert decision.advice is not None
    assert "within reach" in decision.advice


def test_advice_where_no_floor_makes_sense() -> None:
    decision = judge(evidence(seed=1, n=300, spread=0.9), GateRules(min_auc=0.55))
    assert failed(decision) == {"min_accuracy"}
    assert decision.advice is not None
    assert "gate.min_accuracy: 0" in decision.advice


def test_advice_where_the_floor_keeps_a_better_version_out() -> None:
    given, worse = worse_and_better()
    decision = judge(replace(given, current=worse), GateRules())
    assert decision.advice is not None
    assert "the floor keeps a better candidate out" in decision.advice
    decision = judge(replace(given, current=given.probabilities), GateRules())
    assert decision.advice is not None
    assert "keeps a better candidate out" not in decision.advice


def test_advice_where_nothing_was_learned() -> None:
    rng = np.random.default_rng(0)
    decision = judge(replace(evidence(), probabilities=rng.random(1000)), GateRules())
    assert decision.advice is not None
    assert "schema.features" in decision.advice
    assert "makes sense" not in decision.advice


def test_advice_where_the_floor_does_nothing() -> None:
    decision = judge(evidence(), GateRules(min_accuracy=0.5))
    assert decision.outcome == "published"
    assert decision.advice is not None
    assert "tells nothing here" in decision.advice


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"probabilities": np.zeros(7)}, "probabilities"),
        ({"current": np.zeros(7)}, "current"),
        ({"weights": np.zeros(7)}, "weights have the shape"),
        ({"weights": np.full(1000, -1.0)}, "weights are negative"),
        ({"weights": np.full(1000, math.nan)}, "weights are negative, NaN"),
        ({"groups": np.zeros(7, np.uint64)}, "groups"),
        ({"labels": np.full(1000, 2.0)}, "labels"),
        ({"labels": np.full(1000, math.nan)}, "labels"),
        ({"probabilities": np.full(1000, 1.5)}, "probabilities"),
        ({"train_base_rate": math.nan}, "base rate"),
    ],
)
def test_evidence_that_does_not_go_together_is_an_error(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        judge(replace(evidence(), **change), LOW)


@pytest.mark.parametrize(
    ("outcome", "names", "heard"),
    [
        ("rejected", ["beat_baseline"], True),
        ("rejected", ["beat_baseline", "beat_any_constant"], True),
        ("rejected", ["beat_baseline", "versus_current_loss"], False),
        ("rejected", ["beat_baseline", "min_accuracy"], False),
        ("rejected", ["beat_baseline", "learned"], False),
        ("rejected", ["slices"], False),
        ("rejected", ["golden"], False),
        ("rejected", ["not_rolled_back"], False),
        ("rejected", [], False),
        ("skipped", ["beat_baseline"], False),
        ("published", [], False),
    ],
)
def test_only_what_samples_decided_about_may_be_heard_again(outcome: str, names: list[str], heard: bool) -> None:
    rules = (Rule("min_auc", True, 0.7, 0.6, ""), *(Rule(name, False, 0.0, 0.0, "") for name in names))
    assert may_be_heard_again(Decision(outcome, None, "", rules=rules)) == heard  # type: ignore[arg-type]
