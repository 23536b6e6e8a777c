"""What counts as progress, and how long the next may take."""

import numpy as np

from streamtrain.daemon.pulse import Pulse


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def pulse(patience_s=10.0):
    clock = Clock()
    return Pulse("training", patience_s, clock), clock


def test_at_rest_nothing_is_awaited_unless_it_rests_for_a_time():
    one, clock = pulse()
    clock.now += 1e9
    assert one.stalled_s() is None
    one.rest(2.0)
    clock.now += 12.0
    assert one.stalled_s() is None
    clock.now += 0.1
    assert one.stalled_s() > 10


def test_each_mark_gives_time_until_the_next():
    one, clock = pulse()
    for _ in range(5):
        one.beat("window")
        clock.now += 9.9
        assert one.stalled_s() is None
    clock.now += 0.2
    assert one.stalled_s() == 10.1 or abs(one.stalled_s() - 10.1) < 1e-6
    one.beat("train")
    assert one.stalled_s() is None


def test_a_stage_may_take_longer_where_it_has_more_to_do():
    one, clock = pulse()
    one.beat("compile", extra_s=600.0)
    clock.now += 609.0
    assert one.stalled_s() is None
    clock.now += 2.0
    assert one.stalled_s() is not None


def test_what_the_meter_shows_is_progress_however_long_the_stage():
    one, clock = pulse()
    counters = np.zeros(3)
    one.meter.add(counters)
    one.beat("train")
    for _ in range(50):
        counters[1] += 1.0
        clock.now += 9.0
        assert one.stalled_s() is None
    clock.now += 9.0
    assert one.stalled_s() is None
    clock.now += 2.0
    assert one.stalled_s() is not None
    one.meter.remove(counters)
    assert one.stalled_s() is None


def test_the_mark_says_since_when():
    one, clock = pulse()
    one.beat("train", "epoch 1")
    clock.now += 3.0
    one.beat("train", "epoch 2")
    assert (one.mark.stage, one.mark.detail, one.mark.since_s) == ("train", "epoch 2", 1000.0)
    one.beat("judge")
    assert one.mark.since_s == 1003.0
