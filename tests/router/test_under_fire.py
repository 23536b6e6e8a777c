"""Readers while a publisher publishes, rolls back, promotes, and is killed again and again in the middle of it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from make_candidate import make_candidate

from streamtrain.model.forward import probabilities
from streamtrain.model.quantize import dequantize
from streamtrain.model.seal import VersionError, read_sealed
from streamtrain.publish.catalog import Catalog, number
from streamtrain.publish.registry import Registry
from streamtrain.router.router import Router

ROOT = Path(__file__).parents[2]
ROWS = np.random.default_rng(0).normal(0.5, 1.0, (16, 5))
N_PUBLISHES, N_KILLS = 300, 20


def right_answers(version: str) -> np.ndarray:
    """What a version must answer to `ROWS`, worked out without any file of it."""
    candidate = make_candidate(number(version))
    z = (ROWS - candidate.scaling.means) / candidate.scaling.stds
    return probabilities(dequantize(candidate.quantized), z)


class Reader(threading.Thread):
    """Runs `look` over and over until told to stop, and keeps what was wrong."""

    def __init__(self, models: Path) -> None:
        super().__init__()
        self.models = models
        self.stopped = threading.Event()
        self.versions: set[str] = set()
        self.wrong: list[str] = []
        self.looked = 0

    def run(self) -> None:
        while not self.stopped.is_set() and len(self.wrong) < 5:
            try:
                self.look()
            except Exception as error:
                self.wrong.append(repr(error))
            self.looked += 1
            # Leaves the two cores to the publisher now and then.
            time.sleep(0.0002)

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
        if abs(decision.confidence - self.known[decision.version][row]) > 1e-9:
            self.wrong.append(f"{decision} to row {row}; expected {self.known[decision.version][row]}")


class FileReader(Reader):
    """Follows `current`, which must always be there, and checks every byte of what it leads to."""

    def look(self) -> None:
        target = os.readlink(self.models / "current")
        try:
            manifest, _ = read_sealed(self.models / target)
        except VersionError as error:
            # It may be retired while it is read; but then it is gone, and `current` has long moved on.
            if (self.models / target).exists() or os.readlink(self.models / "current") == target:
                self.wrong.append(str(error))
            return
        self.versions.add(manifest["version"])
        if manifest["version"] != Path(target).name:
            self.wrong.append(f"{target} holds {manifest['version']}")


def start(models: Path, seed: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", Path(__file__).with_name("publisher.py"), models, str(seed)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OPENBLAS_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )


def newest(models: Path) -> int:
    names = Catalog(models).names()
    return number(names[-1]) if names else 0


@pytest.fixture
def models(tmp_path):
    """A models directory with one version."""
    models = tmp_path / "models"
    publisher = start(models, 0)
    while Catalog(models).current() is None:
        assert publisher.poll() is None
        time.sleep(0.01)
    publisher.kill()
    publisher.communicate()
    return models


def test_nobody_ever_sees_half_a_version(models):
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with Router(models, poll_interval_s=0.001) as first, Router(models, poll_interval_s=0.005) as second:
        readers = [RouteReader(models, first), RouteReader(models, second), RouteReader(models, first)]
        readers.append(FileReader(models))
        for reader in readers:
            reader.start()
        try:
            kills = 0
            while kills < N_KILLS or newest(models) < N_PUBLISHES:
                publisher, before = start(models, seed + kills), newest(models)
                # A killing is at a random moment of its work, not of its start.
                while newest(models) == before and publisher.poll() is None:
                    time.sleep(0.001)
                time.sleep(chance.uniform(0.0, 0.3))
                assert publisher.poll() is None, publisher.communicate()[1].decode()
                publisher.kill()
                publisher.communicate()
                kills += 1
                Catalog(models).verify()
        finally:
            for reader in readers:
                reader.stopped.set()
            for reader in readers:
                reader.join()
        assert [reader.wrong for reader in readers] == [[]] * len(readers)
        for router in (first, second):
            router.poll()
            assert router.version == Catalog(models).current()
            assert not router._failures
    assert all(len(reader.versions) > 20 for reader in readers)
    with Registry(models, keep=4) as registry:
        registry.acquire()
        for name in registry.names():
            registry.verify(name)
        recorded = [r["version"] for r in registry.receipts.read() if r["event"] == "candidate" and r["version"]]
        # Every version there ever was has exactly one receipt, whenever its publisher was killed.
        assert recorded == [f"v{n}" for n in range(1, newest(models) + 1)]
        assert not list((models / ".staging").iterdir())
        assert not list(models.glob(".new-*"))
