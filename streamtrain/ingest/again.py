"""Logs that were read once, read again: which file carries a source now, and what its lines say.

A source is known by what was read of it, as ingestion knows it: how it begins, how long it was, and the checksum of all
that. So it is found under whatever name, rotated, compressed or archived. It is read by the same reader, under the key
that it had, because a line without an id is known by that.
"""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from streamtrain.ingest import database, parquet
from streamtrain.ingest.database import LARGEST, Database
from streamtrain.ingest.decode import Decoder
from streamtrain.ingest.halves import Half
from streamtrain.ingest.hashing import digest
from streamtrain.ingest.identity import EDGE_BYTES, NotReadableError, OpenLog
from streamtrain.ingest.ingestor import IngestOptions
from streamtrain.ingest.packed import is_packed
from streamtrain.ingest.pile import Pile
from streamtrain.ingest.reading import FileReader
from streamtrain.ingest.recognise import carries, open_stream
from streamtrain.ingest.register import Register
from streamtrain.ingest.rows import Rows
from streamtrain.ingest.schema import Schema
from streamtrain.ingest.seeded import Seeded
from streamtrain.ingest.tables import is_at_row
from streamtrain.ingest.tail import DamagedLogError
from streamtrain.reading import Source, SourceFile
from streamtrain.types import Samples

_HASHED_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """Where sources are now.

    Attributes
    ----------
    files : dict of int to str
        Path by the key of each source that was found.
    reasons : dict of int to str
        Why each of the others was not.
    """

    files: dict[int, str]
    reasons: dict[int, str]


def find(sources: Sequence[Source], files: Iterable[str], schema: Schema, options: IngestOptions) -> Found:
    """Find the files that carry sources, by their content.

    Parameters
    ----------
    sources : sequence of Source
        As they were when they had been read.
    files : iterable of str
        Paths to look at; where a source was last seen is looked at first in any case.
    schema : Schema
    options : IngestOptions

    Returns
    -------
    Found
    """
    missing = {source.key: source for source in sources}
    found: dict[int, str] = {}
    nearly: dict[int, str] = {}
    for path in dict.fromkeys([*(source.path for source in sources), *files]):
        if not missing:
            break
        try:
            with OpenLog(path) as log:
                for key, reason in _compare(log, list(missing.values()), schema, options).items():
                    if reason is None:
                        found[key] = path
                        del missing[key]
                    else:
                        nearly[key] = reason
        except (FileNotFoundError, NotReadableError, DamagedLogError) as error:
            for key, source in missing.items():
                if source.path == path:
                    nearly.setdefault(key, str(error) if not isinstance(error, FileNotFoundError) else f"no {path}")
    reasons = {key: nearly.get(key, "no file begins like it") for key in missing}
    return Found(found, reasons)


def read_again(
    source: Source,
    path: str,
    schema: Schema,
    options: IngestOptions,
    on_batch: Callable[[Samples, tuple[Half, ...]], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Read a source from its start to where it was read to.

    Parameters
    ----------
    source : Source
    path : str
        A file that carries it.
    schema : Schema
    options : IngestOptions
    on_batch : callable
        Given samples and halves of records as they come; a few more may follow than were there then.
    should_stop : callable

    Raises
    ------
    OSError
        If the file is gone.
    NotReadableError, DamagedLogError
    """
    with OpenLog(path) as log:
        begin = log.read_at(0, len(database.MAGIC))
        is_database = begin.startswith(database.MAGIC)
        # A database is read from its first row where the last one read is not to be found.
        seed = replace(source, offset=LARGEST if is_database else 0, oversize=False)
        if not begin.startswith(parquet.MAGIC):
            seed = replace(seed, tail_hash=b"", tail_bytes=0)
        if not is_database:
            seed = replace(seed, checksum=0)
        identity = log.identity
        file = SourceFile(identity.device, identity.inode, identity.birth_ns, source.key, path)
        register = Register(Seeded((seed,), (file,)))
        pile = Pile(len(schema.feature_names))
        reader = FileReader(
            register,
            pile,
            Decoder(schema, _no_time),
            None if options.json_only else Rows(schema, _no_time),
            time.time,
            max_line_bytes=options.max_line_bytes,
            commit_bytes=options.commit_bytes,
            idle_timeout_s=0.0,
            sqlite_table=options.sqlite_table,
        )

        def commit() -> None:
            halves = pile.halves
            on_batch(pile.take(*register.changes()).samples, halves)

        def go_on() -> bool:
            now = register.source(source.key)
            return not should_stop() and (now is None or now.offset < source.offset)

        reader.read(log, go_on, commit)
        commit()


def _no_time() -> float:
    """Stand for the time of reading, which can't be had again."""
    return 0.0


def _compare(log: OpenLog, sources: Sequence[Source], schema: Schema, options: IngestOptions) -> dict[int, str | None]:
    """Tell which sources a file carries: None; and why it carries those not that it begins like."""
    begin = log.read_at(0, 16)
    if begin.startswith(database.MAGIC):
        return _compare_database(log, sources, schema, options)
    if begin.startswith(parquet.MAGIC):
        hashed = hashlib.blake2b(digest_size=16)
        for offset in range(0, log.look.size, _HASHED_BYTES):
            hashed.update(log.read_at(offset, min(_HASHED_BYTES, log.look.size - offset)))
        return {source.key: None for source in sources if source.tail_hash == hashed.digest()}
    compressed = is_packed(begin)
    buffer = memoryview(bytearray(EDGE_BYTES))
    head = bytes(buffer[: open_stream(log, compressed).read_into(buffer)])
    alike = [
        source
        for source in sources
        if 0 < source.head_bytes <= len(head) and digest(head[: source.head_bytes]) == source.head_hash
    ]
    told: dict[int, str | None] = {}
    for source, is_there, reached in carries(log, compressed, alike):
        told[source.key] = None
        if not is_there and reached < source.offset:
            told[source.key] = f"{log.path} begins like it, but ends at byte {reached:,} of {source.offset:,}"
        elif not is_there:
            told[source.key] = f"{log.path} begins like it, but is another before byte {source.offset:,}"
    return told


def _compare_database(
    log: OpenLog, sources: Sequence[Source], schema: Schema, options: IngestOptions
) -> dict[int, str | None]:
    told: dict[int, str | None] = {}
    with Database(log, options.max_line_bytes) as opened:
        table = opened.table(Rows(schema, _no_time), options.sqlite_table)
        named = zlib.crc32(table.name.encode("utf-8", "backslashreplace"))
        for source in sources:
            if source.checksum == named and is_at_row(opened, table, source):
                told[source.key] = None
            elif source.checksum == named and source.path == log.path:
                told[source.key] = f"row {source.offset:,} of {log.path} is not there any more, or another"
    return told
