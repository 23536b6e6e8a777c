"""``receipts.jsonl``: what became of every candidate and why, and every rollback, promotion and pin. Append-only."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from streamtrain.publish.durable import sync_directory

Receipt = dict[str, object]

_BLOCK_BYTES = 64 * 1024


class Receipts:
    """The receipts of one models directory.

    Parameters
    ----------
    file : Path
        Created at the first receipt.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def append(self, receipt: Mapping[str, object]) -> None:
        """Add a receipt as one line, by one write, and flush it to the disk. Only for the holder of the write lock.

        A line torn by a crash or a full disk is closed first, so that it costs itself and nothing after it.

        Parameters
        ----------
        receipt : mapping
            JSON values.

        Raises
        ------
        OSError
            If it could not be written whole.
        ValueError
            If a value is not JSON.
        """
        line = json.dumps(dict(receipt), allow_nan=False).encode() + b"\n"
        is_new = not self._file.exists()
        descriptor = os.open(self._file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            try:
                if os.write(descriptor, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._file))
                os.fsync(descriptor)
                if is_new:
                    sync_directory(self._file.parent)
            except OSError:
                # It will be written again: what of it got there must not make it count twice.
                with suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)

    def read(self, limit: int | None = None) -> list[Receipt]:
        """Read receipts, the oldest first. Lines that are not JSON objects (torn by a crash) are skipped.

        Parameters
        ----------
        limit : int, optional
            Only this many, the newest.

        Returns
        -------
        list of dict
            Empty if there is no file yet.

        Raises
        ------
        OSError
            If the file is there but cannot be read.
        """
        try:
            with self._file.open("rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                block = size if limit is None else _BLOCK_BYTES
                while True:
                    start = max(0, size - block)
                    stream.seek(start)
                    lines = stream.read(size - start).split(b"\n")
                    # The first piece is the end of a line that starts before the block.
                    receipts = _parse(lines if start == 0 else lines[1:])
                    if start == 0 or (limit is not None and len(receipts) >= limit):
                        return receipts if limit is None else receipts[max(0, len(receipts) - limit) :]
                    block *= 4
        except FileNotFoundError:
            return []


def _parse(lines: list[bytes]) -> list[Receipt]:
    receipts: list[Receipt] = []
    for line in lines:
        if not line:
            continue
        try:
            receipt = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(receipt, dict):
            receipts.append(receipt)
    return receipts
