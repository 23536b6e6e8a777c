"""The window as a training takes it: the reservoir is learned from, and judges nothing."""

import numpy as np
from simulated_logs import lines, rows, write_config

from streamtrain.config import load
from streamtrain.dataset.split import HOLDOUT, in_fraction
from streamtrain.intake import Intake

TEXT = "dataset: {window: 1000, reservoir: 0.2}\ntrigger: {min_samples: 500}\ngate: {min_holdout: 100}\n"


def splits_of(folder, n, text=TEXT):
    config = load(write_config(folder, text))
    with (folder / "logs" / "a.jsonl").open("wb") as log:
        log.write(lines(rows(n)))
    with Intake(config, clock=lambda: 1_700_100_000.0) as intake:
        intake.ingest()
        return intake.cut().splits


def test_until_the_window_is_full_there_is_no_reservoir(tmp_path):
    splits = splits_of(tmp_path, 1000)
    assert splits.n_reservoir == 0
    assert sum(splits.sizes.values()) == 1000


def test_the_reservoir_is_learned_from_and_judges_nothing(tmp_path):
    splits = splits_of(tmp_path, 5000)
    assert splits.n_reservoir == 200
    assert sum(splits.sizes.values()) == 1000
    first = 1_700_000_000.0 + 5000 - 800
    for part in (splits.validation, splits.holdout):
        assert part.timestamps.min() >= first
        assert (part.weights == 1).all()
    old = splits.train.timestamps < first
    assert old[:200].all()
    assert not old[200:].any()
    assert abs(float(splits.train.weights[:200].mean()) - 1) < 1e-5
    assert not in_fraction(splits.train.groups, 0.2, 0, HOLDOUT).any()
    assert in_fraction(splits.holdout.groups, 0.2, 0, HOLDOUT).all()
    everyone = np.concatenate([splits.train.keys, splits.validation.keys, splits.holdout.keys])
    assert len(np.unique(everyone)) == 1000
    assert int((splits.train.labels[:200] == 1).sum()) == 100


def test_a_share_of_0_is_the_window_as_it_was(tmp_path):
    splits = splits_of(tmp_path, 5000, TEXT.replace("0.2", "0"))
    assert splits.n_reservoir == 0
    everyone = np.concatenate([splits.train.timestamps, splits.validation.timestamps, splits.holdout.timestamps])
    assert everyone.min() == 1_700_000_000.0 + 4000
    assert len(everyone) == 1000


def test_a_training_sees_the_same_while_the_store_is_open_elsewhere_and_after_a_restart(tmp_path):
    first = splits_of(tmp_path, 5000)
    again = splits_of(tmp_path, 5000)
    for name in ("train", "validation", "holdout"):
        assert getattr(first, name).features.tobytes() == getattr(again, name).features.tobytes()


def test_no_session_is_both_learned_from_and_chosen_by(tmp_path):
    """Long sessions lie astride the reservoir and the recent part of the window."""
    config = load(write_config(tmp_path, TEXT + "schema: {session: session}\n"))
    records = rows(5000)
    for number, one in enumerate(records):
        one["session"] = f"s{number % 40}"
    with (tmp_path / "logs" / "a.jsonl").open("wb") as log:
        log.write(lines(records))
    with Intake(config, clock=lambda: 1_700_100_000.0) as intake:
        intake.ingest()
        splits = intake.cut().splits
    assert splits.n_reservoir > 50
    assert len(splits.validation.labels) > 20
    assert not np.isin(splits.train.groups, splits.validation.groups).any()
