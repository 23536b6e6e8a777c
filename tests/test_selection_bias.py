"""Outcomes that are logged only where the lightweight model was tried: what is measured is of all requests."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from simulated_logs import FEATURES, lines, rows, write_config
from test_cycle import command

from streamtrain import Router
from streamtrain.config import load
from streamtrain.cycle import Cycle
from streamtrain.dataset.exploration import explore, with_one_route
from streamtrain.judge import metrics
from streamtrain.judge.evidence import Evidence, GateRules
from streamtrain.judge.gate import judge
from streamtrain.judge.metrics import log_losses, report
from streamtrain.judge.paired import mean_difference


def population(rng, n):
    """Outcomes, answers that are bold where little is seen, and the chance that the outcome is seen."""
    score = rng.random(n)
    labels = (rng.random(n) < np.where(score > 0.5, 0.6 + 0.4 * score, 0.4)).astype(float)
    answers = np.clip(0.05 + 0.9 * score, 0.01, 0.99)
    seen = np.where(score > 0.5, 0.9, 0.15)
    return labels, answers, seen


TRUTH = population(np.random.default_rng(99), 2_000_000)[:2]


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "auc", "brier", "ece", "base_rate"])
def test_weighted_metrics_are_those_of_all_requests(metric):
    rng = np.random.default_rng(1)
    function = getattr(metrics, metric)
    given = (lambda y, p, w: function(y, w)) if metric == "base_rate" else function
    truth = given(*TRUTH, None)
    weighted, plain = [], []
    for _ in range(100):
        labels, answers, chance = population(rng, 4000)
        seen = rng.random(4000) < chance
        weighted.append(given(labels[seen], answers[seen], 1 / chance[seen]))
        plain.append(given(labels[seen], answers[seen], None))
    error = np.std(weighted) / 10
    # Bins of some samples look a little less calibrated than they are, whatever the weights.
    slack = 0.006 if metric == "ece" else 0.0
    assert abs(np.mean(weighted) - truth) < 4 * error + slack
    assert abs(np.mean(plain) - truth) > 4 * error + slack


def test_bounds_hold_for_all_requests():
    """One-sided bounds at 95 %: of 400, some 20 are expected to fail; of unweighted ones nearly all do."""
    rng = np.random.default_rng(2)
    truth = float(log_losses(*TRUTH).mean())
    failed = {"weighted": 0, "plain": 0}
    for _ in range(400):
        labels, answers, chance = population(rng, 3000)
        seen = rng.random(3000) < chance
        losses = log_losses(labels[seen], answers[seen])
        for name, weights in (("weighted", 1 / chance[seen]), ("plain", np.ones(seen.sum()))):
            found = mean_difference(losses, weights)
            failed[name] += not found.lower(0.95) <= truth
            failed[name] += not truth <= found.upper(0.95)
    assert 15 < failed["weighted"] < 70
    assert failed["plain"] > 350


def test_the_gate_bounds_by_the_effective_number_of_samples():
    """Weights that say no more than a tenth of the samples would widen the bounds to what a tenth would give."""
    rng = np.random.default_rng(3)
    labels, answers, _ = population(rng, 4000)
    weights = np.where(rng.random(4000) < 0.02, 100.0, 1.0)
    effective = weights.sum() ** 2 / (weights**2).sum()
    assert effective < 500
    gain = log_losses(labels, np.full(4000, labels.mean())) - log_losses(labels, answers)
    equal, weighted = mean_difference(gain, np.ones(4000)), mean_difference(gain, weights)
    assert weighted.degrees_of_freedom == pytest.approx(effective - 1)
    ratio = weighted.standard_error / equal.standard_error
    assert ratio == pytest.approx(np.sqrt(4000 / effective), rel=0.25)
    rules = GateRules(min_accuracy=0, min_samples=1, min_per_class=1, min_holdout=1)
    rate = float(np.average(labels, weights=weights))
    verdict = judge(Evidence(labels, np.clip(answers, 0.4, 0.6), rate, (500, 500), weights=weights), rules)
    (line,) = [rule for rule in verdict.rules if rule.name == "beat_baseline"]
    losses = log_losses(labels, np.full(4000, rate)) - log_losses(labels, np.clip(answers, 0.4, 0.6))
    assert line.figure == pytest.approx(mean_difference(losses, weights).lower(0.95))


def log_of(folder, n=12_000, known=True, seed=0):
    """A router that tries the lightweight model where similarity is high, and elsewhere in one case of five."""
    rng = np.random.default_rng(seed)
    # Where it is rarely tried, outcomes are as good as coin tosses.
    made = rows(n, seed=seed)
    for row in made:
        if row["similarity_score"] < 0.5:
            row["lightweight_successful"] = bool(rng.random() < 0.5)
    chance = np.array([0.95 if row["similarity_score"] >= 0.5 else 0.2 for row in made])
    seen = rng.random(n) < chance
    logged = [made[i] | ({"p": float(chance[i])} if known else {}) for i in np.flatnonzero(seen)]
    (folder / "logs").mkdir(exist_ok=True)
    (folder / "logs" / "a.jsonl").write_bytes(lines(logged))
    return made


def learned(folder, text):
    with Cycle(load(write_config(folder, "gate: {min_accuracy: 0.5}\n" + text))) as cycle:
        cycle.ingest()
        decision = cycle.learn()
        splits = cycle.intake.splits()
    assert decision.outcome == "published", decision.reason
    receipt = json.loads((folder / "models" / "receipts.jsonl").read_text().splitlines()[-1])
    return decision, splits, receipt


def test_what_the_gate_says_of_a_version_is_true_of_all_requests(tmp_path):
    log_of(tmp_path)
    decision, splits, receipt = learned(tmp_path, "schema: {propensity: p}\n")
    everyone = log_of(tmp_path, 60_000, seed=5)
    with Router(tmp_path / "models", poll_interval_s=None) as router:
        features = np.array([[row[name] for name in FEATURES] for row in everyone])
        labels = np.array([row["lightweight_successful"] for row in everyone], float)
        truth = report(labels, router.score_batch(features))
        held = router.score_batch(splits.holdout.features)
    weighted = report(splits.holdout.labels, held, splits.holdout.weights)
    assert decision.holdout_accuracy == pytest.approx(weighted.accuracy, abs=1e-12)
    right = ((held >= 0.5) == (splits.holdout.labels >= 0.5)).astype(float)
    error = mean_difference(right, splits.holdout.weights.astype(float)).standard_error
    assert abs(weighted.accuracy - truth.accuracy) < 3 * error
    plain = report(splits.holdout.labels, held)
    assert plain.accuracy > truth.accuracy + 3 * error
    exploration = receipt["exploration"]
    assert (exploration["status"], exploration["warning"]) == ("some", False)
    window = np.concatenate([part.weights for part in (splits.train, splits.validation, splits.holdout)])
    assert exploration["effective"] == pytest.approx(window.sum() ** 2 / (window.astype(float) ** 2).sum(), rel=1e-5)


def test_training_follows_all_requests_too(tmp_path):
    """Where little was tried, a model trained without weights is led by what it saw elsewhere."""
    for name, text in (("weighted", "schema: {propensity: p}\n"), ("plain", "")):
        (tmp_path / name).mkdir()
        log_of(tmp_path / name)
        learned(tmp_path / name, text)
    everyone = log_of(tmp_path, 60_000, seed=5)
    features = np.array([[row[name] for name in FEATURES] for row in everyone])
    labels = np.array([row["lightweight_successful"] for row in everyone], float)
    loss = {}
    for name in ("weighted", "plain"):
        with Router(tmp_path / name / "models", poll_interval_s=None) as router:
            loss[name] = report(labels, router.score_batch(features)).log_loss
    assert loss["weighted"] < loss["plain"]


def columns(*chances):
    return [(np.ones(len(part), np.float32), np.asarray(part, np.float32)) for part in chances]


def test_what_a_log_says_of_its_choices():
    nothing = explore(columns([np.nan] * 500, [np.nan] * 500), 10)
    assert (nothing.status, nothing.warning, nothing.n_samples, nothing.effective) == ("unknown", False, 1000, 1000)
    certain = explore(columns([1.0] * 300, [np.nan] * 20), 10)
    assert (certain.status, certain.warning, certain.n_known) == ("none", True, 300)
    some = explore(columns([0.5] * 300, [0.25] * 100), 10)
    assert (some.status, some.warning, some.n_clipped) == ("some", False, 0)
    assert some.effective == pytest.approx(1000**2 / (300 * 4 + 100 * 16))
    partly = explore(columns([0.5] * 300 + [np.nan] * 5), 10)
    assert partly.warning
    rare = explore(columns([1.0] * 1000 + [0.001] * 3), 10)
    assert rare.n_clipped == 3
    assert "3 were tried so rarely" in rare.text
    few = explore(columns([1.0] * 5000 + [0.0005] * 2), 1e6)
    assert few.warning
    assert "explore more" in few.text
    assert explore([], 10).n_samples == 0


def test_a_log_of_one_route_is_noticed():
    unknown, some = explore(columns([np.nan] * 500), 10), explore(columns([0.5] * 500), 10)
    every = np.ones(400)
    found = with_one_route(unknown, every, 0.925)
    assert (found.status, found.warning) == ("one_route", True)
    assert "0.925" in found.text
    assert with_one_route(some, every, 0.925) is some
    assert with_one_route(unknown, np.r_[every, np.zeros(10)], 0.925) is unknown
    assert with_one_route(unknown, every[:100], 0.925) is unknown


def test_no_exploration_is_told_everywhere_once(tmp_path, caplog):
    file = write_config(tmp_path, "schema: {propensity: p}\ngate: {versus_current: 'off'}\n")
    log = tmp_path / "logs" / "a.jsonl"
    log.write_bytes(lines([row | {"p": 1.0} for row in rows(2000)]))
    with Cycle(load(file)) as cycle, caplog.at_level(logging.INFO, "streamtrain.cycle"):
        cycle.ingest()
        assert cycle.learn().outcome == "published"
        with log.open("ab") as out:
            out.write(lines([row | {"p": 1.0} for row in rows(600, seed=1, first_id=2000)]))
        cycle.ingest()
        cycle.learn()
    told = [one for one in caplog.records if one.getMessage().startswith("exploration: ")]
    assert [one.levelname for one in told] == ["WARNING"]
    assert "all 2,000 propensities are 1" in told[0].getMessage()
    receipts = [json.loads(line) for line in (tmp_path / "models" / "receipts.jsonl").read_text().splitlines()]
    assert [one["exploration"]["status"] for one in receipts] == ["none", "none"]
    state = json.loads(command("status", "--config", file, "--json").stdout)
    assert state["exploration"]["warning"] is True
    assert "bias      all 2,600 propensities are 1" in command("status", "--config", file).stdout
    checked = json.loads(command("check", "--config", file, "--json").stdout)
    assert checked["notes"] == [state["exploration"]["text"]]
    assert "# note: all 2,600 propensities are 1" in command("check", "--config", file).stdout


def test_a_log_filtered_by_the_current_version_is_noticed_in_the_flow(tmp_path):
    """From the second version on, only what the first one is sure of is logged."""
    file = write_config(tmp_path, "gate: {versus_current: 'off', min_accuracy: 0, beat_baseline: false, min_auc: 0}\n")
    log = tmp_path / "logs" / "a.jsonl"
    log.write_bytes(lines(rows(3000)))
    config = load(file)
    with Cycle(config) as cycle:
        cycle.ingest()
        assert cycle.learn().outcome == "published"
        assert cycle.intake.cut().exploration.status == "unknown"
        with Router(tmp_path / "models", poll_interval_s=None) as router:
            fresh = rows(30_000, seed=4, first_id=10_000, noise=0.4)
            light = [one for one in fresh if router.route([one[name] for name in FEATURES]).use_lightweight]
    assert len(light) > 2000
    log.write_bytes(lines(light))
    (tmp_path / "state" / "state.db").unlink()
    with Cycle(config) as cycle:
        cycle.ingest()
        decision = cycle.learn()
    receipt = json.loads((tmp_path / "models" / "receipts.jsonl").read_text().splitlines()[-1])
    assert decision.outcome in ("published", "rejected")
    assert receipt["exploration"]["status"] == "one_route"
