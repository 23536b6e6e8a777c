"""What a candidate leaves for its report: influence of features, bounded size, the same each time."""

import json
from dataclasses import replace

import numpy as np
import pytest
from make_candidate import make_candidate
from sample_maker import make

from streamtrain import portrait as portraits
from streamtrain.answers import answers
from streamtrain.judge import metrics
from streamtrain.portrait import epochs_of, influence, portrait
from streamtrain.publish.artifact import build
from streamtrain.router.load import load
from streamtrain.types import EpochMetrics


def loaded(folder, dim=5, steps=1):
    """A model that does not look at its last feature."""
    candidate = make_candidate(1, input_dim=dim, sequence_length=steps)
    weights = {name: matrix.copy() for name, matrix in candidate.quantized.weights.items()}
    for name in ("w_reset", "w_update", "w_candidate"):
        weights[name][:, -1] = 0
    candidate = replace(candidate, quantized=replace(candidate.quantized, weights=weights))
    for name, data in build(candidate).items():
        (folder / name).write_bytes(data)
    return load(folder)


def answered(model, n, dim=5, seed=0):
    """Samples whose labels are what the model says, mostly."""
    samples = make(n, dim=dim, seed=seed)
    rng = np.random.default_rng(seed)
    samples = replace(samples, labels=(rng.random(n) < answers(model, samples)).astype(np.float32))
    return samples, answers(model, samples)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_feature_that_is_not_looked_at_has_no_influence_and_others_have(tmp_path, steps):
    model = loaded(tmp_path, steps=steps)
    samples, _ = answered(model, 1500)
    told = influence(model, samples, 3)
    assert (told["n_samples"], told["n_features"], len(told["features"])) == (1500, 5, 5)
    losses = {one["feature"]: one["loss"] for one in told["features"]}
    assert losses["feature_4"] == 0.0
    assert max(losses.values()) > 0.005
    assert [one["loss"] for one in told["features"]] == sorted(losses.values(), reverse=True)
    assert influence(model, samples, 3) == told
    assert influence(model, samples, 4) != told


def test_influence_is_the_loss_with_a_column_shuffled(tmp_path):
    model = loaded(tmp_path)
    samples, p = answered(model, 800)
    shuffled = samples.features.copy()
    shuffled[:, 2] = shuffled[np.random.default_rng((7, 2)).permutation(800), 2]
    worse = metrics.log_loss(samples.labels, answers(model, replace(samples, features=shuffled)), samples.weights)
    told = {one["feature"]: one["loss"] for one in influence(model, samples, 7)["features"]}
    expected = worse - metrics.log_loss(samples.labels, p, samples.weights)
    assert told["feature_2"] == pytest.approx(expected, abs=1e-9)


def test_of_many_samples_some_whole_sessions_are_taken(tmp_path):
    model = loaded(tmp_path)
    samples, _ = answered(model, 9000)
    groups = np.repeat(np.random.default_rng(0).integers(1, 2**64, 3000, np.uint64), 3)
    told = influence(model, replace(samples, groups=groups), 0)
    assert portraits.MOST_SAMPLES <= told["n_samples"] < portraits.MOST_SAMPLES + 3


def test_of_many_features_those_that_move_answers_are_asked_about(tmp_path):
    model = loaded(tmp_path, dim=120)
    samples, _ = answered(model, 400, dim=120)
    told = influence(model, samples, 0)
    assert (told["n_features"], len(told["features"])) == (120, portraits.MOST_FEATURES)
    assert "feature_119" not in {one["feature"] for one in told["features"]}


def test_a_portrait_is_small_json_whatever_it_is_of(tmp_path):
    model = loaded(tmp_path, dim=120)
    samples, p = answered(model, 3000, dim=120)
    rng = np.random.default_rng(0)
    slices = rng.integers(0, 2**64, 400, np.uint64)[rng.integers(0, 400, 3000)]
    samples = replace(samples, slices=slices, timestamps=samples.timestamps + 1.7e9)
    names = {int(value): "\U0001f600" * 200 for value in np.unique(slices)}
    told = portrait(model, samples, p, 1 - p, names, 0)
    assert len(json.dumps(told, allow_nan=False)) < 64_000
    assert {"reliability", "slices", "time", "cost", "points", "influence", "current"} == told.keys()
    assert told["points"][0]["accuracy"] == pytest.approx(
        metrics.accuracy(samples.labels, p, samples.weights), abs=1e-5
    )
    assert told["points"][1]["threshold"] == 0.925  # 0.85, and an uncertainty of at most 0.15
    assert told["current"]["accuracy"] == pytest.approx(
        metrics.accuracy(samples.labels, 1 - p, samples.weights), abs=1e-5
    )


def test_a_current_version_that_gives_no_numbers_is_left_out_and_so_is_what_weighs_nothing(tmp_path):
    model = loaded(tmp_path)
    samples, p = answered(model, 500)
    samples = replace(samples, weights=(np.arange(500) % 2).astype(np.float32))
    told = portrait(model, samples, p, np.full(500, np.nan), {}, 0)
    assert told["current"] is None
    assert sum(one["n"] for one in told["time"]) == 250
    assert sum(one["n"] for one in told["reliability"]) == 250


def test_long_learning_curves_are_thinned():
    rows = tuple(EpochMetrics(number, 1.0, 1.0, 0.5, 0.5, 0.1) for number in range(1001))
    thinned = epochs_of(rows)
    assert len(thinned) <= portraits.MOST_EPOCHS + 1
    assert (thinned[0]["epoch"], thinned[-1]["epoch"]) == (0, 1000)
    assert len(epochs_of(rows[:40])) == 40
