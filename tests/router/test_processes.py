"""One router in threads, in asyncio, after a fork, and what importing it takes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from make_candidate import make_candidate

from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.router.load import load
from streamtrain.router.router import Router

ROOT = Path(__file__).parents[2]
ROW = [0.1, 0.2, 0.3, 0.4, 0.5]
STEPS = 4


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def registry(models):
    with Registry(models, keep=20) as opened:
        yield opened


def publish(registry, seed=0, steps=STEPS):
    return registry.publish(registry.stage(build(make_candidate(seed, sequence_length=steps))))


def fork():
    with warnings.catch_warnings():
        # From 3.12 on, Python warns of a fork beside threads; a server that forks does just that.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def in_child(check):
    """Fork, and leave the child with what `check` says there."""
    child = fork()
    if child:
        return child
    status = 1
    try:
        status = 0 if check() else 2
    finally:
        os._exit(status)


def succeeded(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def wait_for(condition):
    while not condition():
        time.sleep(0.002)
    return True


def sessions_of(models, versions):
    """What a session answers in each version, step by step."""
    expected = {}
    for version in versions:
        model, state, answers = load(models / "versions" / version), None, []
        for _ in range(STEPS):
            confidence, state = model.step(ROW, state)
            answers.append(confidence)
        expected[version] = answers
    return expected


def test_threads_while_versions_change(registry, models):
    """Each answer is that of the version it names, at the step of the session that it can be."""
    versions = [publish(registry, seed) for seed in range(4)]
    expected, stop = sessions_of(models, versions), threading.Event()
    seen = set()

    def serve(worker):
        step, last, n_checked = 0, None, 0
        while not stop.is_set():
            alone = router.route(ROW)
            assert alone.confidence == pytest.approx(expected[alone.version][0], abs=1e-12)
            decision = router.route(ROW, session=worker)
            step = (step + 1) % STEPS if decision.version == last else 0
            # A version may have gone and come back between two answers: then it is the first step again.
            right = {round(expected[decision.version][one], 12) for one in (step, 0)}
            found = round(decision.confidence, 12)
            assert found in right, decision
            step = step if found == round(expected[decision.version][step], 12) else 0
            last = decision.version
            seen.add(last)
            n_checked += 1
        return n_checked

    with Router(models, poll_interval_s=0.001) as router, ThreadPoolExecutor(4) as pool:
        running = [pool.submit(serve, worker) for worker in range(4)]
        try:
            for turn in range(60):
                version = versions[turn % 4]
                registry.promote(version)
                wait_for(lambda version=version: router.version == version)
        finally:
            stop.set()
        counts = [one.result() for one in running]
        answered = sum(one.requests for one in router.stats().values())
    assert seen == set(versions)
    assert answered == 2 * sum(counts)


def test_in_asyncio(registry, models):
    """On the event loop itself, beside its other tasks, and through a swap."""
    first = publish(registry, 1)

    async def serve():
        loop = asyncio.get_running_loop()
        with Router(models) as router:
            before = [router.route(ROW, session=n).version for n in range(50)]
            second = await loop.run_in_executor(None, publish, registry, 2)
            while router.route(ROW).version == first:
                await asyncio.sleep(0.001)
            elsewhere = await asyncio.gather(*(asyncio.to_thread(router.route, ROW) for _ in range(50)))
            return before, second, {one.version for one in elsewhere}

    before, second, after = asyncio.run(serve())
    assert set(before) == {first}
    assert after == {second}


def test_after_a_fork_both_follow(registry, models):
    publish(registry, 1)
    with Router(models, poll_interval_s=0.001) as router:
        before = router.version
        children = [in_child(lambda: wait_for(lambda: router.version != before)) for _ in range(3)]
        second = publish(registry, 2)
        assert wait_for(lambda: router.version == second)
        assert all(succeeded(child) for child in children)


def test_a_child_of_a_child_follows_too(registry, models):
    publish(registry, 1)
    with Router(models, poll_interval_s=0.001) as router:
        before = router.version

        def follow():
            return succeeded(in_child(lambda: wait_for(lambda: router.version != before)))

        child = in_child(follow)
        publish(registry, 2)
        assert succeeded(child)


def test_a_fork_while_every_lock_is_held(registry, models):
    """As if other threads were just looking at `current`, scoring a session, and failing."""
    first = publish(registry, 1)
    with Router(models, poll_interval_s=0.001) as router:
        served = router._follower.served
        expected = sessions_of(models, [first])[first]
        router.route(ROW, session="s")
        with router._follower._lock, served.sessions._lock, served.breaker._lock, router._follower._notice._lock:

            def serve():
                goes_on = abs(router.route(ROW, session="s").confidence - expected[1]) < 1e-12
                served.breaker.failed()
                assert wait_for(lambda: router.version != first)
                router.close()
                return goes_on

            child = in_child(serve)
        publish(registry, 2)
        assert succeeded(child)
        # The parent's own session was not moved on by its child's.
        if router.version == first:
            assert router.route(ROW, session="s").confidence == pytest.approx(expected[1], abs=1e-12)


def test_a_closed_router_stays_closed_in_the_child(registry, models):
    publish(registry, 1)
    router = Router(models, poll_interval_s=0.001)
    router.close()
    before = router.version
    publish(registry, 2)
    assert succeeded(in_child(lambda: threading.active_count() == 1 and router.version == before))
    assert succeeded(in_child(lambda: router.poll() and router.version != before))


def test_file_descriptors_are_given_back(registry, models):
    publish(registry)
    with Router(models):
        pass
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with Router(models) as router:
            assert succeeded(in_child(lambda router=router: router.route(ROW).version == router.version))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_models_directory_that_comes_and_is_replaced(tmp_path, models):
    """Watched as soon as it is there, and by its name."""
    with Router(models, poll_interval_s=0.005) as router:
        with Registry(models) as registry:
            first = publish(registry, 1)
        wait_for(lambda: router.version == first)
        models.rename(tmp_path / "old")
        with Registry(models, clock=lambda: 5.0) as registry:
            second = publish(registry, 2)
        wait_for(lambda: router.version == second)
        assert router.version == "v5"


def test_it_looks_by_itself_where_the_system_tells_of_nothing(registry, models, monkeypatch):
    monkeypatch.setattr("streamtrain.router.notice._MASK", 0)  # the kernel refuses a watch for nothing
    publish(registry, 1)
    with Router(models, poll_interval_s=0.005) as router:
        assert not router._follower._notice._watched
        second = publish(registry, 2)
        assert wait_for(lambda: router.version == second)


def test_importing_it_loads_nothing_of_the_trainer():
    """Not time but what takes it: the import is NumPy's, and little else."""
    code = "import sys; from streamtrain import Router; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    heavy = {"numba", "llvmlite", "yaml", "click", "rich", "watchdog", "sqlite3", "msgspec", "zstandard", "torch"}
    heavy |= {"asyncio", "multiprocessing", "concurrent.futures", "subprocess", "ssl", "http", "scipy"}
    assert not heavy & set(loaded)
    ours = {name.split(".")[1] for name in loaded if name.startswith("streamtrain.")}
    assert ours == {"model", "router", "types"}
