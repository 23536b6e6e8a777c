"""Bytes of a log from an offset on → complete lines, in blocks of bounded size; plain or gzip."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from streamtrain.ingest.identity import NotReadableError, OpenLog

I64 = NDArray[np.int64]

BLOCK_BYTES: Final = 1 << 22
MAX_LINE_BYTES: Final = 1 << 20
_ONE, _TOP, _EIGHT_ONES = np.uint64(1), np.uint64(56), np.uint64(0x0101010101010101)
_COMPRESSED_BYTES: Final = 1 << 16
GZIP: Final = b"\x1f\x8b"  # how such a file begins
# Logs shrink to a tenth, at the very best to a hundredth. What swells beyond these is a bomb, not a log.
_FREE_BYTES: Final = 256 << 20
_MOST_SWELLING: Final = 200
_MOST_BYTES: Final = 1 << 40


class DamagedLogError(Exception):
    """A compressed log that can't be decompressed any further; the message says why."""


def check_swelling(kind: str, n_in: int, n_out: int) -> None:
    """Refuse to go on decompressing what can't be a log.

    Parameters
    ----------
    kind : str
        Name of the format.
    n_in, n_out : int
        Bytes read, and bytes that came of them.

    Raises
    ------
    DamagedLogError
        Beyond 256 MiB, if it is more than 200 times as much; beyond 1 TiB in any case.
    """
    if n_out > _FREE_BYTES and n_out > _MOST_SWELLING * n_in:
        raise DamagedLogError(f"{kind} swells to more than {_MOST_SWELLING} times its size, which no log does")
    if n_out > _MOST_BYTES:
        raise DamagedLogError(f"{kind} holds more than {_MOST_BYTES >> 40} TiB; split it")


class ByteStream(Protocol):
    """The decompressed bytes of a log, one after the other."""

    @property
    def ended(self) -> bool:
        """The format itself says that nothing follows, so that the last line is complete even without a newline."""

    def read_into(self, view: memoryview) -> int:
        """Fill a buffer; fewer bytes than fit only at the present end, and 0 when there is nothing."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive bytes of a log.

    Attributes
    ----------
    start : int
        Offset of the first byte.
    data : memoryview
        Valid until the next block is asked for.
    ends : int64, (L,) or None
        Index of each line's end in `data`, which holds whole lines; None where it is a part of a line that is too long.
    first : bool
        It is the first part of such a line.
    last : bool
        It is the last one.
    """

    start: int
    data: memoryview
    ends: I64 | None
    first: bool = False
    last: bool = False


class PlainStream:
    """A file as it is.

    Parameters
    ----------
    log : OpenLog
    offset : int
        Where to begin. The end is where the file ended when it was opened: what a busy writer adds meanwhile is for the
        next time, so that no file keeps the others waiting.
    """

    ended = False

    def __init__(self, log: OpenLog, offset: int) -> None:
        self._log = log
        self._offset = offset

    def read_into(self, view: memoryview) -> int:
        """Fill a buffer from the file."""
        filled = 0
        view = view[: max(0, self._log.look.size - self._offset)]
        try:
            while filled < len(view):
                n = os.preadv(self._log.descriptor, [view[filled:]], self._offset)
                if not n:
                    break
                filled += n
                self._offset += n
        except OSError as error:
            raise NotReadableError(f"read {self._log.path!r} at {self._offset}: {error.strerror}") from error
        return filled


class GzipStream:
    """What is in a gzip file, of one member or several.

    Parameters
    ----------
    log : OpenLog

    Attributes
    ----------
    ended : bool
        The last member is complete, with a valid checksum, and nothing follows.
    """

    def __init__(self, log: OpenLog) -> None:
        self.ended = False
        self._log = log
        self._offset = 0
        self._n_out = 0
        self._pending = b""
        self._member: zlib._Decompress | None = zlib.decompressobj(wbits=31)

    def read_into(self, view: memoryview) -> int:
        """Fill a buffer with decompressed bytes, never making more of them than fit."""
        filled = 0
        while filled < len(view):
            if not self._pending:
                self._pending = self._log.read_at(self._offset, _COMPRESSED_BYTES)
                self._offset += len(self._pending)
            if self._member is None:
                # Between members; padding with zeros is allowed.
                self._pending = self._pending.lstrip(b"\0")
                if not self._pending:
                    if not self._log.read_at(self._offset, 1):
                        self.ended = True
                        break
                    continue
                self._member = zlib.decompressobj(wbits=31)
            try:
                data = self._member.decompress(self._pending, len(view) - filled)
            except zlib.error as error:
                raise DamagedLogError(f"gzip is damaged: {error}") from error
            at_end = not self._pending
            self._pending = self._member.unconsumed_tail
            view[filled : filled + len(data)] = data
            filled += len(data)
            if self._member.eof:
                self._pending = self._member.unused_data
                self._member = None
            elif at_end and not data:
                break
        self._n_out += filled
        check_swelling("gzip", self._offset, self._n_out)
        return filled


