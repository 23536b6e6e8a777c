"""Trainings of several routers share the processors: so many at once, and whoever waited longest comes first."""

import threading
import time

from streamtrain.daemon.turns import Turns

PATIENCE_S = 60


def never():
    return False


def until(condition):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def waiting(turns, names, order, go_on):
    """Threads that ask for a turn, one after the other, and keep it until they may go on."""
    threads = []
    for name in names:

        def work(name=name):
            with turns.turn(never) as n_threads:
                order.append((name, n_threads))
                assert go_on.wait(PATIENCE_S)

        before = len(turns._waiting) + turns._n_active
        threads.append(threading.Thread(target=work))
        threads[-1].start()
        until(lambda before=before: len(turns._waiting) + turns._n_active > before)
    return threads


def test_alone_it_gets_every_processor():
    with Turns(4).turn(never) as n_threads:
        assert n_threads == 4


def test_no_more_at_once_than_processors_and_the_longest_waiting_first():
    turns, order, go_on = Turns(2), [], threading.Event()
    with turns.turn(never), turns.turn(never) as second:
        assert second == 1
        threads = waiting(turns, "abcde", order, go_on)
        time.sleep(0.3)
        assert order == []
    until(lambda: len(order) == 2)
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    # Two begin at the same moment; which of them says so first is chance.
    assert sorted(order[:2]) == [("a", 1), ("b", 1)]
    assert [name for name, _ in sorted(order)] == [*"abcde"]
    assert turns._n_active == 0


def test_who_comes_again_comes_last():
    turns, order, go_on = Turns(1), [], threading.Event()
    go_on.set()
    threads = []
    with turns.turn(never):
        threads += waiting(turns, "bc", order, go_on)
        threads += waiting(turns, "a", order, go_on)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [name for name, _ in order] == ["b", "c", "a"]


def test_told_to_stop_it_waits_no_longer_and_takes_no_turn():
    turns = Turns(1)
    stop = threading.Event()
    with turns.turn(never):
        threading.Timer(0.2, stop.set).start()
        with turns.turn(stop.is_set) as n_threads:
            assert n_threads == 0
    with turns.turn(never) as n_threads:
        assert n_threads == 1


def test_one_compiles_at_a_time():
    turns = Turns(2)
    with turns.compiling(never) as mine:
        assert mine
        with turns.compiling(lambda: True) as other:
            assert not other
    with turns.compiling(never) as mine:
        assert mine
