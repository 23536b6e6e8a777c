"""Databases and Parquet files from where they were left to their present end; offsets count rows.

A database is known by its file and by the last row that was read: as long as that is there and unchanged, everything
after it is new. A Parquet file is written once, and known by a hash of all of it.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
import numpy as np

from streamtrain.ingest import parquet
from streamtrain.ingest.database import LARGEST, Database, Table, beside
from streamtrain.ingest.decode import BadLine, Decoded
from streamtrain.ingest.finding import Findings
from streamtrain.ingest.hashing import digest, hash_texts
from streamtrain.ingest.identity import EDGE_BYTES, Look, OpenLog
from streamtrain.ingest.kept import keep_values
from streamtrain.ingest.pile import Pile
from streamtrain.ingest.recognise import StoppedError
from streamtrain.ingest.register import Register
from streamtrain.ingest.rows import Layout, Rows
from streamtrain.ingest.tail import BLOCK_BYTES
from streamtrain.reading import Quarantined, Source, SourceFile

_SAME_TICK_NS: Final = 50_000_000
_HASHED_BYTES: Final = 1 << 20
_OUTCOME: Final = frozenset({"y", "label", "scores", "quality", "teacher", "weight", "propensity"})


class TableReader:
    """Read tables on.

    Parameters
    ----------
    register : Register
    pile : Pile
        Where samples and bad rows go.
    rows : Rows
    findings : Findings
    max_line_bytes, commit_bytes : int
    sqlite_table : str or None
        As in `IngestOptions`.
    """

    def __init__(
        self,
        register: Register,
        pile: Pile,
        rows: Rows,
        findings: Findings,
        *,
        max_line_bytes: int,
        commit_bytes: int,
        sqlite_table: str | None,
    ) -> None:
        self._register = register
        self._pile = pile
        self._rows = rows
        self._findings = findings
        self._max_line_bytes = max_line_bytes
        self._commit_bytes = commit_bytes
        self._sqlite_table = sqlite_table
        self._read: dict[tuple[int, int], tuple[str, Look, Look | None]] = {}

    def reset(self) -> None:
        """Look at every database again."""
        self._read.clear()

    def settled(self, look: Look) -> bool:
        """Tell whether a database was read to its end, and neither it nor its WAL has changed since."""
        known = self._read.get((look.device, look.inode))
        return known is not None and known[1] == look and beside(known[0], "-wal") == known[2]

    def read_database(
        self, log: OpenLog, file: SourceFile, go_on: Callable[[], bool], commit: Callable[[], None]
    ) -> None:
        """Read the rows that are new in a database.

        Parameters
        ----------
        log : OpenLog
        file : SourceFile
            As it is to be noted, without its source.
        go_on, commit : callable
            As for `FileReader.read`.

        Raises
        ------
        NotReadableError
            If it can't be read now.
        """
        wal = beside(log.path, "-wal")
        with Database(log, self._max_line_bytes) as database:
            table = database.table(self._rows, self._sqlite_table)
            source = self._place(database, table, log)
            if source is not None:
                # Its size is no measure of how far it was read, as a compressed file's is not.
                self._register.put_file(replace(file, source=source.key, compressed=True))
                self._register.put_source(source)
                if not source.offset:
                    self._findings.begin(source)
                try:
                    while True:
                        rows, n_bytes = database.rows_after(table, source.offset, BLOCK_BYTES)
                        if not rows:
                            break
                        source = self._take_numbered(table, source, rows, n_bytes)
                        self._go_on(source, commit)
                        if not go_on():
                            return
                finally:
                    self._findings.tell(source)
        now_ns = time.time() * 1e9
        changes = [log.look.mtime_ns, log.look.ctime_ns, *(() if wal is None else (wal.mtime_ns, wal.ctime_ns))]
        if min(abs(now_ns - change) for change in changes) >= _SAME_TICK_NS:
            self._read[log.look.device, log.look.inode] = (log.path, log.look, wal)

    def read_parquet(
        self, log: OpenLog, file: SourceFile, go_on: Callable[[], bool], commit: Callable[[], None]
    ) -> bool | None:
        """Read the rows of a Parquet file that were not read yet.

        Returns
        -------
        bool or None
            It was read to its end. False: it isn't whole yet. None: there was no time for the rest.

        Raises
        ------
        NotReadableError, DamagedLogError, StoppedError
        """
        if not parquet.is_whole(log):
            self._register.put_file(replace(file, compressed=True, waiting=True))
            return False
        table = parquet.ParquetRows(log, self._rows)
        try:
            source = self._parquet_source(log, go_on)
            self._register.put_file(replace(file, source=source.key, compressed=True, waiting=True))
            self._register.put_source(source)
            if not source.offset:
                self._findings.begin(source)
            try:
                for number, values in table.batches(source.offset):
                    for start, part, n_bytes in self._parts(number, values):
                        source = self._take(table.layout, source, start, part, n_bytes)
                        self._go_on(source, commit)
                    if not go_on():
                        return None
            finally:
                self._findings.tell(source)
        finally:
            table.close()
        return True

    def _go_on(self, source: Source, commit: Callable[[], None]) -> None:
        self._register.put_source(source)
        if self._pile.n_bytes >= self._commit_bytes:
            self._findings.tell(source)
            commit()

    def _place(self, database: Database, table: Table, log: OpenLog) -> Source | None:
        """Find the source of a database, at the last row that was read; None where it has no rows."""
        named = zlib.crc32(table.name.encode("utf-8", "backslashreplace"))
        known = self._register.file(log.identity)
        source = None if known is None else self._register.source(known.source)
        if source is not None and source.offset and source.checksum == named:
            source = replace(source, path=log.path, lost_bytes=0)
            there = database.row(table, source.offset)
            if there is not None and _digest(table, source.offset, there) == source.tail_hash:
                return source
            highest = database.highest_ever(table)
            if highest is not None and highest >= source.offset:
                return source  # no number is given twice: the row was changed or deleted
            if there is None and database.last(table) > source.offset:
                return source
            # Numbers were given again. What is the same as before is known by its content.
            return replace(source, offset=0, tail_hash=b"", tail_bytes=0)
        first, _ = database.rows_after(table, 0, 1, 1)
        if not first:
            return None
        number, values = first[0]
        head = (
            table.name.encode("utf-8", "backslashreplace") + b"\0" + _text(table.layout, number, values or ()).encode()
        )[:EDGE_BYTES]
        for candidate in reversed(self._register.candidates(head)):
            there = database.row(table, candidate.offset) if candidate.offset else None
            if candidate.checksum != named or there is None:
                continue
            if _digest(table, candidate.offset, there) == candidate.tail_hash:
                self._pile.n_recognised += 1
                return replace(candidate, path=log.path, lost_bytes=0)
        source = self._register.new_source(log, head)
        if database.has_below(table):
            self._pile.add_bad(Quarantined(source.key, log.path, 0, "rows with a number below 1 are not read", b""))
        return replace(source, head_hash=digest(head), head_bytes=len(head), checksum=named)

    def _take_numbered(
        self, table: Table, source: Source, rows: Sequence[tuple[int, Sequence[Any] | None]], n_bytes: int
    ) -> Source:
        """Decode numbered rows into the pile."""
        layout = table.layout
        whole = [(number, values) for number, values in rows if values is not None]
        numbers = np.array([number for number, _ in whole], np.int64)
        identities = None
        identified = layout.place_of.get("id")
        if identified is None or not all(values[identified] for _, values in whole):
            # A number can be given again to another row: without an id, a row is known by what is in it.
            identities = hash_texts([_text(layout, number, values) for number, values in whole]).view(np.int64)
        values = [values for _, values in whole]
        stops = np.minimum(numbers, LARGEST - 1) + 1
        samples, halves, wrong = self._rows.read(layout, values, numbers, stops, source.key, identities)
        bad = [
            BadLine(whole[row][0], reason, keep_values(layout.names, whole[row][1], whole[row][0]))
            for row, reason in wrong.items()
        ]
        bad += [
            BadLine(number, f"longer than {self._max_line_bytes} bytes", b"")
            for number, values in rows
            if values is None
        ]
        bad.sort(key=lambda one: one.offset)
        last, last_values = rows[-1]
        stop = min(last, LARGEST - 1) + 1
        self._findings.add(source, source.offset + 1, stop, Decoded(samples, tuple(bad), len(rows), halves))
        self._pile.n_bytes += n_bytes
        tail = _text(layout, last, last_values or ()).encode()
        return replace(source, offset=last, tail_hash=digest(tail), tail_bytes=len(tail))

    def _take(
        self, layout: Layout, source: Source, start: int, values: Sequence[Sequence[Any]], n_bytes: int
    ) -> Source:
        """Decode the rows from `start` on into the pile."""
        long = [place for place, row in enumerate(values) if _size(row) > self._max_line_bytes]
        whole = [place for place in range(len(values)) if place not in long] if long else list(range(len(values)))
        numbers = start + np.array(whole, np.int64)
        kept = [values[place] for place in whole]
        samples, halves, wrong = self._rows.read(layout, kept, numbers, numbers + 1, source.key)
        bad = [
            BadLine(start + whole[row], reason, keep_values(layout.names, kept[row])) for row, reason in wrong.items()
        ]
        bad += [BadLine(start + place, f"longer than {self._max_line_bytes} bytes", b"") for place in long]
        bad.sort(key=lambda one: one.offset)
        stop = start + len(values)
        self._findings.add(source, start, stop, Decoded(samples, tuple(bad), len(values), halves))
        self._pile.n_bytes += n_bytes
        return replace(source, offset=stop)

    def _parts(self, number: int, values: list[Sequence[Any]]) -> list[tuple[int, list[Sequence[Any]], int]]:
        """Part rows so that what they hold together, each text by itself, stays small."""
        parts: list[tuple[int, list[Sequence[Any]], int]] = []
        begun, n_bytes = 0, 0
        for place, row in enumerate(values):
            size = _size(row)
            if n_bytes and n_bytes + size > BLOCK_BYTES:
                parts.append((number + begun, values[begun:place], n_bytes))
                begun, n_bytes = place, 0
            n_bytes += size
        parts.append((number + begun, values[begun:], n_bytes))
        return parts

    def _parquet_source(self, log: OpenLog, go_on: Callable[[], bool]) -> Source:
        """Find the source of a Parquet file by all that is in it."""
        hashed = hashlib.blake2b(digest_size=16)
        for offset in range(0, log.look.size, _HASHED_BYTES):
            if not go_on():
                raise StoppedError
            hashed.update(log.read_at(offset, min(_HASHED_BYTES, log.look.size - offset)))
        content, head = hashed.digest(), log.read_at(0, EDGE_BYTES)
        known = self._register.file(log.identity)
        source = None if known is None else self._register.source(known.source)
        if source is None or source.tail_hash != content:
            same = [one for one in self._register.candidates(head) if one.tail_hash == content]
            self._pile.n_recognised += bool(same)
            source = same[-1] if same else self._register.new_source(log, head)
        return replace(
            source, path=log.path, lost_bytes=0, head_hash=digest(head), head_bytes=len(head), tail_hash=content
        )


def is_at_row(database: Database, table: Table, source: Source) -> bool:
    """Tell whether the last row that was read of a source is in a table, as it was then."""
    there = database.row(table, source.offset)
    return there is not None and _digest(table, source.offset, there) == source.tail_hash


def _size(row: Sequence[Any]) -> int:
    """Say about how much memory a row takes, every text for itself."""
    return sum(
        [
            8 * len(value) if value.__class__ is list else len(value) if value.__class__ in (str, bytes) else 9
            for value in row
        ]
    )


def _text(layout: Layout, number: int, values: Sequence[Any]) -> str:
    """Write a row such that equal texts are the same record: what became of it may be filled in later."""
    known_by = [value for attribute, value in zip(layout.attributes, values, strict=False) if attribute not in _OUTCOME]
    return msgspec.json.encode([number, *(value if _is_plain(value) else repr(value) for value in known_by)]).decode()


def _is_plain(value: Any) -> bool:
    """Tell whether JSON has a value, and writes no two of them alike."""
    if isinstance(value, str):
        return value.isascii()
    return value is None or (isinstance(value, int | float) and abs(value) < 1 << 63)


def _digest(table: Table, number: int, values: Sequence[Any]) -> bytes:
    return digest(_text(table.layout, number, values).encode())
