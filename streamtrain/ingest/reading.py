"""One file from where it was left to its present end: blocks → decoder → pile, and with them the source's state.

What kind of log a file is, its first bytes tell: JSON Lines and delimited tables are read here, databases and Parquet
files, which are no streams of lines, by `tables`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from streamtrain.ingest import database, parquet
from streamtrain.ingest.decode import KEPT_BYTES, Decoder
from streamtrain.ingest.delimited import Delimited, open_delimited
from streamtrain.ingest.finding import Findings
from streamtrain.ingest.hashing import digest
from streamtrain.ingest.identity import EDGE_BYTES, Look, OpenLog
from streamtrain.ingest.lease import nobody_writes
from streamtrain.ingest.packed import is_packed
from streamtrain.ingest.pile import Pile
from streamtrain.ingest.recognise import Place, Recogniser
from streamtrain.ingest.register import Register
from streamtrain.ingest.rows import Rows
from streamtrain.ingest.tables import TableReader
from streamtrain.ingest.tail import BLOCK_BYTES, Block, DamagedLogError, LineReader
from streamtrain.reading import Quarantined, SourceFile

# A file can change again within one tick of the clock that stamps it, and neither size nor time need show it.
_SAME_TICK_NS: Final = 50_000_000
_FOREIGN: Final = {
    b"\xfd7zX": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
}
_TABLES: Final = {database.MAGIC: "SQLite", parquet.MAGIC: "Parquet"}


class FileReader:
    """Read files on.

    Parameters
    ----------
    register : Register
    pile : Pile
        Where samples and bad lines go.
    decoder : Decoder
    rows : Rows or None
        Reads tables; None where JSON Lines are all that is read.
    clock : callable
        Seconds since the epoch.
    max_line_bytes, commit_bytes : int
    idle_timeout_s : float or None
    sqlite_table : str or None
        As in `IngestOptions`.
    """

    def __init__(
        self,
        register: Register,
        pile: Pile,
        decoder: Decoder,
        rows: Rows | None,
        clock: Callable[[], float],
        *,
        max_line_bytes: int,
        commit_bytes: int,
        idle_timeout_s: float | None,
        sqlite_table: str | None = None,
    ) -> None:
        self._register = register
        self._recogniser = Recogniser(register, clock)
        self._pile = pile
        self._decoder = decoder
        self._rows = rows
        self._clock = clock
        self._max_line_bytes = max_line_bytes
        self._commit_bytes = commit_bytes
        self._idle_timeout_s = idle_timeout_s
        self._findings = Findings(pile)
        self._lines = LineReader(bytearray(max_line_bytes + BLOCK_BYTES), max_line_bytes)
        self._tables = (
            None
            if rows is None
            else TableReader(
                register,
                pile,
                rows,
                self._findings,
                max_line_bytes=max_line_bytes,
                commit_bytes=commit_bytes,
                sqlite_table=sqlite_table,
            )
        )
        self.reset()

    def reset(self) -> None:
        """Trust only what the register says of which files need no look."""
        self._findings.clear()
        if self._tables is not None:
            self._tables.reset()
        self._settled = {
            (file.device, file.inode): look_of(file) for file in self._register.files() if not file.waiting
        }

    def settled(self, look: Look) -> bool:
        """Tell whether a file was read to its end and has not changed since, nor been away."""
        if self._tables is not None and self._tables.settled(look):
            return True
        known = self._settled.get((look.device, look.inode)) == look
        return known and self._register.present(look) is not None

    def read(self, log: OpenLog, go_on: Callable[[], bool], commit: Callable[[], None]) -> None:
        """Read an open file to the end that it had when it was opened.

        Parameters
        ----------
        log : OpenLog
        go_on : callable
            Asked after each block; False leaves the rest for later.
        commit : callable
            Called whenever enough was read; takes the pile.

        Raises
        ------
        NotReadableError, StoppedError
        """
        begin = log.read_at(0, 16)
        file = SourceFile(
            device=log.identity.device,
            inode=log.identity.inode,
            birth_ns=log.identity.birth_ns,
            source=0,
            path=log.path,
            size=log.look.size,
            compressed=is_packed(begin),
        )
        kind = next((name for magic, name in _TABLES.items() if begin.startswith(magic)), None)
        if kind is not None and self._tables is not None:
            self._read_table(log, file, kind, go_on, commit)
            return
        foreign = kind or next((name for magic, name in _FOREIGN.items() if begin.startswith(magic)), None)
        if foreign is not None:
            expected = "JSON Lines" if self._rows is None else "JSON Lines or CSV"
            self._reject(log, None, f"this is {foreign}; expected {expected}, plain, gzip or zstd")
            self._settle(log, file)
            return
        cursor = None
        try:
            finding = self._recogniser.find(log, file.compressed, go_on)
            if finding.place is None:
                self._settle(log, file, again=finding.undecided)
                return
            self._pile.n_recognised += finding.recognised
            cursor = _Cursor(finding.place, log.path)
            file = replace(file, source=cursor.source.key)
            self._register.put_source(cursor.source)
            self._register.put_file(replace(file, waiting=True))
            if not cursor.source.offset:
                self._findings.begin(cursor.source)
            stream = finding.place.stream
            rows = self._rows
            table = None if rows is None else open_delimited(rows, log, file.compressed, self._max_line_bytes)
            for block in self._lines.blocks(stream, cursor.source.offset, cursor.source.oversize):
                if not file.compressed and not cursor.holds(log):
                    return
                if table is None or block.ends is None:
                    if table is not None:
                        self._take_records(cursor, table, memoryview(b""), final=True)
                    self._take(cursor, block)
                else:
                    self._take_records(cursor, table, block.data)
                if self._pile.n_bytes >= self._commit_bytes:
                    self._findings.tell(cursor.source)
                    commit()
                if not go_on():
                    return
            if table is not None and stream.ended:
                self._take_records(cursor, table, memoryview(b""), final=True)
        except DamagedLogError as error:
            self._reject(log, cursor, str(error))
            self._settle(log, file)
            return
        finally:
            if cursor is not None:
                self._findings.tell(cursor.source)
        if file.compressed:
            self._settle(log, file, waiting=not stream.ended)
            return
        n_open = len(self._lines.rest) + (0 if table is None else len(table.rest))
        if cursor.source.offset + n_open >= log.look.size and cursor.holds(log):
            self._end(log, file, cursor, table)

    def _read_table(
        self, log: OpenLog, file: SourceFile, kind: str, go_on: Callable[[], bool], commit: Callable[[], None]
    ) -> None:
        if self._tables is None:
            return
        if kind == "SQLite":
            self._tables.read_database(log, file, go_on, commit)
            return
        try:
            whole = self._tables.read_parquet(log, file, go_on, commit)
        except DamagedLogError as error:
            self._reject(log, None, str(error))
            whole = True
        if whole is not None:
            known = self._register.file(log.identity)
            file = replace(file, compressed=True, source=0 if known is None else known.source)
            self._settle(log, file, waiting=not whole)

    def _take(self, cursor: _Cursor, block: Block) -> None:
        """Decode a block into the pile and move the cursor past it."""
        source, start = cursor.source, block.start
        if block.ends is not None:
            decoded = self._decoder.decode_lines(block.data, block.ends, source.key, start)
            self._findings.add(source, start, start + len(block.data), decoded)
        else:
            if block.first:
                reason = f"longer than {self._max_line_bytes} bytes"
                self._pile.add_bad(Quarantined(source.key, source.path, start, reason, bytes(block.data[:KEPT_BYTES])))
            self._pile.n_bytes += len(block.data)
        cursor.advance(block.data, oversize=block.ends is None and not block.last)
        self._register.put_source(cursor.source)

    def _take_records(self, cursor: _Cursor, table: Delimited, data: memoryview, *, final: bool = False) -> None:
        """Decode lines of a delimited table into the pile, as far as their records have an end."""
        source = cursor.source
        part = table.decode(data, source.offset + len(table.rest), source.key, final=final)
        if len(part.data):
            self._findings.add(source, part.start, part.start + len(part.data), part.decoded)
            cursor.advance(part.data, oversize=False)
            self._register.put_source(cursor.source)

    def _end(self, log: OpenLog, file: SourceFile, cursor: _Cursor, table: Delimited | None) -> None:
        """Deal with what follows a plain file's last newline: wait for its end, or take it if none seems to come."""
        rest = self._lines.rest
        idle_s = self._clock() - log.look.ctime_ns / 1e9
        due = self._idle_timeout_s is not None and idle_s >= self._idle_timeout_s
        if table is not None and table.rest and due:
            # A quote without an end would keep all that follows waiting.
            self._take_records(cursor, table, memoryview(b""), final=True)
        open_record = table is not None and bool(table.rest)
        if cursor.source.oversize or not (open_record or rest.strip()):
            self._settle(log, file)
            return
        if table is not None:
            whole = due and not open_record and self._take_last(log, cursor, table, memoryview(rest))
            self._settle(log, file, waiting=not whole, again=self._idle_timeout_s is not None and not whole)
            return
        if due:
            ends = np.array([len(rest)], np.int64)
            offset = cursor.source.offset
            if not self._decoder.decode_lines(rest, ends, cursor.source.key, offset).bad:
                self._take(cursor, Block(offset, memoryview(rest), ends))
                self._settle(log, file)
                return
        if not cursor.source.offset:
            head = rest[:EDGE_BYTES]
            self._register.put_source(replace(cursor.source, head_hash=digest(head), head_bytes=len(head)))
        self._settle(log, file, waiting=True, again=self._idle_timeout_s is not None and not due)

    def _take_last(self, log: OpenLog, cursor: _Cursor, table: Delimited, rest: memoryview) -> bool:
        """Take a table's last line without its newline, if it can't be one that is being written.

        Other than a JSON object, `0.12` doesn't show whether `0.125` was meant.
        """
        offset = cursor.source.offset
        if table.in_header(offset) or (table.may_be_cut and not nobody_writes(log.descriptor)):
            return False
        part = table.decode(rest, offset, cursor.source.key, final=True)
        if part.decoded.bad:
            return False
        self._findings.add(cursor.source, offset, offset + len(rest), part.decoded)
        cursor.advance(rest, oversize=False)
        self._register.put_source(cursor.source)
        return True

    def _reject(self, log: OpenLog, cursor: _Cursor | None, reason: str) -> None:
        """Note once that a file, or what is left of it, can't be read as a log."""
        key, offset = (0, 0) if cursor is None else (cursor.source.key, cursor.source.offset)
        self._pile.add_bad(Quarantined(key, log.path, offset, reason, b""))

    def _settle(self, log: OpenLog, file: SourceFile, *, waiting: bool = False, again: bool = False) -> None:
        """Note that a file was read to its end, and need not be opened before it changes.

        With `again` it must be, also by the next process: nothing that could be taken for a settled look is kept.
        """
        look = log.look
        now_ns = self._clock() * 1e9
        if not again and min(abs(now_ns - look.mtime_ns), abs(now_ns - look.ctime_ns)) >= _SAME_TICK_NS:
            file = replace(file, mtime_ns=look.mtime_ns, ctime_ns=look.ctime_ns)
            self._settled[look.device, look.inode] = look
        self._register.put_file(replace(file, waiting=waiting))


