"""Compressed logs, told by how they begin: gzip and zstd, each decompressed piece by piece into the caller's buffer."""

from __future__ import annotations

import os
from typing import Final

import zstandard

from streamtrain.ingest.identity import OpenLog
from streamtrain.ingest.tail import GZIP, ByteStream, DamagedLogError, GzipStream, check_swelling

ZSTD: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE: Final = tuple(bytes([0x50 + low]) + b"\x2a\x4d\x18" for low in range(16))  # parallel tools begin with one
# A block of zstd takes at least four bytes and gives at most 128 KiB: so much input never gives more than 32 MiB.
_PIECE_BYTES: Final = 1024
_WINDOW_BYTES: Final = 1 << 27  # what a frame may ask to be remembered: as much as the tool itself allows unasked


def is_packed(begin: bytes) -> bool:
    """Tell by its first bytes whether a log is compressed in a way that can be read."""
    return begin.startswith((GZIP, ZSTD, *_SKIPPABLE))


def unpack(log: OpenLog) -> ByteStream:
    """Open the decompressed bytes of a compressed log.

    Parameters
    ----------
    log : OpenLog

    Returns
    -------
    ByteStream
    """
    return GzipStream(log) if log.read_at(0, 2) == GZIP else ZstdStream(log)


class ZstdStream:
    """What is in a zstd file, of one frame or several.

    Parameters
    ----------
    log : OpenLog

    Attributes
    ----------
    ended : bool
        The last frame is complete, and nothing follows.
    """

    def __init__(self, log: OpenLog) -> None:
        self.ended = False
        self._log = log
        self._offset = 0
        self._n_out = 0
        self._damage = ""
        self._pending = b""
        self._ready = memoryview(b"")
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def read_into(self, view: memoryview) -> int:
        """Fill a buffer with decompressed bytes."""
        if self._damage:
            raise DamagedLogError(self._damage)
        filled = 0
        while filled < len(view):
            if not self._ready and not self._next():
                break
            piece = self._ready[: len(view) - filled]
            view[filled : filled + len(piece)] = piece
            self._ready = self._ready[len(piece) :]
            filled += len(piece)
        if self._damage and not filled:
            raise DamagedLogError(self._damage)
        self._n_out += filled
        check_swelling("zstd", self._offset, self._n_out)
        return filled

    def _next(self) -> bool:
        """Decompress the next piece; False at the present end."""
        if not self._pending:
            self._pending = self._log.read_at(self._offset, _PIECE_BYTES)
            self._offset += len(self._pending)
        if not self._pending:
            at_end = self._offset >= os.fstat(self._log.descriptor).st_size
            self.ended = self._frame is None and at_end and self._offset > 0
            return False
        if self._frame is None:
            self._frame = self._decompressor.decompressobj()
        try:
            self._ready = memoryview(self._frame.decompress(self._pending))
        except zstandard.ZstdError as error:
            # Told once everything before it was passed on.
            self._damage = f"zstd is damaged: {error}"
            return False
        if self._frame.eof:
            self._pending = self._frame.unused_data
            self._frame = None
        else:
            self._pending = b""
        return True
