"""Parquet files, by the extra `parquet`: batches of rows, read by a process of its own (see `parquet_process`)."""

from __future__ import annotations

import importlib.util
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from streamtrain.ingest.identity import NotReadableError, OpenLog
from streamtrain.ingest.parquet_process import LENGTH_BYTES, Answer, Request
from streamtrain.ingest.rows import Layout, Rows
from streamtrain.ingest.tail import DamagedLogError

MAGIC: Final = b"PAR1"

_LEAST_BYTES: Final = 12  # magic, length of the footer, magic
_BATCH_VALUES: Final = 1 << 17
_MOST_ROWS: Final = 8192
_MOST_FRAME_BYTES: Final = 1 << 30
_PATIENCE_S: Final = 120.0  # for one batch; a file that keeps its reader busy for longer is none


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
        If the extra is not installed, or no process can be started just now.
    DamagedLogError
        If it is no sound file, or lacks a field.
    """

    def __init__(self, log: OpenLog, rows: Rows) -> None:
        if importlib.util.find_spec("pyarrow") is None:
            raise NotReadableError(f"read {log.path}: this is Parquet; install streamtrain[parquet] to read it")
        command = [sys.executable, "-m", "streamtrain.ingest.parquet_process", str(log.descriptor)]
        try:
            self._reader = subprocess.Popen(  # noqa: S603 - this very package, and a number
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(log.descriptor,),
                start_new_session=True,  # a terminal's interrupt is for the parent, which ends it
            )
        except OSError as error:
            raise NotReadableError(f"read {log.path}: its reader can't be started: {error}") from error
        try:
            names = self._answer().names or []
            layout = rows.layout(names)
            if layout.problem is None:
                layout = rows.layout([names[place] for place in layout.used])
            if layout.problem is not None:
                raise DamagedLogError(layout.problem)
        except BaseException:  # an interrupt too leaves no process behind; it goes on up
            self.close()
            raise
        self.layout: Layout = layout
        self._n_at_once = max(16, min(_MOST_ROWS, _BATCH_VALUES // rows.dim))

    def close(self) -> None:
        """End the process that reads."""
        self._reader.kill()
        self._reader.communicate()

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
        request = msgspec.json.encode(Request(list(self.layout.names), start, self._n_at_once))
        # Where it has ended already, what it said last, or how it ended, comes with the answer.
        with suppress(BrokenPipeError):
            if self._reader.stdin is not None:
                self._reader.stdin.write(request + b"\n")
        while (answer := self._answer()).rows is not None:
            yield answer.first, answer.rows

    def _answer(self) -> Answer:
        length = int.from_bytes(self._read(LENGTH_BYTES), "little")
        if length > _MOST_FRAME_BYTES:
            raise DamagedLogError(f"a batch of rows takes {length} bytes, at most {_MOST_FRAME_BYTES} are read")
        answer = msgspec.msgpack.decode(self._read(length), type=Answer)
        if answer.problem is not None:
            raise DamagedLogError(answer.problem)
        return answer

    def _read(self, n_bytes: int) -> bytearray:
        stream = self._reader.stdout
        data = bytearray()
        while stream is not None and len(data) < n_bytes:
            if not select.select([stream], [], [], _PATIENCE_S)[0]:
                raise DamagedLogError(f"Parquet is damaged: nothing came of it in {_PATIENCE_S:.0f} s")
            piece = os.read(stream.fileno(), n_bytes - len(data))
            if not piece:
                raise DamagedLogError(f"Parquet is damaged: its reader {self._how_it_ended()}")
            data += piece
        return data

    def _how_it_ended(self) -> str:
        code = self._reader.wait()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
