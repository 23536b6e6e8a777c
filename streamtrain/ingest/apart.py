"""A file, or a stretch of its lines, read by itself: no state knows of it, and none is changed.

Decoders, and what becomes of bad lines, are those of `FileReader`. A line without an identity of its own is known by
the name that the file is given here and by its offset, wherever the file lies while it is read.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, replace
from typing import Final

from streamtrain.ingest.decode import KEPT_BYTES, Decoder
from streamtrain.ingest.finding import Findings
from streamtrain.ingest.halves import Half
from streamtrain.ingest.hashing import digest
from streamtrain.ingest.identity import FileIdentity, OpenLog, source_key
from streamtrain.ingest.pile import Pile
from streamtrain.ingest.reading import FileReader
from streamtrain.ingest.register import Register
from streamtrain.ingest.rows import Rows
from streamtrain.ingest.schema import Schema
from streamtrain.ingest.seeded import Seeded
from streamtrain.ingest.slices import SliceNames
from streamtrain.ingest.tail import BLOCK_BYTES, ByteStream, LineReader
from streamtrain.reading import Batch, Quarantined, Source

_WHOLE: Final = 1 << 62  # bytes before a commit: everything is one batch


@dataclass(frozen=True, slots=True)
class Apart:
    """What was read: a batch of all of it, with its one source, and halves of records that come in two lines."""

    batch: Batch
    halves: tuple[Half, ...]


def key_of(name: str) -> int:
    """Make the key of the source that a name stands for, 63 bits, the same everywhere."""
    number = int.from_bytes(digest(name.encode("utf-8", "surrogateescape"))[:8], "little") >> 1
    return source_key(FileIdentity(0, number, 0), b"")


def read_file(
    path: str, name: str, schema: Schema, time_s: float, *, max_line_bytes: int, sqlite_table: str | None = None
) -> Apart:
    """Read a file of any kind that the daemon reads, to its end.

    Parameters
    ----------
    path : str
        Where it lies now.
    name : str
        What it is called in the batch, and known by.
    schema : Schema
    time_s : float
        Time of lines that have none.
    max_line_bytes : int
    sqlite_table : str, optional

    Returns
    -------
    Apart

    Raises
    ------
    FileNotFoundError, NotReadableError
    """
    names = SliceNames()
    pile, register = Pile(len(schema.feature_names), names), Register(Seeded())
    reader = FileReader(
        register,
        pile,
        Decoder(schema, lambda: time_s, names),
        Rows(schema, lambda: time_s, names),
        time.time,
        max_line_bytes=max_line_bytes,
        commit_bytes=_WHOLE,
        idle_timeout_s=0.0,
        sqlite_table=sqlite_table,
    )
    with OpenLog(path) as log:
        log.identity = FileIdentity(0, key_of(name), 0)
        reader.read(log, lambda: True, lambda: None)
    halves = pile.halves
    batch = pile.take(*register.changes())
    return Apart(_named(batch, path, name), halves)


def read_stretch(
    stream: ByteStream, start: int, name: str, schema: Schema, time_s: float, *, max_line_bytes: int
) -> Apart:
    """Read whole lines of JSON.

    Parameters
    ----------
    stream : ByteStream
        From the beginning of a line to the end of another, which it says is its end.
    start : int
        Offset of its first byte in the file.
    name, schema, time_s, max_line_bytes
        As in `read_file`.

    Returns
    -------
    Apart
        The checksum of its source is that of the stretch alone.

    Raises
    ------
    OSError
        Whatever the stream raises.
    """
    names = SliceNames()
    pile, decoder = Pile(len(schema.feature_names), names), Decoder(schema, lambda: time_s, names)
    findings, lines = Findings(pile), LineReader(bytearray(max_line_bytes + BLOCK_BYTES), max_line_bytes)
    source = Source(key_of(name), name, b"", 0, offset=start)
    findings.begin(source)
    for block in lines.blocks(stream, start, oversize=False):
        if block.ends is not None:
            decoded = decoder.decode_lines(block.data, block.ends, source.key, block.start)
            findings.add(source, block.start, block.start + len(block.data), decoded)
        elif block.first:
            reason = f"longer than {max_line_bytes} bytes"
            pile.add_bad(Quarantined(source.key, name, block.start, reason, bytes(block.data[:KEPT_BYTES])))
        checksum, offset = zlib.crc32(block.data, source.checksum), block.start + len(block.data)
        source = replace(source, checksum=checksum, offset=offset)
    findings.tell(source)
    halves = pile.halves
    return Apart(pile.take((source,), ()), halves)


def _named(batch: Batch, path: str, name: str) -> Batch:
    return replace(
        batch,
        ranges=tuple(replace(one, path=name) for one in batch.ranges),
        sources=tuple(replace(one, path=name) for one in batch.sources),
        quarantined=tuple(replace(one, path=name, reason=one.reason.replace(path, name)) for one in batch.quarantined),
    )
