"""The world turns over: an alarm, a training at once, and a version that was judged by what came after."""

import logging

import numpy as np
import pytest
from simulated_logs import lines, rows, write_config

from streamtrain.config import load
from streamtrain.cycle import Cycle
from streamtrain.router.load import load as load_served


class Life:
    """Log lines arrive, the cycle does what the daemon does; a clock of its own."""

    def __init__(self, folder, text=""):
        self.log, self.now, self.n = folder / "logs" / "a.jsonl", 1_700_000_000.0, 0
        self.config = load(write_config(folder, text))
        self.cycle = Cycle(self.config, lambda: self.now)
        self.decisions = []

    def live(self, n, flipped=False, step=100):
        for _ in range(0, n, step):
            made = rows(step, seed=self.n, first_id=self.n, flipped=flipped)
            with self.log.open("ab") as out:
                out.write(lines(made))
            self.n += step
            self.now += step
            self.cycle.ingest()
            if self.cycle.due():
                self.decisions.append((self.n, self.cycle.learn(workers=1)))

    def accuracy(self, flipped):
        fresh = rows(2000, seed=10**6, noise=0.0, flipped=flipped)
        model = load_served(self.config.models.directory)
        x = [[row[name] for name in model.features] for row in fresh]
        return np.mean((model.score_batch(x) >= 0.5) == [row["lightweight_successful"] for row in fresh])

    def change(self):
        return self.cycle.store.get("prequential")["state"]["change"]


@pytest.fixture
def turned(tmp_path):
    # So rare by themselves that every training after the change is the alarm's.
    life = Life(tmp_path, "trigger: {min_new_samples: 2500, max_interval: 1d}\n")
    life.live(5000)
    yield life
    life.cycle.close()


def test_what_serves_is_right_again_soon(turned, caplog):
    assert turned.accuracy(flipped=False) > 0.9
    before, n_before = turned.cycle.registry.current(), len(turned.decisions)
    with caplog.at_level(logging.WARNING):
        turned.live(700, flipped=True)
    change = turned.change()
    assert change["open"]
    assert abs(change["n"] - 5000) <= 20
    assert abs(change["time_s"] - 1_700_005_000) <= 20
    assert change["found"] < 5150
    assert caplog.text.count("drift: ") == 1
    assert turned.cycle.store.get("prequential")["drift"] > 1
    assert len(turned.decisions) == n_before  # there is not enough to judge by yet
    turned.live(1300, flipped=True)
    after = turned.decisions[n_before:]
    assert after[0][0] < 6300
    assert len(after) >= 2  # and again as it grows
    published = [one for one in turned.cycle.registry.receipts.read() if one["outcome"] == "published"][-1]
    assert published["version"] != before
    assert published["judged_since"] == change["time_s"]
    assert published["window"]["holdout"] < 500
    assert published["won_by"] > 0
    assert {one["name"] for one in published["challengers"]} >= {
        *("fine-tuned", "fine-tuned-fast", "scratch", "scratch-calm"),
        *("fine-tuned-recent-1/2", "fine-tuned-recent-1/4", "fine-tuned-recent-1/8"),
        *("fine-tuned-since", "scratch-since", "scratch-calm-since"),
    }
    assert turned.cycle.registry.manifest(published["version"])["lineage"]["judged_since"] == change["time_s"]
    assert turned.accuracy(flipped=True) > 0.9
    fact = turned.cycle.store.get("prequential")
    assert not fact["state"]["change"]["open"]
    assert fact["drift"] <= 1


def test_a_restart_does_not_forget_the_change(turned):
    turned.live(1300, flipped=True)
    before = turned.cycle._prequential.change()
    assert turned.cycle._judging.cut(turned.cycle.intake.cut(), before.time_s)[1] == before.time_s
    turned.cycle.close()
    turned.cycle = Cycle(turned.config, lambda: turned.now)
    assert turned.cycle._prequential.change() == before


def test_without_detectors_nothing_is_noticed(tmp_path):
    life = Life(tmp_path, "trigger: {min_new_samples: 2500, max_interval: 1d}\ndrift: {detect: false}\n")
    life.live(3000)
    n_before = len(life.decisions)
    life.live(1500, flipped=True)
    assert life.change() is None
    assert all(n in (2500, 5000) for n, _ in life.decisions[n_before:])
    life.cycle.close()


def test_banned_weights_that_come_again_are_refused_with_a_receipt(tmp_path):
    life = Life(tmp_path, "trigger: {min_new_samples: 2500, max_interval: 1d}\n")
    life.live(2500)
    registry = life.cycle.registry
    first = registry.current()
    # The same training once more, from nothing as the first time: the same weights.
    (life.config.models.directory / "current").unlink()
    again = life.cycle.learn(workers=1)
    assert again.outcome == "published"
    registry.withdraw(first, "It was worse.")
    (life.config.models.directory / "current").unlink()
    refused = life.cycle.learn(workers=1)
    assert refused.outcome == "rejected"
    assert [rule.name for rule in refused.rules] == ["not_rolled_back"]
    receipt = registry.receipts.read()[-1]
    assert receipt["outcome"] == "rejected"
    assert "It was worse." in receipt["reason"]
    assert registry.current() is None
    life.cycle.close()


def test_new_samples_are_answered_before_they_are_trained_on(tmp_path):
    """What is read while a training runs, and before its version is published, is answered by the one before it."""
    life = Life(tmp_path, "trigger: {min_new_samples: 1500, max_interval: 1d}\n")
    life.live(1500)
    first = life.cycle.registry.current()
    answered = []
    store, real = life.cycle.store, life.cycle.store.set

    def noting(key, value):
        if key == "prequential":
            answered.append((value["state"]["n"], value["state"]["champion"], life.cycle.registry.current()))
        real(key, value)

    store.set = noting
    made = rows(1500, seed=5, first_id=1500)
    with life.log.open("ab") as out:
        out.write(lines(made))
    life.cycle.intake.ingest()  # as `once` does, which lets nothing be answered by itself
    assert life.cycle.learn(workers=1).outcome == "published"
    assert answered[-1] == (3000, first, first)
    life.cycle.ingest()
    assert life.cycle.store.get("prequential")["state"]["champion"] == life.cycle.registry.current() != first
    life.cycle.close()
