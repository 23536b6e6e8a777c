"""An epoch is one call of a kernel; from another thread, each of its batches can be seen go by."""

import threading
import time

import numpy as np

from streamtrain.kernels.layout import Layout
from streamtrain.model.params import initialise, pack
from streamtrain.train.fit import Optimiser, Scorer, Split
from streamtrain.train.meter import Meter, counted
from streamtrain.train.presets import TrainingConfig
from streamtrain.types import FastGRNNConfig

CONFIG = FastGRNNConfig(5, 16)
N = 500_000


def watched(work):
    """How many different readings there were while the work ran, in a thread of its own."""
    meter = Meter()
    thread = threading.Thread(target=work, args=(meter,))
    seen = set()
    thread.start()
    while thread.is_alive():
        seen.add(meter.read())
        time.sleep(0.0005)
    thread.join()
    return len(seen)


def split():
    rng = np.random.default_rng(0)
    x = rng.random(N * 5, np.float32)
    return Split(x, (x[::5] > 0.5).astype(np.float32), np.ones(N, np.float32), np.zeros(0, np.float32))


def often(make):
    """At least one of a few tries is seen in many states: a busy machine may not let anybody look."""
    return max(watched(make) for _ in range(5)) >= 5


def test_progress_is_seen_within_one_epoch():
    data, layout = split(), Layout(5, 16, 1)

    def one_epoch(meter):
        optimiser = Optimiser(CONFIG, TrainingConfig(batch_size=16), layout, meter=meter)
        optimiser.start(pack(initialise(CONFIG, 0), layout))
        assert optimiser.epoch(data, 1e-3, 1) is not None

    assert often(one_epoch)


def test_progress_is_seen_within_one_evaluation():
    data = split()

    def one_evaluation(meter):
        scorer = Scorer(CONFIG, 1, meter)
        scorer.evaluate(pack(initialise(CONFIG, 0), scorer.layout), data)

    assert often(one_evaluation)


def test_what_began_and_what_ended_is_progress_too():
    meter, counters = Meter(), np.zeros(2)
    before = meter.read()
    assert meter.read() == before
    with counted(meter, counters):
        counters[0] = 3.0
        assert meter.read() != before
    assert meter.read() != before
    with counted(None, counters):
        pass