def find_newlines(data: NDArray[np.uint8]) -> I64:
    """Find the newlines in some bytes.

    Parameters
    ----------
    data : uint8, (N,)

    Returns
    -------
    int64, (L,)
    """
    # Most groups of eight bytes have none, and are passed over at once.
    size = len(data) & -8
    groups = (data[:size] == ord("\n")).view(np.uint64)
    places = np.flatnonzero(groups != 0)
    marks = groups[places]
    if np.any(marks & (marks - _ONE)):
        # Two lines end within one group: there are short ones.
        return np.flatnonzero(data == ord("\n"))
    below = (marks - _ONE) & _EIGHT_ONES
    found = 8 * places + ((below * _EIGHT_ONES) >> _TOP).view(np.int64)
    return np.concatenate((found, np.flatnonzero(data[size:] == ord("\n")) + size))


class LineReader:
    """Cut a stream into blocks of whole lines.

    Parameters
    ----------
    buffer : bytearray
        Working memory, to be used again for the next stream; longer than `max_line_bytes`.
    max_line_bytes : int
        A longer line (without its end) is passed on in parts, marked as such, and never held whole.

    Attributes
    ----------
    rest : bytes
        After the last block: the beginning of a line that has no end yet.
    """

    def __init__(self, buffer: bytearray, max_line_bytes: int) -> None:
        if len(buffer) <= max_line_bytes:
            raise ValueError(f"read lines: the buffer is {len(buffer)} bytes, expected more than {max_line_bytes}")
        self.rest = b""
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._max_line_bytes = max_line_bytes

    def blocks(self, stream: ByteStream, offset: int, oversize: bool) -> Iterator[Block]:
        """Read to the present end of a stream.

        Parameters
        ----------
        stream : ByteStream
            At `offset`.
        offset : int
        oversize : bool
            `offset` lies inside a line that is too long.

        Yields
        ------
        Block
            Without gaps: each starts where the one before ended.

        Raises
        ------
        NotReadableError, DamagedLogError
        """
        view = self._view
        held = 0
        self.rest = b""
        while True:
            n = stream.read_into(view[held : held + BLOCK_BYTES])
            held += n
            at_end = n == 0
            if at_end and stream.ended and held and not oversize:
                yield from self._cut(offset, held, np.array([held], np.int64))
                return
            used = 0
            if oversize and held:
                # The rest of a line that is too long, up to its newline if that is here.
                used = self._buffer.find(b"\n", 0, held) + 1 or held
                oversize = view[used - 1] != ord("\n")
                yield Block(offset, view[:used], None, last=not oversize)
            newlines = find_newlines(np.frombuffer(view[used:held], np.uint8)) + used
            if len(newlines):
                whole = int(newlines[-1]) + 1
                yield from self._cut(offset, whole, newlines, used)
                used = whole
            if held - used > self._max_line_bytes:
                yield Block(offset + used, view[used:held], None, first=True)
                oversize, used = True, held
            view[: held - used] = bytes(view[used:held])
            offset += used
            held -= used
            if at_end:
                self.rest = bytes(view[:held])
                return

    def _cut(self, offset: int, stop: int, ends: I64, start: int = 0) -> Iterator[Block]:
        """Pass on whole lines, those that are too long each by themselves."""
        sizes = np.diff(ends, prepend=start - 1) - 1
        for line in np.flatnonzero(sizes > self._max_line_bytes):
            first, end = int(ends[line]) - int(sizes[line]), min(int(ends[line]) + 1, stop)
            if first > start:
                inside = ends[(ends >= start) & (ends < first)]
                yield Block(offset + start, self._view[start:first], inside - start)
            yield Block(offset + first, self._view[first:end], None, first=True, last=True)
            start = end
        if stop > start:
            yield Block(offset + start, self._view[start:stop], ends[ends >= start] - start)
