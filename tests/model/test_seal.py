from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import resource

import pytest

from streamtrain.model.seal import MANIFEST_FILE, SCHEMA_VERSION, VersionError, digest, read_sealed, seal, unseal

FILES = {"a.bin": b"hello", "b.json": b"{}\n", "empty": b""}


def manifest(**changes):
    return {"schema_version": SCHEMA_VERSION, "files": {n: digest(d) for n, d in FILES.items()}} | changes


def write_version(directory, sealed=None, files=FILES):
    directory.mkdir()
    for name, data in files.items():
        (directory / name).write_bytes(data)
    (directory / MANIFEST_FILE).write_bytes(seal(manifest()) if sealed is None else sealed)
    return directory


def test_a_sealed_manifest_is_plain_json_that_any_program_can_check():
    data = seal({"schema_version": 1, "name": "ä"})
    parsed = json.loads(data)
    assert parsed["name"] == "ä"
    covered, _, _ = data.rpartition(b'\n  "manifest_sha256"')
    assert parsed["manifest_sha256"] == hashlib.sha256(covered).hexdigest()
    assert unseal(data) == parsed


def test_every_changed_byte_of_a_manifest_is_noticed():
    data = seal(manifest())
    for position in range(len(data)):
        for bit in (0x01, 0x20, 0x80):
            damaged = bytearray(data)
            damaged[position] ^= bit
            with pytest.raises(ValueError, match="seal"):
                unseal(bytes(damaged))


def test_every_truncation_of_a_manifest_is_noticed():
    data = seal(manifest())
    for length in range(len(data)):
        with pytest.raises(ValueError, match="seal"):
            unseal(data[:length])
    with pytest.raises(ValueError, match="seal"):
        unseal(data + b"\n")


def test_a_newer_schema_is_refused_by_number():
    with pytest.raises(ValueError, match=rf"schema_version is {SCHEMA_VERSION + 1}.*upgrade"):
        unseal(seal(manifest(schema_version=SCHEMA_VERSION + 1)))


@pytest.mark.parametrize("schema", [None, 0, True, "1", 1.0])
def test_no_schema_is_refused(schema):
    with pytest.raises(ValueError, match="schema_version is"):
        unseal(seal(manifest(schema_version=schema)))


def test_a_version_is_read_whole(tmp_path):
    found, files = read_sealed(write_version(tmp_path / "v1"))
    assert files == FILES
    assert found["schema_version"] == SCHEMA_VERSION
    assert read_sealed(tmp_path / "v1", only=("a.bin",))[1] == {"a.bin": b"hello"}
    with pytest.raises(VersionError, match=r"does not list \['c'\]"):
        read_sealed(tmp_path / "v1", only=("c",))


def test_every_changed_byte_of_a_file_is_noticed(tmp_path):
    directory = write_version(tmp_path / "v1")
    for name in ("a.bin", "b.json"):
        for position in range(len(FILES[name])):
            damaged = bytearray(FILES[name])
            damaged[position] ^= 1
            (directory / name).write_bytes(damaged)
            with pytest.raises(VersionError, match=f"{name} was changed"):
                read_sealed(directory)
        (directory / name).write_bytes(FILES[name])
    read_sealed(directory)


@pytest.mark.parametrize("data", [b"", b"hell", b"hello!", b"hello" * 1000])
def test_another_size_is_noticed(tmp_path, data):
    directory = write_version(tmp_path / "v1", files=FILES | {"a.bin": data})
    with pytest.raises(VersionError, match=r"a\.bin has .* expected 5"):
        read_sealed(directory)


@pytest.mark.parametrize("name", ["a.bin", MANIFEST_FILE])
@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "link"])
def test_what_is_not_a_regular_file_is_refused_without_waiting(tmp_path, name, kind):
    directory = write_version(tmp_path / "v1")
    (directory / name).rename(tmp_path / "aside")
    if kind == "directory":
        (directory / name).mkdir()
    elif kind == "fifo":
        os.mkfifo(directory / name)
    elif kind == "link":
        (directory / name).symlink_to(tmp_path / "aside")
    with pytest.raises(VersionError, match=re.escape(name)):
        read_sealed(directory)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "x" * 200, "a\nb"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    (tmp_path / "x").write_bytes(b"")
    directory = write_version(tmp_path / "v1", seal(manifest(files={name: digest(b"")})))
    with pytest.raises(VersionError, match="plain file name"):
        read_sealed(directory)


@pytest.mark.parametrize(
    "entry", [None, {}, {"size": "5", "sha256": "x"}, {"size": -1, "sha256": "x"}, {"size": 1 << 40}]
)
def test_an_entry_that_is_none_is_refused(tmp_path, entry):
    directory = write_version(tmp_path / "v1", seal(manifest(files={"a.bin": entry})))
    with pytest.raises(VersionError, match="is not valid"):
        read_sealed(directory)


def test_no_directory_is_refused(tmp_path):
    with pytest.raises(VersionError, match="not there"):
        read_sealed(tmp_path / "v1")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(VersionError, match="not there"):
        read_sealed(tmp_path / "file")


def test_running_out_of_files_is_not_damage(tmp_path):
    directory = write_version(tmp_path / "v1")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(OSError, match="Too many open files") as caught:
            read_sealed(directory)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.errno == errno.EMFILE
    read_sealed(directory)
