"""CSV and TSV: blocks of lines → records → samples. A record may run over several lines, within its quotes.

Most blocks hold no quotes; those are split, which is twice as fast as the csv module that all others go through. What
either makes of a record goes the same way from there on.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamtrain.ingest.decode import BadLine, Decoded
from streamtrain.ingest.header import Header, header_line, read_header
from streamtrain.ingest.identity import OpenLog
from streamtrain.ingest.kept import keep_delimited
from streamtrain.ingest.packed import unpack
from streamtrain.ingest.rows import Rows
from streamtrain.ingest.tail import ByteStream, PlainStream

I64 = NDArray[np.int64]

_OPEN: Final = "unexpected end of data"  # what the csv module says of a quoted field without an end
# After a record that makes no sense, reading goes on in its second line. Quotes can be set such that each line would
# be read to the end of the block; beyond so many times the block, what was read goes with the record.
_MOST_AGAIN: Final = 8
_PEEKED_BYTES: Final = 64
_PIECE_BYTES: Final = 4096


@dataclass(slots=True)
class _Records:
    """Records of a block; indices are of lines."""

    rows: list[list[Any]] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    stop: list[int] = field(default_factory=list)
    bad: list[tuple[int, int, str]] = field(default_factory=list)
    used: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive bytes of a table with whole records, and what became of them."""

    start: int
    data: memoryview
    decoded: Decoded


