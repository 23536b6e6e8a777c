"""What servers and networks do to a pull: never anything unverified, and in step again once they behave."""

from __future__ import annotations

import random
import threading
from collections import Counter
from pathlib import Path

import pytest
from fleet_server import FAULTS

from streamtrain.fleet.errors import AbsentError, RemoteError


@pytest.mark.parametrize("fault", ["truncate", "stall", "error", "changed byte", "old manifest", "drop", "busy"])
@pytest.mark.parametrize("name", ["current.json", "manifest.json", "fastgrnn_int8.safetensors"])
def test_one_fault_at_a_time(trainer, server, pulling, held_to, fault, name):
    if fault == "old manifest" and name != "manifest.json":
        return
    old = trainer.publish()
    puller, mirror = pulling(timeout_s=0.2 if fault == "stall" else 5.0)
    puller.once()
    new = trainer.publish()
    server.old[f"versions/{new}/manifest.json"] = (trainer.store / "versions" / old / "manifest.json").read_bytes()
    server.fault = lambda path, nth: fault if path.endswith(name) else None
    with pytest.raises(RemoteError) as raised:
        puller.once()
    assert name in str(raised.value)
    assert raised.value.retry_after_s == (7 if fault == "busy" else None)
    assert held_to(mirror) == old
    server.fault = lambda path, nth: None
    server.go_on.set()
    assert puller.once().version == new
    assert held_to(mirror) == new


def test_drops_bytes_forever(trainer, server, pulling, monkeypatch):
    """A server that sends a byte now and then keeps no time-out of a socket from beginning anew."""
    from streamtrain.fleet import http

    trainer.publish()
    puller, _ = pulling(timeout_s=0.3)
    monkeypatch.setattr(http, "LEAST_BYTES_PER_S", 1e9)
    held = threading.Event()

    def drip(self, data):
        for byte in data:
            if held.wait(0.1):
                return
            self._file.write(bytes([byte]))
            self._file.flush()

    from fleet_server import _Counting

    monkeypatch.setattr(_Counting, "write", drip)
    with pytest.raises(RemoteError, match="took too long"):
        puller.once()
    held.set()
    monkeypatch.undo()
    assert puller.once().result == "pulled"


def test_what_came_is_not_asked_for_again(trainer, server, pulling, held_to):
    trainer.publish()
    name = "training.safetensors"
    size = len(trainer.files(trainer.registry.current())[name])
    puller, mirror = pulling()
    server.fault = lambda path, nth: "truncate" if path.endswith(name) and nth <= 2 else None
    for _ in range(2):
        with pytest.raises(RemoteError, match="ended after"):
            puller.once()
    puller.once()
    assert server.bytes_of(name) == size
    assert [asked for path, _, _, asked in server.requests if path.endswith(name)] == [
        None, f"bytes={size // 2}-", f"bytes={size // 2 + (size - size // 2) // 2}-",
    ]  # fmt: skip
    assert server.bytes_of("metrics.json") == len(trainer.files(mirror.current())["metrics.json"])
    held_to(mirror)


def test_a_server_that_ignores_ranges(trainer, server, pulling, held_to):
    trainer.publish()
    puller, mirror = pulling()
    server.fault = lambda path, nth: "truncate" if path.endswith("training.safetensors") else None
    with pytest.raises(RemoteError):
        puller.once()
    server.fault = lambda path, nth: "no ranges"
    puller.once()
    held_to(mirror)


def test_parts_of_another_content_are_begun_again(trainer, server, pulling, held_to):
    version = trainer.publish()
    puller, mirror = pulling()
    server.fault = lambda path, nth: "truncate" if path.endswith("training.safetensors") else None
    with pytest.raises(RemoteError):
        puller.once()
    (part,) = mirror.models_dir.glob(".staging/pull-*/*/*.part")
    part.write_bytes(b"?" * part.stat().st_size)  # as a power cut may leave it
    server.fault = lambda path, nth: None
    with pytest.raises(RemoteError, match="differs from its digest"):
        puller.once()
    puller.once()
    part.parent.mkdir(parents=True)
    assert held_to(mirror) == version


def test_nothing_pushed_yet(server, pulling, trainer):
    puller, mirror = pulling()
    with pytest.raises(AbsentError, match=r"current\.json.*404"):
        puller.once()
    assert mirror.current() is None
    trainer.publish()
    assert puller.once().result == "pulled"


def test_nobody_listens(pulling, trainer):
    puller, _ = pulling(url="http://127.0.0.1:1/models")
    with pytest.raises(RemoteError, match="refused"):
        puller.once()


def test_redirects_are_not_followed(pulling, server, trainer):
    trainer.publish()
    puller, _ = pulling()
    server.headers["Location"] = "http://127.0.0.1:1/"
    server.fault = lambda path, nth: None
    from fleet_server import _Handler

    original = _Handler.answer
    try:
        _Handler.answer = lambda self, path, status, *rest: original(self, path, 301, *rest)
        with pytest.raises(RemoteError, match="301; redirects are not followed"):
            puller.once()
    finally:
        _Handler.answer = original


def test_a_thousand_pulls(trainer, server, pulling, held_to, tmp_path):
    chance = random.Random(7)
    published: dict[str, dict[str, bytes]] = {}
    pushed: list[str] = []
    pointers: list[bytes] = []
    counted: Counter[str] = Counter()

    def fault(path, nth):
        if chance.random() < 0.8:
            return None
        if path == "current.json" and pointers and chance.random() < 0.3:
            server.old[path] = chance.choice(pointers)
            found = "old pointer"
        elif path.endswith("manifest.json") and chance.random() < 0.3:
            version = Path(path).parent.name
            other = chance.choice([name for name in published if name != version] or [version])
            server.old[path] = published[other]["manifest.json"]
            found = "old manifest"
        else:
            found = chance.choice([one for one in FAULTS if not one.startswith("old") and one != "stall"])
            if chance.random() < 0.02:
                found = "stall"
        counted[found] += 1
        return found

    def change():
        if pushed and chance.random() < 0.3 and len(trainer.registry.names()) > 1:
            version = trainer.rollback(chance.choice(trainer.registry.names()))
        else:
            version = trainer.publish()
        published.setdefault(version, trainer.files(version))
        pushed.append(version)
        pointers.append((trainer.store / "current.json").read_bytes())

    change()
    puller, mirror = pulling(timeout_s=0.05)
    server.fault = fault
    serial = 0
    for nth in range(1000):
        if chance.random() < 0.15:
            change()
        if chance.random() < 0.05:  # a new process, as after a crash
            puller.close()
            mirror.close()
            puller, mirror = pulling(timeout_s=0.05)
        try:
            outcome = puller.once()
        except RemoteError:
            counted["failed"] += 1
        else:
            counted[outcome.result] += 1
            assert outcome.serial >= serial, nth
            serial = outcome.serial
            assert outcome.version == mirror.current()
        if mirror.current() is not None:
            assert held_to(mirror, published) in pushed, nth
            accepted = mirror.accepted()
            assert accepted is not None
            assert accepted.pointer.serial >= serial
    server.fault = lambda path, nth: None
    server.go_on.set()
    assert puller.once().version == pushed[-1] == held_to(mirror, published)
    assert min(counted[one] for one in (*FAULTS, "failed", "pulled", "switched", "stale", "unchanged")) > 0, counted
