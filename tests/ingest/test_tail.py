"""Blocks of whole lines: every byte once and in order, however the stream is cut, in bounded memory."""

import gzip
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrain.ingest import tail
from streamtrain.ingest.identity import OpenLog
from streamtrain.ingest.tail import DamagedLogError, GzipStream, LineReader, PlainStream


class Pieces:
    """A stream that gives its bytes in pieces of given sizes, like a file that grows."""

    def __init__(self, data, sizes, ended=False):
        self.data, self.sizes, self.place, self.ended = data, list(sizes), 0, ended

    def read_into(self, view):
        size = min(self.sizes.pop(0) if self.sizes else 1 << 30, len(view), len(self.data) - self.place)
        view[:size] = self.data[self.place : self.place + size]
        self.place += size
        return size


def plain(data, offset, limit, oversize, ended):
    """Whole lines that fit, where the long ones begin, and the rest, by splitting everything."""
    lines, long, place = [], [], offset
    parts = data.split(b"\n")
    rest = parts.pop()
    for part in parts:
        if oversize:
            oversize = False
        elif len(part) > limit:
            long.append(place)
        else:
            lines.append((place, part))
        place += len(part) + 1
    if rest and not oversize:
        if len(rest) > limit:
            long.append(place)
            rest = b""
        elif ended:
            lines.append((place, rest))
            rest = b""
    return lines, long, b"" if oversize else rest


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.integers(0, 30), st.integers(0, 200)), max_size=30),
    st.lists(st.integers(1, 90), max_size=60),
    st.integers(0, 1000),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_same_as_splitting_everything(monkeypatch_block, lengths, sizes, offset, oversize, ended, terminated):
    limit = 50
    data = b"\n".join(bytes([97 + index % 26]) * length for index, length in enumerate(lengths))
    data += b"\n" if terminated else b""
    reader = LineReader(bytearray(limit + 64), limit)
    lines, long, place = [], [], offset
    inside = oversize
    for block in reader.blocks(Pieces(data, sizes, ended), offset, oversize):
        assert block.start == place
        whole = bytes(block.data)
        assert whole == data[place - offset : place - offset + len(whole)]
        assert len(whole) > 0
        if block.ends is None:
            assert block.first != inside
            if block.first:
                long.append(block.start)
            inside = not block.last
        else:
            start = 0
            for end in block.ends.tolist():
                lines.append((block.start + start, whole[start:end]))
                start = end + 1
            assert start in (len(whole), len(whole) + 1)
        place += len(whole)
    expected = plain(data, offset, limit, oversize, ended)
    assert (lines, long, reader.rest) == expected
    assert place + len(reader.rest) == offset + len(data)


@pytest.fixture(scope="module")
def monkeypatch_block():
    """Blocks of 64 bytes, so that short texts make many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "BLOCK_BYTES", 64)
        yield


def test_a_buffer_that_can_not_hold_a_line_is_refused():
    with pytest.raises(ValueError, match="the buffer is 10 bytes, expected more than 10"):
        LineReader(bytearray(10), 10)


def drain(stream, size):
    view = memoryview(bytearray(size))
    pieces = []
    while n := stream.read_into(view):
        pieces.append(bytes(view[:n]))
    return b"".join(pieces)


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_gzip_gives_what_was_packed(tmp_path, size):
    data = np.random.default_rng(0).integers(0, 60, 5000, np.uint8).tobytes() + bytes(5000)
    path = tmp_path / "a"
    path.write_bytes(
        gzip.compress(data[:3000]) + bytes(100) + gzip.compress(b"") + gzip.compress(data[3000:]) + bytes(3)
    )
    with OpenLog(str(path)) as log:
        stream = GzipStream(log)
        assert drain(stream, size) == data
        assert stream.ended


@pytest.mark.parametrize("cut", [1, 5, 11, 100, -9, -8, -4, -1])
def test_gzip_that_is_cut_off_gives_what_is_there_and_has_not_ended(tmp_path, cut):
    data = np.random.default_rng(0).integers(0, 60, 5000, np.uint8).tobytes()
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(data)[:cut])
    with OpenLog(str(path)) as log:
        stream = GzipStream(log)
        assert data.startswith(drain(stream, 1000))
        assert not stream.ended


def test_gzip_damage_is_told(tmp_path):
    packed = bytearray(gzip.compress(b"x" * 100_000 + b"y"))
    packed[-6] ^= 1
    path = tmp_path / "a"
    path.write_bytes(bytes(packed))
    with OpenLog(str(path)) as log, pytest.raises(DamagedLogError, match="gzip is damaged"):
        drain(GzipStream(log), 1000)


def test_a_bomb_is_unpacked_in_small_pieces(tmp_path):
    path = tmp_path / "a"
    packer = zlib.compressobj(9, wbits=31)
    with path.open("wb") as file:
        for _ in range(64):
            file.write(packer.compress(bytes(1 << 20)))
        file.write(packer.flush())
    assert path.stat().st_size < 1 << 18
    with OpenLog(str(path)) as log:
        stream = GzipStream(log)
        view = memoryview(bytearray(1 << 12))
        total = 0
        while n := stream.read_into(view):
            total += n
            assert len(stream._pending) <= 1 << 16
        assert total == 64 << 20


def test_plain_ends_where_the_file_ended_when_it_was_opened(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with OpenLog(str(path)) as log:
        with path.open("ab") as file:
            file.write(b"more")
        assert drain(PlainStream(log, 3), 4) == b"3456789"
        assert drain(PlainStream(log, 30), 4) == b""


@given(st.binary(max_size=60) | st.lists(st.sampled_from([b"\n", b"a" * 7, b"b" * 30]), max_size=12).map(b"".join))
def test_newlines_are_found_wherever_they_are(data):
    got = tail.find_newlines(np.frombuffer(data, np.uint8))
    assert got.tolist() == [place for place, byte in enumerate(data) if byte == 10]
