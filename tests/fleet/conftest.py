from __future__ import annotations

import itertools

import pytest
from fleet_server import Server
from make_candidate import make_candidate

from streamtrain.fleet.mirror import Mirror
from streamtrain.fleet.pull import Puller
from streamtrain.fleet.push import push
from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry


class Trainer:
    """A trainer's models directory, and the store that it pushes to."""

    def __init__(self, folder, signer=None):
        self.now_s = 1_000_000_000.0
        self.registry = Registry(folder / "trainer", keep=6, clock=lambda: self.now_s, signer=signer)
        self.store = folder / "store"
        self.url = f"file://{self.store}"
        self.seeds = itertools.count()

    def publish(self):
        self.now_s += 60
        version = self.registry.publish(self.registry.stage(build(make_candidate(next(self.seeds)))))
        self.push()
        return version

    def rollback(self, version=None):
        self.now_s += 60
        version = self.registry.rollback(version)
        self.push()
        return version

    def push(self, **more):
        return push(self.registry.models_dir, self.url, clock=lambda: self.now_s, **{"keep": 4} | more)

    def files(self, version):
        folder = self.registry.path(version)
        return {one.name: one.read_bytes() for one in folder.iterdir()}


@pytest.fixture
def trainer(tmp_path):
    made = Trainer(tmp_path)
    with made.registry:
        yield made


@pytest.fixture
def server(trainer):
    with Server(trainer.store) as running:
        yield running


@pytest.fixture
def pulling(tmp_path, server):
    """`pulling(name)`: a puller into a directory of this name, and its mirror."""
    opened = []

    def open_puller(name="models", url=None, **more):
        timeout_s = more.pop("timeout_s", 5.0)
        mirror = Mirror(tmp_path / name, **{"keep": 3} | more)
        puller = Puller(url or server.url, mirror, timeout_s)
        opened.append((puller, mirror))
        return puller, mirror

    yield open_puller
    for puller, mirror in opened:
        puller.close()
        mirror.close()


@pytest.fixture
def held_to(trainer):
    """`held_to(mirror)`: its current version is what was published, bit for bit, and loads; the version's name."""
    from streamtrain.model.formats import WINDOW_FILE
    from streamtrain.router.load import load

    def check(mirror, published=None):
        version = mirror.current()
        mirror.verify(version)
        assert load(mirror.models_dir).version == version
        there = trainer.files(version) if published is None else published[version]
        here = {one.name: one.read_bytes() for one in mirror.path(version).iterdir()}
        assert here == {name: data for name, data in there.items() if name != WINDOW_FILE}
        return version

    return check