class _Cursor:
    """Where reading a source has got to."""

    def __init__(self, place: Place, path: str) -> None:
        self.source = replace(place.source, path=path)
        self._head = place.head
        self._tail = place.tail

    def holds(self, log: OpenLog) -> bool:
        """Tell, after more was read, whether what was read before is still there.

        Otherwise the file was truncated meanwhile, and perhaps written anew: what was read then is another content's.
        """
        before = self.source.offset - len(self._tail)
        return log.read_at(0, len(self._head)) == self._head and log.read_at(before, len(self._tail)) == self._tail

    def advance(self, data: memoryview, *, oversize: bool) -> None:
        """Move past some bytes."""
        source = self.source
        head_bytes = len(self._head)
        if head_bytes < EDGE_BYTES:
            self._head += bytes(data[: EDGE_BYTES - head_bytes])
        self._tail = (self._tail + bytes(data[-EDGE_BYTES:]))[-EDGE_BYTES:]
        self.source = replace(
            source,
            head_hash=digest(self._head) if len(self._head) > head_bytes else source.head_hash,
            head_bytes=len(self._head),
            offset=source.offset + len(data),
            tail_hash=digest(self._tail),
            tail_bytes=len(self._tail),
            checksum=zlib.crc32(data, source.checksum),
            oversize=oversize,
        )


def look_of(file: SourceFile) -> Look:
    """Look at a file as it was when it was last read to its end."""
    return Look(file.device, file.inode, file.size, file.mtime_ns, file.ctime_ns)
