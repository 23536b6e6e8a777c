"""The process that reads one Parquet file: rows go to its parent as MessagePack, a frame a batch.

A spoilt file can end the process that reads it, which no handler of errors prevents: the library aborts. So that is
not the daemon. Its memory has a limit of its own, too.

Usage: python -m streamtrain.ingest.parquet_process DESCRIPTOR, with the names of the columns asked for on stdout and
what to read on stdin; see `streamtrain.ingest.parquet`.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, Final

import msgspec

LENGTH_BYTES: Final = 4
_MOST_MEMORY_BYTES: Final = 4 << 30
_FRAME_BYTES: Final = 4 << 20
# What is read of a row group at once; writers make them of 64 to 128 MiB, compressed and of all columns.
_MOST_GROUP_BYTES: Final = 1 << 30
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class Request(msgspec.Struct):
    """What to read.

    Attributes
    ----------
    names : list of str
        Columns, in the order of each row's values.
    start : int
        Number of rows to pass over.
    n_at_once : int
        Most rows of a batch.
    """

    names: list[str]
    start: int
    n_at_once: int


class Answer(msgspec.Struct, omit_defaults=True):
    """One frame: the columns' names, a batch of rows from number `first` on, or why there are no more.

    The last frame of a sound file says nothing.
    """

    names: list[str] | None = None
    first: int = 0
    rows: list[Any] | None = None
    problem: str | None = None


class _TooLargeError(ValueError):
    """A row group holds more than is read at once."""


def main() -> None:
    """Serve the one file whose descriptor is named."""
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    out = sys.stdout.buffer
    import pyarrow
    from pyarrow import parquet

    errors = (pyarrow.ArrowException, OSError, ValueError, KeyError, UnicodeDecodeError, MemoryError)
    try:
        raw = os.fdopen(int(sys.argv[1]), "rb", buffering=0)
        named = parquet.ParquetFile(raw).schema_arrow
        _send(out, Answer(names=list(named.names)))
        line = sys.stdin.buffer.readline()
        if not line:
            return  # none of these columns is wanted
        request = msgspec.json.decode(line, type=Request)
        # Else a long text that is there once and referred to often would be made again for each row.
        texts = [name for name in request.names if _is_text(pyarrow, named.field(name).type)]
        file = parquet.ParquetFile(raw, read_dictionary=texts, pre_buffer=False)
        for first, rows in _batches(pyarrow, file, request):
            _send_rows(out, first, rows)
        _send(out, Answer())
    except _TooLargeError as error:
        _send(out, Answer(problem=str(error)))
    except errors as error:
        _send(out, Answer(problem=f"Parquet is damaged: {_first_line(error)}"))


def _send(out: BinaryIO, answer: Answer) -> None:
    data = msgspec.msgpack.encode(answer)
    out.write(len(data).to_bytes(LENGTH_BYTES, "little"))
    out.write(data)
    out.flush()


def _send_rows(out: BinaryIO, first: int, rows: list[Sequence[Any]]) -> None:
    """Send a batch in frames of bounded size: a long text that is there once can be referred to by every row."""
    frame: list[msgspec.Raw] = []
    n_bytes = 0
    for number, row in enumerate(rows, first):
        data = msgspec.msgpack.encode(row)
        frame.append(msgspec.Raw(data))
        n_bytes += len(data)
        if n_bytes >= _FRAME_BYTES:
            _send(out, Answer(first=number + 1 - len(frame), rows=frame))
            frame, n_bytes = [], 0
    if frame:
        _send(out, Answer(first=first + len(rows) - len(frame), rows=frame))


def _batches(pyarrow: Any, file: Any, request: Request) -> Iterator[tuple[int, list[Sequence[Any]]]]:
    first, start = 0, request.start
    for group in range(file.metadata.num_row_groups):
        about = file.metadata.row_group(group)
        if first + about.num_rows <= start:
            first += about.num_rows
            continue
        _check_size(about, group, set(request.names))
        number = first
        for batch in file.iter_batches(request.n_at_once, row_groups=[group], columns=request.names, use_threads=False):
            passed = min(len(batch), max(0, start - number))
            number += len(batch)
            if passed < len(batch):
                yield number - len(batch) + passed, _values(pyarrow, batch.slice(passed), request.names)
        first += about.num_rows


def _check_size(about: Any, group: int, wanted: set[str]) -> None:
    n_bytes = 0
    for place in range(about.num_columns):
        column = about.column(place)
        if column.path_in_schema.partition(".")[0] in wanted:
            n_bytes += max(column.total_uncompressed_size, column.total_compressed_size)
    if n_bytes > _MOST_GROUP_BYTES:
        raise _TooLargeError(
            f"row group {group} holds {n_bytes >> 20} MiB of what is read, at most {_MOST_GROUP_BYTES >> 20} are "
            "read at once; write smaller row groups"
        )


def _values(pyarrow: Any, batch: Any, names: Sequence[str]) -> list[Sequence[Any]]:
    columns = {name: _column(pyarrow, batch.column(name)) for name in names}
    return list(zip(*(columns[name] for name in names), strict=True))


def _column(pyarrow: Any, column: Any) -> list[Any]:
    types, kind = pyarrow.types, column.type
    if types.is_dictionary(kind):
        words = column.dictionary.to_pylist()
        return [None if place is None else words[place] for place in column.indices.to_pylist()]
    if types.is_timestamp(kind):
        per_second = _PER_SECOND[kind.unit]
        return [None if n is None else n / per_second for n in column.cast(pyarrow.int64()).to_pylist()]
    if types.is_decimal(kind) or types.is_float16(kind):
        column = column.cast(pyarrow.float64())
    values: list[Any] = column.to_pylist()
    if types.is_map(kind):
        return [None if value is None else dict(value) for value in values]
    return values


def _is_text(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind))


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0][:300]


if __name__ == "__main__":
    main()
