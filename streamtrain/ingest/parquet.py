"""Parquet files, by the extra `parquet`: batches of rows, a row group at a time, in bounded memory."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final

from streamtrain.ingest.identity import NotReadableError, OpenLog
from streamtrain.ingest.rows import Layout, Rows
from streamtrain.ingest.tail import DamagedLogError

MAGIC: Final = b"PAR1"

_LEAST_BYTES: Final = 12  # magic, length of the footer, magic
_BATCH_VALUES: Final = 1 << 17
_MOST_ROWS: Final = 8192
# What is read of a row group at once; writers make them of 64 to 128 MiB, compressed and of all columns.
_MOST_GROUP_BYTES: Final = 1 << 30
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def is_whole(log: OpenLog) -> bool:
    """Tell whether a Parquet file has its footer, which is written last."""
    size = log.look.size
    if size < _LEAST_BYTES:
        return False
    tail = log.read_at(size - 8, 8)
    return tail[4:] == MAGIC and int.from_bytes(tail[:4], "little") + _LEAST_BYTES <= size


class ParquetRows:
    """The rows of one file.

    Parameters
    ----------
    log : OpenLog
        Whole.
    rows : Rows

    Attributes
    ----------
    layout : Layout
        Of the columns that are read.

    Raises
    ------
    NotReadableError
        If the extra is not installed.
    DamagedLogError
        If it is no sound file, or lacks a field.
    """

    def __init__(self, log: OpenLog, rows: Rows) -> None:
        if importlib.util.find_spec("pyarrow") is None:
            raise NotReadableError(f"read {log.path}: this is Parquet; install streamtrain[parquet] to read it")
        import pyarrow
        from pyarrow import parquet

        self._arrow = pyarrow
        self._errors = (pyarrow.ArrowException, OSError, ValueError, KeyError, UnicodeDecodeError)
        self._raw = os.fdopen(os.dup(log.descriptor), "rb", buffering=0)
        try:
            named = parquet.ParquetFile(self._raw).schema_arrow
            layout = rows.layout(named.names)
            if layout.problem is None:
                layout = rows.layout([named.names[place] for place in layout.used])
                # Else a long text that is there once and referred to often would be made again for each row.
                texts = [name for name in layout.names if _is_text(pyarrow, named.field(name).type)]
                self._file = parquet.ParquetFile(self._raw, read_dictionary=texts, pre_buffer=False)
        except self._errors as error:
            self.close()
            raise DamagedLogError(f"Parquet is damaged: {_first_line(error)}") from error
        self.layout: Layout = layout
        if layout.problem is not None:
            self.close()
            raise DamagedLogError(layout.problem)
        self._n_at_once = max(16, min(_MOST_ROWS, _BATCH_VALUES // rows.dim))

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def batches(self, start: int) -> Iterator[tuple[int, list[Sequence[Any]]]]:
        """Read on.

        Parameters
        ----------
        start : int
            Number of rows to pass over.

        Yields
        ------
        number : int
            Of the first row.
        values : list of sequences
            One for each row, of one value for each column.

        Raises
        ------
        DamagedLogError
        """
        first = 0
        try:
            metadata = self._file.metadata
            for group in range(metadata.num_row_groups):
                about = metadata.row_group(group)
                if first + about.num_rows <= start:
                    first += about.num_rows
                    continue
                self._check_size(about, group)
                number = first
                for batch in self._file.iter_batches(
                    self._n_at_once, row_groups=[group], columns=list(self.layout.names), use_threads=False
                ):
                    passed = min(len(batch), max(0, start - number))
                    number += len(batch)
                    if passed < len(batch):
                        yield number - len(batch) + passed, self._values(batch.slice(passed))
                first += about.num_rows
        except self._errors as error:
            raise DamagedLogError(f"Parquet is damaged: {_first_line(error)}") from error

    def _check_size(self, about: Any, group: int) -> None:
        wanted = set(self.layout.names)
        n_bytes = 0
        for place in range(about.num_columns):
            column = about.column(place)
            if column.path_in_schema.partition(".")[0] in wanted:
                n_bytes += max(column.total_uncompressed_size, column.total_compressed_size)
        if n_bytes > _MOST_GROUP_BYTES:
            raise DamagedLogError(
                f"row group {group} holds {n_bytes >> 20} MiB of what is read, at most {_MOST_GROUP_BYTES >> 20} are "
                "read at once; write smaller row groups"
            )

    def _values(self, batch: Any) -> list[Sequence[Any]]:
        columns = {name: self._column(batch.column(name)) for name in self.layout.names}
        return list(zip(*(columns[name] for name in self.layout.names), strict=True))

    def _column(self, column: Any) -> list[Any]:
        types, kind = self._arrow.types, column.type
        if types.is_dictionary(kind):
            words = column.dictionary.to_pylist()
            return [None if place is None else words[place] for place in column.indices.to_pylist()]
        if types.is_timestamp(kind):
            per_second = _PER_SECOND[kind.unit]
            return [None if n is None else n / per_second for n in column.cast(self._arrow.int64()).to_pylist()]
        if types.is_decimal(kind) or types.is_float16(kind):
            column = column.cast(self._arrow.float64())
        values: list[Any] = column.to_pylist()
        if types.is_map(kind):
            return [None if value is None else dict(value) for value in values]
        return values


def _is_text(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0][:300]
