"""Calibration and the promised error rate through the whole flow: from log lines to what a router decides."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from simulated_logs import lines, rows, write_config

from streamtrain import Router
from streamtrain.config import ConfigError, load
from streamtrain.cycle import Cycle
from streamtrain.judge.metrics import ece
from streamtrain.publish.artifact import load_candidate

sys.path.append(str(Path(__file__).parents[1] / "bench"))
import calibration as bench


def learn(folder, text, n=5000, seed=0):
    config = load(write_config(folder, text))
    (folder / "logs" / "a.jsonl").write_bytes(lines(rows(n, seed=seed)))
    with Cycle(config) as cycle:
        cycle.ingest()
        decision = cycle.learn()
        splits = cycle.intake.splits()
    assert decision.outcome == "published", decision.reason
    version = folder / "models" / "current"
    receipt = json.loads((folder / "models" / "receipts.jsonl").read_text().splitlines()[-1])
    return splits, json.loads((version / "manifest.json").read_text()), receipt, version


def test_a_version_advises_the_threshold_that_keeps_the_promise(tmp_path):
    splits, manifest, receipt, _ = learn(tmp_path, "router: {max_error: 0.05}\ndataset: {holdout: 0.25}\n")
    advice, promised = manifest["router"], receipt["promise"]
    assert advice["promised"] is True
    assert advice["max_error"] == 0.05
    assert 0.5 < advice["threshold"] < 1.0
    assert (advice["threshold"], advice["share_lightweight"]) == (promised["threshold"], promised["share"])
    assert promised["bound"] <= 0.05
    assert "95 % confidence" in promised["text"]
    assert receipt["window"]["promise"] == promised["n_samples"] == len(splits.promise.labels) > 1000
    with Router(tmp_path / "models", poll_interval_s=None) as router:
        assert router.threshold == advice["threshold"]
        decisions = [router.route(row) for row in splits.promise.features]
    light = np.array([one.use_lightweight for one in decisions])
    assert light.sum() == promised["n_routed"]
    assert (splits.promise.labels[light] < 0.5).mean() == pytest.approx(promised["error"])


def test_what_is_set_aside_is_nobody_elses(tmp_path):
    splits, *_ = learn(tmp_path, "router: {max_error: 0.05}\n")
    parts = [splits.train, splits.validation, splits.holdout, splits.promise]
    assert (
        sum(len(part.keys) for part in parts) == len(np.unique(np.concatenate([part.keys for part in parts]))) == 5000
    )
    assert len(splits.promise.keys) == pytest.approx(len(splits.holdout.keys), rel=0.15)


def test_a_promise_that_cannot_be_kept_sends_all_to_the_powerful_model(tmp_path):
    _, manifest, receipt, _ = learn(tmp_path, "router: {max_error: 0.004}\n")
    assert manifest["router"]["promised"] is False
    assert manifest["router"]["threshold"] == 1.0
    assert "no threshold" in receipt["promise"]["text"]
    with Router(tmp_path / "models", poll_interval_s=None) as router:
        assert not any(router.route(x).use_lightweight for x in np.random.default_rng(0).random((500, 5)))


def test_without_a_promise_routers_decide_as_before(tmp_path):
    splits, manifest, receipt, _ = learn(tmp_path, "", n=3000)
    assert splits.promise is None
    assert "promise" not in receipt["window"]
    assert receipt["promise"] is None
    assert "router" not in manifest


def test_rates_that_no_holdout_can_show_are_a_mistake_of_the_configuration(tmp_path):
    with pytest.raises(ConfigError, match="routed samples without one mistake"):
        load(write_config(tmp_path, "router: {max_error: 0.001}\ndataset: {window: 2000}\n"))
    with pytest.raises(ConfigError, match=r"router\.max_error"):
        load(write_config(tmp_path, "router: {max_error: 0}\n"))


def test_ten_thousand_samples_are_calibrated(tmp_path):
    splits, manifest, receipt, version = learn(tmp_path, "", n=10_000)
    fresh = rows(100_000, seed=77)
    labels = np.array([row["lightweight_successful"] for row in fresh], float)
    with Router(tmp_path / "models", poll_interval_s=None) as router:
        features = np.array([[row[name] for name in router.model.features] for row in fresh])
        assert ece(labels, router.score_batch(features)) <= 0.03
    metrics = json.loads((version / "metrics.json").read_text())["holdout"]
    assert metrics["ece_of"].startswith("15 bins of equal width")
    assert sum(one["n_samples"] for one in metrics["reliability"]) == len(splits.holdout.labels)
    assert manifest["calibration"] == receipt["calibration"]
    assert manifest["calibration"]["method"] in ("none", "temperature", "platt")


def test_a_timid_model_is_made_bold_and_fine_tuning_goes_on_from_there(tmp_path):
    """A heavy penalty keeps weights small and answers near the base rate; the next cycle must not begin anew."""
    text = "training: {l2_reg: 0.05, fine_tune_epochs: 1}\ngate: {versus_current: 'off', min_accuracy: 0.5}\n"
    _, manifest, _, version = learn(tmp_path, text)
    assert manifest["calibration"]["slope"] > 1.2
    assert manifest["calibration"]["loss_after"] < manifest["calibration"]["loss_before"] - 0.002
    first = load_candidate(version.resolve())
    scale = first.quantized.scales["w_output"] * np.abs(first.quantized.weights["w_output"]).max()
    assert np.abs(first.params.w_output).max() == pytest.approx(scale[0], rel=0.01)
    plain = tmp_path / "plain"
    plain.mkdir()
    _, manifest, _, version = learn(plain, text.replace("l2_reg", "calibrate: false, l2_reg"))
    assert manifest["calibration"]["method"] == "none"
    uncalibrated = load_candidate(version.resolve())
    np.testing.assert_allclose(uncalibrated.params.w_update, first.params.w_update)
    assert np.abs(uncalibrated.params.w_output).max() < np.abs(first.params.w_output).max()


@pytest.mark.parametrize("name", ["noisy outcomes", "noisy, sessions of 4"])
def test_the_promise_holds_on_fresh_requests(name):
    """Whole passes; `bench/calibration.py` makes 200 of each."""
    world = bench.WORLDS[name]
    made = [bench.run(world, seed, "training: {preset: medium, epochs: 8}\n", 6000) for seed in range(5)]
    assert sum(one.kept for one in made) >= 3
    assert sum(one.error > world.max_error for one in made) <= 1
