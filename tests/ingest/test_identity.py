"""Opening logs: never waiting, never following, and telling files apart that share a name or an inode."""

import os
import socket
import time
from pathlib import Path

import pytest

from streamtrain.ingest.identity import FileIdentity, NotReadableError, OpenLog, source_key


def identity(path):
    with OpenLog(str(path)) as log:
        return log.identity


def test_the_same_file_under_another_name_and_after_writing(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    before = identity(path)
    path.rename(tmp_path / "b")
    (tmp_path / "c").hardlink_to(tmp_path / "b")
    with (tmp_path / "b").open("ab") as file:
        file.write(b"2")
    assert identity(tmp_path / "b") == identity(tmp_path / "c") == before


def test_a_file_made_anew_is_another_even_with_the_same_inode(tmp_path):
    path = tmp_path / "a"
    seen = []
    for _ in range(20):
        path.write_bytes(b"1")
        seen.append(identity(path))
        path.unlink()
        time.sleep(0.005)
    if not seen[0].birth_ns:
        pytest.skip("this file system does not tell when a file was made")
    assert len(set(seen)) == len(seen)


def test_birth_is_when_it_was_made(tmp_path):
    path = tmp_path / "a"
    before = time.time_ns()
    path.write_bytes(b"1")
    birth_ns = identity(path).birth_ns
    if not birth_ns:
        pytest.skip("this file system does not tell when a file was made")
    assert abs(birth_ns - before) < 10**9


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    (tmp_path / "target").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path in (
            tmp_path,
            tmp_path / "link",
            tmp_path / "loop",
            tmp_path / "fifo",
            tmp_path / "socket",
            "/dev/null",
        ):
            with pytest.raises(NotReadableError, match=r"^open "):
                OpenLog(str(path))
    with pytest.raises(FileNotFoundError):
        OpenLog(str(tmp_path / "absent"))


def test_refusing_leaves_no_descriptor_open(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        with pytest.raises(NotReadableError):
            OpenLog(str(tmp_path / "fifo"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_read_at(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with OpenLog(str(path)) as log:
        assert log.read_at(3, 4) == b"3456"
        assert log.read_at(8, 4) == b"89"
        assert log.read_at(20, 4) == b""


def test_source_keys_differ_and_come_again():
    one = FileIdentity(1, 2, 3)
    keys = {
        source_key(one, b"head"),
        source_key(one, b"tail"),
        source_key(one, b"head", 1),
        source_key(FileIdentity(1, 2, 4), b"head"),
        source_key(FileIdentity(12, 0, 3), b"head"),
    }
    assert len(keys) == 5
    assert all(0 <= key < 1 << 63 for key in keys)
    assert source_key(one, b"head") in keys
