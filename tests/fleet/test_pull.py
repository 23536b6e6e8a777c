from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import pytest

from streamtrain.fleet.errors import AbsentError, FleetError, RefusedError
from streamtrain.fleet.mirror import Mirror
from streamtrain.fleet.pointer import decode, encode
from streamtrain.fleet.pull import Puller
from streamtrain.publish.errors import PublishError
from streamtrain.publish.lock import LockedError
from streamtrain.publish.registry import Registry
from streamtrain.publish.signing import generate, read_signing_key

FILES = 6  # of a version, the manifest among them


def pointer_at(trainer):
    return decode((trainer.store / "current.json").read_bytes())


def offer(trainer, **changed):
    """Replace the pointer by hand, sealed."""
    from dataclasses import replace

    pointer = pointer_at(trainer)
    made = replace(pointer, **{"serial": pointer.serial + 1} | changed)
    (trainer.store / "current.json").write_bytes(encode(made))
    return made


def test_pulls_what_was_pushed(trainer, server, pulling, held_to):
    version = trainer.publish()
    puller, mirror = pulling()
    outcome = puller.once()
    assert (outcome.result, outcome.version, outcome.previous) == ("pulled", version, None)
    assert outcome.requests == 1 + FILES
    assert held_to(mirror) == version
    (receipt,) = mirror.receipts.read()
    assert (receipt["event"], receipt["version"], receipt["serial"]) == ("pull", version, outcome.serial)
    assert list((mirror.models_dir / ".staging").iterdir()) == []