class Delimited:
    """Decode the blocks of one table, one after the other.

    Parameters
    ----------
    rows : Rows
    header : Header
    max_line_bytes : int
        A record of several lines that is longer is none.

    Attributes
    ----------
    rest : bytes
        Lines of a record that has no end yet.
    """

    def __init__(self, rows: Rows, header: Header, max_line_bytes: int) -> None:
        self.rest = b""
        self._rows = rows
        self._header = header
        self._layout = rows.layout(header.names)
        self._max_line_bytes = max_line_bytes

    @property
    def may_be_cut(self) -> bool:
        """A last line without its newline, of the right number of fields, may lack a part of what is read."""
        return len(self._header.names) - 1 in self._layout.used

    def in_header(self, offset: int) -> bool:
        """Tell whether records begin only after an offset."""
        return offset < self._header.stop

    def decode(self, data: memoryview, start: int, source: int, *, final: bool = False) -> Part:
        """Decode whole lines.

        Parameters
        ----------
        data : memoryview
            Follows what was given before; only of the last part may the last line lack its newline.
        start : int
            Offset of `data` in the source.
        source : int
            Key of the source.
        final : bool
            Nothing follows, so that a record without an end is none.

        Returns
        -------
        Part
            It begins with the `rest` of before; what it lacks at the end is the new one.
        """
        text = self.rest + bytes(data)
        start -= len(self.rest)
        ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
        if text and text[-1:] != b"\n":
            ends = np.append(ends, len(text))
        starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
        skipped = int(np.searchsorted(starts, self._header.stop - start))
        records = self._split(text, starts, skipped) or self._parse(text, starts, ends, skipped, final)
        used = int(starts[records.used]) if records.used < len(starts) else len(text)
        self.rest = text[used:]
        return Part(start, memoryview(text)[:used], self._decoded(text, starts, ends, start, source, records))

    def _split(self, text: bytes, starts: I64, skipped: int) -> _Records | None:
        """Take records apart that are a line each and need nothing but splitting; None if some do."""
        body = text[int(starts[skipped]) :] if skipped < len(starts) else b""
        header = self._header.text
        if b'"' in body or body.startswith(header) or b"\n" + header in body:
            return None
        if b"\r" in body:
            body = body.replace(b"\r\n", b"\n").removesuffix(b"\r")
            if b"\r" in body:
                return None
        try:
            lines = body.decode().removesuffix("\n").split("\n") if body else []
        except UnicodeDecodeError:
            return None
        delimiter, n = self._header.delimiter, len(self._header.names)
        rows: list[list[Any]] = [line.split(delimiter) for line in lines]
        if len(rows) != len(starts) - skipped or (rows and set(map(len, rows)) != {n}):
            return None
        if any("" in row for row in rows):
            rows = [[value or None for value in row] for row in rows]
        first = list(range(skipped, len(starts)))
        return _Records(rows, first, [line + 1 for line in first], [], len(starts))

    def _parse(self, text: bytes, starts: I64, ends: I64, skipped: int, final: bool) -> _Records:
        """Take records apart by the csv module."""
        records = _Records(used=skipped)
        lines = [
            text[start : end + 1].decode("utf-8", "surrogateescape")
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
        n, names = len(self._header.names), self._header.names
        again = 0
        while records.used < len(lines):
            begun = records.used
            onwards = map(lines.__getitem__, range(begun, len(lines)))
            reader = csv.reader(onwards, delimiter=self._header.delimiter, strict=True)
            try:
                for row in reader:
                    first, records.used = records.used, begun + reader.line_num
                    if len(row) != n:
                        if row:
                            reason = f"{len(row)} fields, expected {n} as in the header"
                            records.bad.append((first, records.used, reason))
                    elif not all(_is_text(row[place]) for place in self._layout.used):
                        records.bad.append((first, records.used, "not UTF-8"))
                    elif tuple(row) != names:
                        records.rows.append([value or None for value in row])
                        records.first.append(first)
                        records.stop.append(records.used)
            except csv.Error as error:
                first, reached = records.used, begun + reader.line_num
                open_bytes = len(text) - int(starts[first])
                if str(error) == _OPEN:
                    if not final and open_bytes <= self._max_line_bytes:
                        break
                    reason = "a quoted field has no end" + ("" if final else f" within {self._max_line_bytes} bytes")
                else:
                    reason = f"not CSV: {error}"
                again += reached - first - 1
                records.used = reached if again > _MOST_AGAIN * len(lines) else first + 1
                records.bad.append((first, records.used, reason))
        return records

    def _decoded(self, text: bytes, starts: I64, ends: I64, start: int, source: int, records: _Records) -> Decoded:
        rows, layout = records.rows, self._layout
        first, last = np.array(records.first, np.int64), np.array(records.stop, np.int64) - 1
        wrong: dict[int, str]
        if layout.problem is None:
            samples, halves, wrong = self._rows.read(
                layout, rows, start + starts[first], start + ends[last] + 1, source
            )
        else:
            samples, halves, _ = self._rows.nothing()
            wrong = dict.fromkeys(range(len(rows)), layout.problem)
        bad = [*records.bad, *((records.first[row], records.stop[row], reason) for row, reason in wrong.items())]
        if not bad:
            return Decoded(samples, (), len(rows), halves)
        bad.sort()
        begins, stops = starts.tolist(), ends.tolist()
        listed = tuple(
            BadLine(
                start + begins[line],
                reason,
                keep_delimited(self._header, text[begins[line] : stops[stop - 1]]),
            )
            for line, stop, reason in bad
        )
        return Decoded(samples, listed, len(rows) + len(records.bad), halves)


def _is_text(value: str) -> bool:
    """Tell whether a text can be written as UTF-8, which what was no UTF-8 can't."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def open_delimited(rows: Rows, log: OpenLog, compressed: bool, max_line_bytes: int) -> Delimited | None:
    """Open a delimited table, if it is one, by the header that it begins with.

    Parameters
    ----------
    rows : Rows
    log : OpenLog
    compressed : bool
        It is.
    max_line_bytes : int

    Returns
    -------
    Delimited or None
        None where it is none, or its header has no end yet.

    Raises
    ------
    NotReadableError, DamagedLogError
    """
    if not compressed and header_line(log.read_at(0, _PEEKED_BYTES)) is None:
        return None
    begin = _beginning(unpack(log) if compressed else PlainStream(log, 0), max_line_bytes)
    header = None if begin is None else read_header(begin, rows.fields, rows.telling, log.path)
    return None if header is None else Delimited(rows, header, max_line_bytes)


def _beginning(stream: ByteStream, max_line_bytes: int) -> bytes | None:
    """Read until a first record is whole; None if it is none, too long, or has no end yet."""
    begin = bytearray()
    piece = memoryview(bytearray(_PIECE_BYTES))
    while len(begin) <= max_line_bytes:
        n = stream.read_into(piece)
        begin += piece[:n]
        found = header_line(begin)
        if found is not None and found[1] < len(begin):
            return bytes(begin)
        if not n:
            return bytes(begin) if found is not None and stream.ended else None
        if found is None and begin.strip():
            return None
    return None
