"""Lines → samples: one typed decode of a whole batch; bad lines are told apart only when there are any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamtrain.ingest.columns import Columns
from streamtrain.ingest.halves import Half, HalfColumns
from streamtrain.ingest.hashing import Buffer
from streamtrain.ingest.regular import RegularLines
from streamtrain.ingest.schema import Schema
from streamtrain.ingest.slices import SliceNames
from streamtrain.types import Samples

I64 = NDArray[np.int64]

KEPT_BYTES = 4096
_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_SINGLY = 16  # so many lines are decoded one by one rather than halved again
_BLANK = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no sample: where it starts, why, and its first 4 KiB."""

    offset: int
    reason: str
    line: bytes


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a batch of lines: each of the `n_lines` that aren't blank is in one of the others.

    `halves` are of a schema that joins, which has no `samples` before they are.
    """

    samples: Samples
    bad: tuple[BadLine, ...]
    n_lines: int
    halves: tuple[Half, ...] = ()


class Decoder:
    """Decode the lines of one schema.

    Parameters
    ----------
    schema : Schema
    clock : callable
        Seconds since the epoch, for lines without a time.
    names : SliceNames, optional
        Where the names of slices are noted.
    """

    def __init__(self, schema: Schema, clock: Callable[[], float], names: SliceNames | None = None) -> None:
        names = SliceNames() if names is None else names
        self._columns = Columns(schema, clock, names)
        self._halves = None if schema.join is None else HalfColumns(schema, schema.join, clock, names)
        line_type = self._columns.line_type if self._halves is None else self._halves.line_type
        self._json: msgspec.json.Decoder[Any] = msgspec.json.Decoder(line_type)
        self._regular = None
        if RegularLines.possible(schema):
            self._regular = RegularLines(schema, clock, self._json.decode, _ERRORS, names)

    def decode_lines(self, data: Buffer, ends: I64, source: int, start: int) -> Decoded:
        """Decode complete lines.

        Parameters
        ----------
        data : bytes-like
            Lines one after the other; only the last may lack its newline.
        ends : int64, (L,)
            Index of each line's newline in `data` (the length of `data` for a last line without).
        source : int
            Key of the source, which identifies lines without an id.
        start : int
            Offset of `data` in the source.

        Returns
        -------
        Decoded
        """
        view = memoryview(data)
        if start == 0 and view[:3] == _BYTE_ORDER_MARK:
            view, ends, start = view[3:], ends - 3, 3
        starts = np.empty_like(ends)
        starts[:1] = 0
        starts[1:] = ends[:-1] + 1
        empty = starts == ends
        if empty.any():
            # There may be a gigabyte of them.
            starts, ends = starts[~empty], ends[~empty]
        regular = None if self._regular is None else self._regular.read(view, starts, ends, source, start)
        if regular is None:
            return self._decoded(view, starts, ends, starts + start, source)[0]
        samples, lines = regular
        if lines.all():
            return Decoded(samples, (), len(lines))
        others = np.flatnonzero(~lines)
        text = b"\n".join([bytes(view[starts[line] : ends[line]]) for line in others])
        sizes = ends[others] - starts[others]
        stops = np.cumsum(sizes + 1) - 1
        decoded, kept = self._decoded(memoryview(text), stops - sizes, stops, starts[others] + start, source)
        return replace(
            decoded,
            samples=_in_order(samples, np.flatnonzero(lines), decoded.samples, others[kept]),
            n_lines=len(samples.keys) + decoded.n_lines,
        )

    def _decoded(
        self, view: memoryview, starts: I64, ends: I64, offsets: I64, source: int
    ) -> tuple[Decoded, NDArray[np.intp]]:
        """Decode lines that begin at these offsets of the source; also, which of them became samples."""
        lines = np.arange(len(starts))
        bad: list[tuple[int, str]] = []
        rows = self._whole(view, starts, ends)
        if rows is None:
            rows, lines, bad = self._apart(view, starts, ends)
        halves: list[Half] = []
        if self._halves is None:
            samples, wrong = self._columns.samples(rows, offsets[lines], source)
        else:
            after = offsets[lines] + (ends - starts)[lines] + 1
            halves, wrong = self._halves.read(rows, offsets[lines], after, source)
            samples, _ = self._columns.samples([], offsets[:0], source)
        n_lines = len(rows) + len(bad)
        bad += [(int(lines[row]), reason) for row, reason in wrong.items()]
        bad.sort()
        listed = tuple(
            BadLine(int(offsets[line]), reason, _first_line(view, int(starts[line]))) for line, reason in bad
        )
        kept = np.delete(lines, list(wrong)) if wrong else lines
        return Decoded(samples, listed, n_lines, tuple(halves)), kept

    def _whole(self, view: memoryview, starts: I64, ends: I64) -> list[Any] | None:
        """Decode all lines in one go; None if that isn't certain to be one value for each line."""
        if not len(ends):
            return []
        # msgspec lets a value run over several lines, and a line hold several. Where every line begins and ends with a
        # brace there is none of the former ("}" and "{" never meet within a value); then their number tells the latter.
        characters = np.frombuffer(view, np.uint8)
        last = ends - 1
        last = last - (characters[last] == ord("\r"))
        if not (np.all(characters[starts] == ord("{")) and np.all(characters[last] == ord("}"))):
            return None
        try:
            rows: list[Any] = self._json.decode_lines(view)
        except _ERRORS:
            return None
        return rows if len(rows) == len(ends) else None

    def _apart(self, view: memoryview, starts: I64, ends: I64) -> tuple[list[Any], I64, list[tuple[int, str]]]:
        """Decode around bad lines: halves that decode whole are taken whole, small parts line by line.

        Returns the rows, the line that each came from, and each bad line with its reason.
        """
        rows: list[Any] = []
        lines: list[int] = []
        bad: list[tuple[int, str]] = []
        parts = [(0, len(ends))]
        while parts:
            low, high = parts.pop()
            if high - low <= _SINGLY:
                for line in range(low, high):
                    text = bytes(view[starts[line] : ends[line]])
                    if not text.strip(_BLANK):
                        continue
                    try:
                        rows.append(self._json.decode(text))
                        lines.append(line)
                    except _ERRORS as error:
                        bad.append((line, _explain(error, text)))
                continue
            first = starts[low]
            whole = None
            if (low, high) != (0, len(ends)):
                whole = self._whole(view[first : ends[high - 1] + 1], starts[low:high] - first, ends[low:high] - first)
            if whole is None:
                middle = (low + high) // 2
                parts += [(middle, high), (low, middle)]
            else:
                rows += whole
                lines += range(low, high)
        return rows, np.array(lines, np.int64), bad


def _in_order(samples: Samples, lines: NDArray[np.intp], others: Samples, of: NDArray[np.intp]) -> Samples:
    """Put samples of two kinds of lines into the order of their lines."""
    order = np.argsort(np.concatenate((lines, of)), kind="stable")
    names = [column.name for column in fields(Samples)]
    return Samples(**{name: np.concatenate((getattr(samples, name), getattr(others, name)))[order] for name in names})


def _first_line(view: memoryview, place: int) -> bytes:
    return bytes(view[place : place + KEPT_BYTES]).partition(b"\n")[0].rstrip(b"\r")


def _explain(error: Exception, text: bytes) -> str:
    """Say what is wrong with a line, in terms of the log and not of the decoder."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: {error.reason}"
    if isinstance(error, msgspec.ValidationError):
        return str(error).replace("`", "'").replace("$.", "")
    if b"NaN" in text or b"Infinity" in text:
        return "not JSON: NaN and Infinity are no JSON numbers; leave the line out or write a number"
    return f"not JSON: {str(error).removeprefix('JSON is malformed: ')}"
