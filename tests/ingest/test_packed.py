"""zstd: read like gzip, recognised after rotation, bounded whatever is in it."""

import gzip
import resource
import zlib

import pytest
import zstandard
from log_yard import lines, once

from streamtrain.ingest import tail
from streamtrain.ingest.identity import OpenLog
from streamtrain.ingest.packed import ZstdStream, unpack


def pack(data: bytes, **more) -> bytes:
    return zstandard.ZstdCompressor(**more).compress(data)


def test_read_whole_in_several_frames_without_a_last_newline(yard):
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    yard.write("a.jsonl.zst", skippable + pack(lines(range(5))) + skippable + pack(lines(range(5, 9)).rstrip()))
    yard.write("no-such-name.log", pack(lines(range(9, 20)), write_checksum=True))
    report = yard.run()
    assert (report.samples, report.pending, report.quarantined) == (20, 0, 0)
    assert yard.seen() == once(range(20))


def test_a_rotated_file_compressed_afterwards_is_not_read_twice(yard):
    data = lines(range(500))
    path = yard.write("app.log.1", data)
    yard.run()
    path.unlink()
    yard.write("app.log.1.zst", pack(data + lines([500])))
    report = yard.run()
    assert (report.samples, report.recognised, report.lost_bytes) == (1, 1, 0)
    yard.restart()
    yard.write("copy.jsonl.gz", gzip.compress(data))
    assert yard.run().lines == 0
    assert yard.seen() == once(range(501))


def test_a_growing_file_is_read_as_far_as_it_goes(yard):
    compressor = zstandard.ZstdCompressor().compressobj()
    packed = b""
    for start in range(0, 3000, 1000):
        packed += compressor.compress(lines(range(start, start + 1000)))
        packed += compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        yard.write("a.jsonl.zst", packed)
        assert yard.run().pending == 1
        assert sum(yard.seen().values()) == start + 1000
        yard.restart()
    yard.write("a.jsonl.zst", packed + compressor.flush())
    assert yard.run().pending == 0
    assert yard.seen() == once(range(3000))


def test_damage_is_one_finding_and_what_came_before_is_read(yard):
    packed = bytearray(pack(lines(range(3000)), write_checksum=True, level=1))
    yard.write("cut.jsonl.zst", bytes(packed) + b"no frame")
    report = yard.run()
    assert report.samples == 3000
    (row,) = yard.store.quarantine()
    assert row.reason.startswith("zstd is damaged")
    yard.now = yard.clock() + 60
    yard.run()
    assert yard.run().lines == 0


@pytest.mark.parametrize("kind", ["zstd", "gzip"])
def test_a_bomb_is_refused_once_and_takes_no_memory(yard, kind, monkeypatch):
    monkeypatch.setattr(tail, "_FREE_BYTES", 16 << 20)
    n = 600 << 20
    compressor = zstandard.ZstdCompressor(level=1).compressobj() if kind == "zstd" else zlib.compressobj(1, wbits=31)
    block = bytes(1 << 20)
    yard.write("bomb.jsonl", b"".join(compressor.compress(block) for _ in range(n >> 20)) + compressor.flush())
    yard.write("good.jsonl", lines(range(10)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert yard.run().samples == 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10
    reasons = [row.reason for row in yard.store.quarantine()]
    assert sum(f"{kind} swells to more than 200 times its size" in reason for reason in reasons) == 1
    yard.now = yard.clock() + 60
    yard.run()
    assert yard.run().lines == 0


def test_a_frame_that_asks_for_too_much_memory_is_refused(yard):
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    yard.write("a.jsonl.zst", compressor.compress(lines(range(10))) + compressor.flush())
    assert yard.run().samples == 0
    assert "zstd is damaged" in yard.store.quarantine()[0].reason


def test_streams_are_told_by_content(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(pack(b"abc"))
    with OpenLog(str(path)) as log:
        stream = unpack(log)
        assert isinstance(stream, ZstdStream)
        buffer = memoryview(bytearray(2))
        assert [stream.read_into(buffer), stream.read_into(buffer), stream.read_into(buffer)] == [2, 1, 0]
        assert stream.ended