@pytest.mark.parametrize("has_etags", [True, False])
def test_an_unchanged_pointer_costs_one_request_and_no_body(trainer, server, pulling, has_etags):
    server.has_etags = has_etags
    trainer.publish()
    os.utime(trainer.store / "current.json", (1e9, 1e9))
    puller, mirror = pulling()
    puller.once()
    server.requests.clear()
    before = (mirror.models_dir / "pull.json").stat()
    outcome = puller.once()
    assert (outcome.result, outcome.requests, outcome.bytes) == ("unchanged", 1, 0)
    assert server.requests == [("current.json", 304, 0, None)]
    after = (mirror.models_dir / "pull.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_change_within_the_second_that_a_date_tells(trainer, server, pulling, held_to):
    """Dates of HTTP have no fractions: one of just now says nothing of what came after it in the same second."""
    server.has_etags = False
    trainer.publish()
    puller, mirror = pulling()
    puller.once()
    dated = (trainer.store / "current.json").stat()
    version = trainer.publish()
    os.utime(trainer.store / "current.json", ns=(dated.st_atime_ns, dated.st_mtime_ns))
    assert puller.once().version == version
    held_to(mirror)


def test_the_next_process_asks_conditionally_too(trainer, server, pulling):
    trainer.publish()
    first, mirror = pulling()
    first.once()
    mirror.close()
    second, _ = pulling()
    assert second.once().bytes == 0


def test_a_rollback_takes_what_is_kept_and_verifies_it_again(trainer, server, pulling, held_to):
    old, new = trainer.publish(), None
    puller, mirror = pulling()
    puller.once()
    new = trainer.publish()
    assert puller.once().version == new
    assert trainer.rollback() == old
    outcome = puller.once()
    assert (outcome.result, outcome.version, outcome.previous, outcome.requests) == ("switched", old, new, 1)
    assert held_to(mirror) == old
    # The same, but what is kept was damaged meanwhile: it is downloaded anew.
    file = mirror.path(new) / "fastgrnn_int8.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    trainer.rollback(new)
    assert puller.once().result == "pulled"
    assert held_to(mirror) == new


def test_a_stale_pointer_is_ignored_by_the_next_process_too(trainer, server, pulling, held_to):
    trainer.publish()
    puller, mirror = pulling()
    puller.once()
    server.old["current.json"] = (trainer.store / "current.json").read_bytes()
    new = trainer.publish()
    puller.once()
    server.fault = lambda path, nth: "old pointer"
    assert puller.once().result == "stale"
    mirror.close()
    puller, mirror = pulling()
    outcome = puller.once()
    assert (outcome.result, outcome.version) == ("stale", new)
    assert held_to(mirror) == new
    mirror.forget()
    assert puller.once().version != new


def test_a_pointer_is_remembered_before_the_link_is_replaced(trainer, server, pulling, held_to, monkeypatch):
    old = trainer.publish()
    puller, mirror = pulling()
    puller.once()
    server.old["current.json"] = (trainer.store / "current.json").read_bytes()
    trainer.publish()
    newest = trainer.publish()

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(mirror, "swap", crash)
    with pytest.raises(KeyboardInterrupt):
        puller.once()
    monkeypatch.undo()
    assert mirror.current() == old
    mirror.close()
    puller, mirror = pulling()
    server.fault = lambda path, nth: "old pointer" if path == "current.json" else None
    outcome = puller.once()
    assert (outcome.version, mirror.current()) == (newest, newest)
    assert outcome.requests == 1  # it lay complete beside the versions
    held_to(mirror)


def test_two_pointers_of_one_serial(trainer, server, pulling, held_to):
    trainer.publish()
    new = trainer.publish()
    puller, mirror = pulling()
    puller.once()
    offer(trainer, serial=pointer_at(trainer).serial, time="another time")
    with pytest.raises(RefusedError, match="two pointers with the serial"):
        puller.once()
    assert held_to(mirror) == new
    offer(trainer)
    assert puller.once().version == new


def test_a_person_who_moved_the_link_is_overruled(trainer, server, pulling, held_to):
    old, new = trainer.publish(), None
    puller, mirror = pulling()
    puller.once()
    new = trainer.publish()
    puller.once()
    Registry(mirror.models_dir).rollback()
    assert mirror.current() == old
    outcome = puller.once()
    assert (outcome.result, outcome.requests, held_to(mirror)) == ("switched", 1, new)


def test_damage_on_the_own_disk_is_mended(trainer, server, pulling, held_to):
    trainer.publish()
    puller, mirror = pulling()
    version = puller.once().version
    (mirror.path(version) / "metrics.json").unlink()
    outcome = puller.once()
    assert (outcome.result, held_to(mirror)) == ("pulled", version)


def test_a_version_of_the_same_name_and_another_content(trainer, server, pulling, held_to, tmp_path):
    trainer.publish()
    puller, mirror = pulling()
    version = puller.once().version
    offer(trainer, manifest_sha256="0" * 64)
    with pytest.raises(RefusedError, match="versions never change"):
        puller.once()
    assert held_to(mirror) == version


def test_old_versions_go(trainer, server, pulling, held_to):
    puller, mirror = pulling()
    for _ in range(6):
        trainer.publish()
        puller.once()
    assert len(mirror.names()) == 3
    assert len(list((trainer.store / "versions").iterdir())) == 4
    held_to(mirror)


def test_a_trainers_directory_is_refused(trainer, server, pulling, tmp_path):
    trainer.publish()
    puller, _ = pulling("trainer")
    with pytest.raises(LockedError, match="trained or pulled into"):
        puller.once()
    trainer.registry.close()
    before = trainer.registry.receipts.read()
    with pytest.raises(PublishError, match="is a trainer's"):
        puller.once()
    assert not (tmp_path / "trainer" / "pull.json").exists()
    assert trainer.registry.receipts.read() == before
    # And the other way.
    puller, mirror = pulling()
    puller.once()
    with pytest.raises(LockedError):
        Registry(mirror.models_dir).acquire()
    mirror.close()
    with pytest.raises(PublishError, match="follows a remote one"):
        Registry(mirror.models_dir).acquire()


def test_two_pullers_into_one_directory(trainer, server, pulling, held_to):
    trainer.publish()
    first, mirror = pulling()
    second, other = pulling()
    first.once()
    with pytest.raises(LockedError, match="pulled into already"):
        second.once()
    mirror.close()
    assert second.once().result == "unchanged"
    held_to(other)


def test_many_pullers_at_once(trainer, server, tmp_path, held_to):
    versions = [trainer.publish()]
    done, failed = [], []

    def pull(number):
        with Mirror(tmp_path / f"host-{number}") as mirror:
            puller = Puller(server.url, mirror, 30.0)
            for _ in range(3):
                try:
                    done.append(puller.once().version)
                except AbsentError as error:  # pragma: no cover - only if it takes as long as four publishes
                    failed.append(error)
            puller.close()

    threads = [threading.Thread(target=pull, args=(number,)) for number in range(40)]
    for nth, thread in enumerate(threads):
        thread.start()
        if nth % 20 == 10:
            versions.append(trainer.publish())
    for thread in threads:
        thread.join()
    assert set(done) <= set(versions)
    assert len(done) + len(failed) == 120
    for number in range(40):
        with Mirror(tmp_path / f"host-{number}") as mirror:
            puller = Puller(server.url, mirror)
            assert puller.once().version == versions[-1]
            puller.close()
            held_to(mirror)


def test_secrets_of_a_url_are_in_no_message(pulling, trainer, server):
    secret = server.url.replace("://", "://me:hush@") + "?token=hush"
    puller, mirror = pulling(url=secret)
    with pytest.raises(AbsentError) as raised:
        puller.once()
    assert "hush" not in str(raised.value)
    trainer.publish()
    puller.once()
    assert "hush" not in (mirror.models_dir / "pull.json").read_text()


@pytest.mark.parametrize("url", ["models", "http://", "http://host:port/x", "http://a b/", "nothing://x/y"])
def test_what_is_no_url(url, tmp_path):
    with pytest.raises(FleetError):
        Puller(url, Mirror(tmp_path))


def test_signatures(tmp_path, server, trainer, held_to):
    generate(tmp_path / "ours")
    generate(tmp_path / "other")
    signer, other = read_signing_key(tmp_path / "ours"), read_signing_key(tmp_path / "other")
    trainer.registry._signer = signer
    old = trainer.publish()
    with Mirror(tmp_path / "models", public_key=signer.public_key) as mirror:
        puller = Puller(server.url, mirror)
        assert puller.once().version == old
        assert held_to(mirror) == old
        for forger in (other, None):
            trainer.registry._signer = forger
            trainer.publish()
            server.requests.clear()
            with pytest.raises(RefusedError, match="sign"):
                puller.once()
            asked = [Path(path).name for path, *_ in server.requests]
            assert asked == ["current.json", "manifest.json"]
            with pytest.raises(RefusedError, match="sign"):
                puller.once()
            assert [Path(path).name for path, *_ in server.requests][2:] == ["current.json"]
            assert held_to(mirror) == old
        trainer.registry._signer = signer
        new = trainer.publish()
        assert puller.once().version == new
        puller.close()


def test_whole_but_not_what_routers_load(trainer, server, pulling, held_to):
    """Every digest is right, and the golden answers are not: it never becomes current, and is asked for once only."""
    from streamtrain.model.seal import digest, seal, unseal

    old = trainer.publish()
    puller, mirror = pulling()
    puller.once()
    new = trainer.publish()
    file = trainer.store / "versions" / new / "manifest.json"
    manifest = unseal(file.read_bytes())
    del manifest["manifest_sha256"]
    manifest["golden"]["confidences"][0] += 0.01
    file.write_bytes(seal(manifest))
    entry = digest(file.read_bytes())
    offer(trainer, manifest_sha256=entry["sha256"], manifest_size=entry["size"])
    for _ in range(2):
        with pytest.raises(RefusedError, match="golden vectors come out differently"):
            puller.once()
        assert held_to(mirror) == old
    assert server.asked[f"versions/{new}/manifest.json"] == 1
    assert list((mirror.models_dir / ".staging").iterdir()) == []
    newest = trainer.publish()
    assert puller.once().version == newest


def test_the_state_file_is_checked(trainer, server, pulling):
    trainer.publish()
    puller, mirror = pulling()
    puller.once()
    file = mirror.models_dir / "pull.json"
    whole = file.read_text()
    for broken in ("", "{", "[]", "{}", whole.replace('"pointer"', '"painter"'), json.dumps({"pointer": 7})):
        file.write_text(broken)
        with pytest.raises(PublishError, match="--forget"):
            puller.once()
    mirror.forget()
    assert puller.once().result == "unchanged"


def test_a_full_disk(trainer, server, pulling, held_to, monkeypatch):
    old = trainer.publish()
    puller, mirror = pulling()
    puller.once()
    new = trainer.publish()

    def full(descriptor, data, position):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(PublishError, match=r"No space left.*free some space"):
        puller.once()
    assert held_to(mirror) == old
    monkeypatch.undo()
    assert puller.once().version == new == held_to(mirror)
