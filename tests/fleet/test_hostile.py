"""A remote that means harm: whatever it says, nothing is written outside the directory, and little inside it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from streamtrain.fleet import download as download_module
from streamtrain.fleet.errors import FleetError, RefusedError, RemoteError
from streamtrain.fleet.pointer import decode, encode
from streamtrain.model.seal import digest, seal, unseal


@pytest.fixture
def hostile(trainer, server, pulling, held_to, tmp_path):
    """`hostile(change)`: pull a version whose manifest was changed and sealed again; the error."""
    old = trainer.publish()
    puller, mirror = pulling()
    puller.once()

    def pull(change, match):
        new = trainer.publish()
        file = trainer.store / "versions" / new / "manifest.json"
        manifest = unseal(file.read_bytes())
        del manifest["manifest_sha256"]
        change(manifest)
        file.write_bytes(seal(manifest))
        entry = digest(file.read_bytes())
        place = trainer.store / "current.json"
        pointer = decode(place.read_bytes())
        place.write_bytes(encode(replace(pointer, manifest_sha256=entry["sha256"], manifest_size=entry["size"])))
        before = sorted(one for one in tmp_path.rglob("*") if ".staging" not in str(one))
        with pytest.raises(FleetError, match=match):
            puller.once()
        assert before == sorted(one for one in tmp_path.rglob("*") if ".staging" not in str(one))
        assert held_to(mirror) == old
        asked = [path for path, *_ in server.requests if new in path]
        assert asked == [f"versions/{new}/manifest.json"]

    return pull


ENTRY = {"size": 5, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "name", ["../../escape", "/etc/passwd", "a/b", "..", ".hidden", "manifest.json", "extra.bin", "", "x\0y", "é"]
)
def test_names_that_are_no_files_of_a_version(hostile, name):
    hostile(lambda manifest: manifest["files"].update({name: ENTRY}), "plain file name|which no version has")


@pytest.mark.parametrize("size", [-1, 2**40, 1.5, "9", None, 256 * 1024 * 1024])
def test_sizes(hostile, size):
    def change(manifest):
        manifest["files"]["metrics.json"] = {"size": size, "sha256": "0" * 64}

    hostile(change, "not valid|bytes; expected")


@pytest.mark.parametrize("files", [None, [], "x", {"metrics.json": 7}, {"metrics.json": {}}])
def test_files_of_a_wrong_type(hostile, files):
    hostile(lambda manifest: manifest.update(files=files), "not an object|not valid")


@pytest.mark.parametrize("version", ["v1", None, 7, "../v1"])
def test_another_versions_manifest(hostile, version):
    hostile(lambda manifest: manifest.update(version=version), "calls it")


def test_a_newer_schema(hostile):
    hostile(lambda manifest: manifest.update(schema_version=99, written_by="streamtrain 9"), "upgrade")


def test_objects_longer_than_they_may_be(trainer, server, pulling):
    trainer.publish()
    puller, mirror = pulling()
    place = trainer.store / "current.json"
    good = place.read_bytes()
    place.write_bytes(b" " * 10_000_000)
    with pytest.raises(RemoteError, match="has 10000000 bytes; expected 16384"):
        puller.once()
    assert server.requests[-1][0] == "current.json"
    place.write_bytes(good)
    file = next((trainer.store / "versions").glob("*/metrics.json"))
    whole = file.read_bytes()
    file.write_bytes(whole + b"x" * 10_000_000)
    with pytest.raises(RemoteError, match=r"metrics\.json has \d+ bytes; expected"):
        puller.once()
    assert sum(one.stat().st_size for one in mirror.models_dir.rglob("*") if one.is_file()) < 100_000
    file.write_bytes(whole)
    assert puller.once().result == "pulled"


def test_bodies_without_a_length(trainer, server, pulling, monkeypatch):
    """Chunked, and endless: it is cut where the manifest says that it ends."""
    from fleet_server import _Handler

    trainer.publish()
    puller, _ = pulling()
    original = _Handler.answer

    def chunked(self, path, status, body, asked, head=None, fault=None):
        if not path.endswith("metrics.json"):
            original(self, path, status, body, asked, head, fault)
            return
        self.send_response(status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in (body, *([b"x" * 1000] * n_more)):
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    monkeypatch.setattr(_Handler, "answer", chunked)
    n_more = 1000
    with pytest.raises(RemoteError, match="is longer than"):
        puller.once()
    n_more = 0
    (part,) = puller._mirror.models_dir.glob(".staging/*/*/metrics.json.part")
    part.unlink()
    assert puller.once().result == "pulled"


def test_links_in_the_staging_area_are_not_followed(trainer, server, pulling, tmp_path):
    trainer.publish()
    puller, mirror = pulling()
    server.fault = lambda path, nth: "truncate" if path.endswith("metrics.json") else None
    with pytest.raises(RemoteError):
        puller.once()
    server.fault = lambda path, nth: None
    (part,) = mirror.models_dir.glob(".staging/*/*/metrics.json.part")
    part.unlink()
    part.symlink_to(tmp_path / "victim")
    with pytest.raises(Exception, match=r"metrics\.json\.part"):
        puller.once()
    assert not (tmp_path / "victim").exists()


def test_the_limit_of_a_version(trainer, server, pulling, monkeypatch):
    trainer.publish()
    monkeypatch.setattr(download_module, "VERSION_LIMIT_BYTES", 1000)
    puller, _ = pulling()
    with pytest.raises(RefusedError, match="expected 1000 at most"):
        puller.once()
    assert json.loads((puller._mirror.models_dir / "pull.json").read_text())["pointer"] is None
