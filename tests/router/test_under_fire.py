"""Readers while a publisher publishes, rolls back, promotes, and is killed again and again in the middle of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from make_candidate import make_candidate

from streamtrain.model.forward import probabilities
from streamtrain.model.quantize import dequantize
from streamtrain.model.seal import VersionError, read_sealed
from streamtrain.publish.catalog import Catalog, number
from streamtrain.publish.registry import LockedError, Registry
from streamtrain.router.router import Router

ROOT = Path(__file__).parents[2]
ROWS = np.random.default_rng(0).normal(0.5, 1.0, (16, 5))
N_PUBLISHES, N_KILLS = 300, 30


def right_answers(version: str) -> np.ndarray:
    """What a version must answer to `ROWS`, worked out without any file of it."""
    candidate = make_candidate(number(version))
    z = (ROWS - candidate.scaling.means) / candidate.scaling.stds
    return probabilities(dequantize(candidate.quantized), z)


class Reader:
    """Looks over and over until told to stop; the first thing wrong ends it."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.versions: set[str] = set()
        self.looked = 0

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.look()
            self.looked += 1
            # Leaves the cores to the publisher now and then.
            time.sleep(0.0005)

    def look(self) -> None:
        raise NotImplementedError


class RouteReader(Reader):
    """Scores, and compares with what the version that it is told must answer."""

    def __init__(self, models: Path, router: Router) -> None:
        super().__init__(models)
        self.router = router
        self.known: dict[str, np.ndarray] = {}

    def look(self) -> None:
        row = self.looked % len(ROWS)
        decision = self.router.route(ROWS[row])
        if decision.version not in self.known:
            self.known[decision.version] = right_answers(decision.version)
            self.versions.add(decision.version)
        assert decision.confidence == pytest.approx(self.known[decision.version][row], abs=1e-9), decision


class FileReader(Reader):
    """Follows `current`, which must always be there, and checks every byte of what it leads to."""

    def look(self) -> None:
        target = (self.models / "current").readlink()
        try:
            manifest, _ = read_sealed(self.models / target)
        except VersionError:
            # It may be retired while it is read; but then it is gone, and `current` has long moved on.
            assert not (self.models / target).exists()
            assert (self.models / "current").readlink() != target
        else:
            self.versions.add(target.name)
            assert manifest["version"] == target.name


def newest(models: Path) -> int:
    names = Catalog(models).names()
    return number(names[-1]) if names else 0


@contextmanager
def publishing(models: Path) -> Iterator[Callable[[], None]]:
    """A publisher at work; what it yields kills it at a random moment, and another one goes on at once."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", Path(__file__).with_name("publisher.py"), models],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None

        def next_child() -> int:
            line = parent.stdout.readline()
            assert line, "the publisher ended by itself; its error is above"
            return int(line)

        child = next_child()

        def kill() -> None:
            nonlocal child
            time.sleep(random.uniform(0.0, 0.3))
            os.kill(child, signal.SIGKILL)
            child = next_child()

        try:
            yield kill
        finally:
            parent.kill()
            os.kill(child, signal.SIGKILL)


def test_nobody_ever_sees_half_a_version(tmp_path):
    models = tmp_path / "models"
    with publishing(models) as kill:
        while Catalog(models).current() is None:
            time.sleep(0.01)
        read_while_publishing(models, kill)
    with Registry(models, keep=4) as registry:
        take_over(registry)
        for name in registry.names():
            registry.verify(name)
        recorded = [r["version"] for r in registry.receipts.read() if r["event"] == "candidate" and r["version"]]
        # Every version there ever was has exactly one receipt, whenever its publisher was killed.
        assert recorded == [f"v{n}" for n in range(1, newest(models) + 1)]
        assert not list((models / ".staging").iterdir())
        assert not list(models.glob(".new-*"))


def take_over(registry: Registry) -> None:
    """Own the directory as soon as the last publisher, which nobody waited for, is really gone."""
    while True:
        try:
            return registry.acquire()
        except LockedError:
            time.sleep(0.01)


def read_while_publishing(models: Path, kill: Callable[[], None]) -> None:
    stop = threading.Event()
    with (
        Router(models, poll_interval_s=0.001) as first,
        Router(models, poll_interval_s=0.005) as second,
        ThreadPoolExecutor() as pool,
    ):
        readers = [RouteReader(models, first), RouteReader(models, second), RouteReader(models, first)]
        readers.append(FileReader(models))
        running = [pool.submit(reader.run, stop) for reader in readers]
        try:
            kills = 0
            while kills < N_KILLS or newest(models) < N_PUBLISHES:
                kill()
                kills += 1
        finally:
            stop.set()
        for reader in running:
            reader.result()
    assert all(len(reader.versions) > 20 for reader in readers)
    assert not first._follower._failures
    assert not second._follower._failures
