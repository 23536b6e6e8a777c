from __future__ import annotations

import random
import sys
import threading
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from make_candidate import make_candidate

from streamtrain.fleet import push as push_module
from streamtrain.fleet.errors import FleetError, MissingLibraryError, RemoteError
from streamtrain.fleet.filesystem import FilesystemRemote
from streamtrain.fleet.mirror import Mirror
from streamtrain.fleet.pointer import decode
from streamtrain.fleet.pull import Puller
from streamtrain.fleet.push import push
from streamtrain.model.seal import VersionError
from streamtrain.publish.artifact import build
from streamtrain.publish.errors import NoVersionError
from streamtrain.publish.lock import Lock


def pointer_at(trainer):
    return decode((trainer.store / "current.json").read_bytes())


@pytest.fixture
def memory():
    """URL of an empty store in memory."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    return "memory://bucket/models"


def test_files_first_and_the_pointer_last(trainer, monkeypatch):
    written = []
    original = FilesystemRemote.write
    monkeypatch.setattr(
        FilesystemRemote, "write", lambda self, path, data: (written.append(path), original(self, path, data))
    )
    version = trainer.publish()
    assert written[-2:] == [f"versions/{version}/manifest.json", "current.json"]
    assert len(written) == 7
    assert pointer_at(trainer).serial == int(trainer.now_s)
    there = {one.name: one.read_bytes() for one in (trainer.store / "versions" / version).iterdir()}
    assert there == trainer.files(version)


def test_again_changes_nothing(trainer):
    version = trainer.publish()
    before = {one: one.stat().st_mtime_ns for one in trainer.store.rglob("*")}
    done = trainer.push()
    assert (done.result, done.version, done.files, done.removed) == ("unchanged", version, (), ())
    assert before == {one: one.stat().st_mtime_ns for one in trainer.store.rglob("*")}


def test_the_serial_grows_by_one_at_each_change(trainer):
    first = trainer.publish()
    serial = pointer_at(trainer).serial
    second = trainer.publish()
    trainer.rollback(first)
    assert (pointer_at(trainer).version, pointer_at(trainer).serial) == (first, serial + 2)
    trainer.rollback(second)
    assert pointer_at(trainer).serial == serial + 3


def test_what_is_missing_or_differs_is_written_again(trainer):
    version = trainer.publish()
    folder = trainer.store / "versions" / version
    (folder / "metrics.json").unlink()
    file = folder / "training.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    (folder / "normalization.json").write_bytes(b"")
    done = trainer.push()
    assert sorted(done.files) == ["metrics.json", "normalization.json", "training.safetensors"]
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == trainer.files(version)


@pytest.mark.parametrize("n_written", range(7))
def test_ended_in_the_middle(trainer, n_written, monkeypatch, tmp_path):
    old = trainer.publish()
    original, left = FilesystemRemote.write, [n_written]

    def write(self, path, data):
        if not left[0]:
            raise RemoteError("the network is gone")
        left[0] -= 1
        original(self, path, data)

    monkeypatch.setattr(FilesystemRemote, "write", write)
    with pytest.raises(RemoteError, match="gone"):
        trainer.publish()
    with Mirror(tmp_path / "models") as mirror:
        assert Puller(trainer.url, mirror).once().version == old
    monkeypatch.undo()
    done = trainer.push()
    assert len(done.files) == 6 - n_written
    with Mirror(tmp_path / "models") as mirror:
        assert Puller(trainer.url, mirror).once().version == trainer.registry.current()


def test_a_broken_or_lost_pointer_goes_on_above_what_pullers_know(trainer, tmp_path):
    trainer.publish()
    with Mirror(tmp_path / "models") as mirror:
        puller = Puller(trainer.url, mirror)
        puller.once()
        for spoil in (lambda file: file.write_bytes(b"{"), lambda file: file.unlink()):
            trainer.now_s += 60
            spoil(trainer.store / "current.json")
            with pytest.raises(RemoteError):
                puller.once()
            assert trainer.push().result == "pushed"
            assert puller.once().result == "unchanged"
            assert puller.once().serial == int(trainer.now_s)


def test_retention_keeps_what_was_pointed_to_lately(trainer):
    versions = [trainer.publish() for _ in range(3)]
    trainer.rollback(versions[0])
    trainer.rollback(versions[2])
    versions += [trainer.publish() for _ in range(2)]
    # Four stay: the last two, and of the others those that were current last.
    kept = {one.name for one in (trainer.store / "versions").iterdir()}
    assert kept == {versions[4], versions[3], versions[2], versions[0]}
    (trainer.store / "versions" / "keep me").mkdir()
    done = trainer.push(keep=2)
    assert set(done.removed) == {versions[2], versions[0]}
    assert (trainer.store / "versions" / "keep me").exists()


def test_nothing_to_push(trainer, tmp_path):
    with pytest.raises(NoVersionError, match="nothing was published"):
        trainer.push()
    assert not trainer.store.exists()
    with pytest.raises(ValueError, match="keep is 1"):
        trainer.push(keep=1)


def test_a_damaged_version_is_not_pushed(trainer):
    trainer.publish()
    trainer.now_s += 60
    version = trainer.registry.publish(trainer.registry.stage(build(make_candidate(99))))
    (trainer.registry.path(version) / "metrics.json").write_bytes(b"{}")
    with pytest.raises(VersionError, match=r"metrics\.json"):
        trainer.push()
    assert pointer_at(trainer).version != version


def test_somebody_else_pushes_there(trainer, monkeypatch):
    trainer.publish()
    other = (trainer.store / "current.json").read_bytes()
    original = FilesystemRemote.write

    def write(self, path, data):
        original(self, path, other if path == "current.json" else data)

    monkeypatch.setattr(FilesystemRemote, "write", write)
    with pytest.raises(FleetError, match="who else pushes there"):
        trainer.publish()


def test_pushes_take_turns(trainer, monkeypatch):
    """The slower of two must not point back to what was current when it began."""
    version = trainer.publish()
    lock = Lock(trainer.registry.models_dir / ".push.lock", "")
    lock.acquire()
    done = []
    waiting = threading.Thread(target=lambda: done.append(trainer.push()))
    waiting.start()
    trainer.now_s += 60
    new = trainer.registry.publish(trainer.registry.stage(build(make_candidate(98))))
    lock.release()
    waiting.join()
    assert (done[0].version, pointer_at(trainer).version) == (new, new)
    assert new != version
    monkeypatch.setattr(push_module, "_TURN_WAIT_S", 0.0)
    lock.acquire()
    with pytest.raises(Exception, match="being pushed"):
        trainer.push()
    lock.release()


def test_memory_from_trainer_to_mirror(trainer, memory, tmp_path, held_to):
    trainer.url = memory
    chance = random.Random(1)
    with Mirror(tmp_path / "models", keep=3) as mirror:
        puller = Puller(memory, mirror)
        for _ in range(12):
            if chance.random() < 0.3 and len(trainer.registry.names()) > 1:
                version = trainer.rollback(chance.choice(trainer.registry.names()))
            else:
                version = trainer.publish()
            puller.once()
            assert held_to(mirror) == version
            outcome = puller.once()
            assert (outcome.result, outcome.requests, outcome.bytes) == ("unchanged", 1, 0)
    assert len(fsspec.filesystem("memory").ls("/bucket/models/versions")) == 4


def test_a_directory_resumes_too(trainer, tmp_path, held_to, monkeypatch):
    trainer.publish()
    pieces, is_broken = [], True
    original = LocalFileSystem.cat_file

    def cat_file(self, path, start=None, end=None, **more):
        pieces.append((Path(path).name, start))
        if is_broken and path.endswith("training.safetensors") and start == 2048:
            raise OSError("the cable is out")
        return original(self, path, start, end, **more)

    monkeypatch.setattr(LocalFileSystem, "cat_file", cat_file)
    monkeypatch.setattr("streamtrain.fleet.filesystem._PIECE_BYTES", 1024)
    with Mirror(tmp_path / "models") as mirror:
        puller = Puller(trainer.url, mirror)
        with pytest.raises(RemoteError, match="the cable is out"):
            puller.once()
        is_broken = False
        pieces.clear()
        puller.once()
        assert [start for name, start in pieces if name == "training.safetensors"] == [2048]
        assert "manifest.json" not in dict(pieces)
        held_to(mirror)


def test_a_mirror_can_be_pushed_on(trainer, memory, tmp_path, held_to):
    """From region to region: what was pulled is pushed to another store, and pulled from there."""
    version = trainer.publish()
    with Mirror(tmp_path / "relay") as relay:
        Puller(trainer.url, relay).once()
        push(tmp_path / "relay", memory)
    with Mirror(tmp_path / "models") as mirror:
        Puller(memory, mirror).once()
        assert held_to(mirror) == version


def test_http_is_not_written_to(trainer):
    trainer.publish()
    with pytest.raises(FleetError, match="read only"):
        push(trainer.registry.models_dir, "https://host/models")


def test_libraries_that_are_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingLibraryError, match="pip install s3fs"):
        FilesystemRemote("s3://bucket/models", 1.0)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'streamtrain\[fleet\]'"):
        FilesystemRemote("s3://bucket/models", 1.0)
