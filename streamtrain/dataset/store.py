"""The state database: samples, offsets and quarantine, committed together or not at all.

That one transaction is what makes ingestion exactly-once: there is no moment at which a line is in the dataset and its
bytes still count as unread, or the other way round.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Self

from streamtrain.dataset import chunks, ledger, retained, slices, waiting
from streamtrain.dataset.chunks import Chunk
from streamtrain.dataset.counts import Counts, add_up, count
from streamtrain.dataset.errors import StoreDamagedError, StoreError
from streamtrain.dataset.keys import KeyIndex
from streamtrain.dataset.reservoir import Pool, no_limits
from streamtrain.dataset.retained import Retained
from streamtrain.dataset.select import select
from streamtrain.dataset.tables import connect, failure, lock
from streamtrain.reading import Batch, Committed, Quarantined, Source, SourceFile
from streamtrain.types import F64, Bools, InputRange, Samples


class Store:
    """The state database. Its methods may be called from several threads.

    Parameters
    ----------
    path : Path
        File; its directory must exist.
    schema_digest : str, optional
        `Schema.digest` of the logs. Samples and offsets of another schema stay apart. Without it, the schema used last.
    max_samples : int, optional
        Hold at most about twice as many, the newest. Without it, everything until `prune`.
    reservoir : int
        Of those that are dropped, keep what a reservoir of so many samples needs (see `streamtrain.dataset.reservoir`).
    by_session : bool
        It is one of whole sessions.
    readonly : bool
        Look on while another process writes. Figures are as of opening or `refresh`; what writes raises StoreError.
    max_quarantined : int
        Keep so many quarantined lines, the latest; the count goes on.
    clock : callable
        Seconds since the epoch.

    Attributes
    ----------
    path : Path
    new_window : bool
        The schema is another than the one used last: the window begins anew, from logs read again from their start.

    Raises
    ------
    StoreMissingError, StoreBusyError, StoreNewerError, StoreDamagedError, StoreError
    """

    def __init__(
        self,
        path: Path,
        schema_digest: str | None = None,
        *,
        max_samples: int | None = None,
        reservoir: int = 0,
        by_session: bool = False,
        readonly: bool = False,
        max_quarantined: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._max_samples = max_samples
        self._reservoir, self._fresh = reservoir, no_limits(by_session)
        self._max_quarantined = max_quarantined
        self._clock = clock
        self._readonly = readonly
        self._guard = RLock()
        with ExitStack() as opened:
            if not readonly:
                opened.callback(os.close, lock(path))
            self._db = connect(path, readonly)
            opened.callback(self._db.close)
            self._schema, self.new_window = self._choose_schema(schema_digest)
            self._chunks: list[Chunk] = []
            self._index = KeyIndex()
            self.refresh()
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database and release its lock."""
        with self._guard:
            self._opened.close()

    def commit(self, batch: Batch) -> Committed:
        """Write all of a batch in one transaction; on an error nothing of it is written.

        Samples whose key is in the store already, or earlier in the batch, are dropped and counted.

        Parameters
        ----------
        batch : Batch

        Returns
        -------
        Committed

        Raises
        ------
        StoreError
        """
        with self._guard:
            fresh = self._index.fresh(batch.samples.keys)
            n_given, n_new = len(fresh), int(fresh.sum())
            samples = batch.samples if n_new == n_given else select(batch.samples, fresh)
            now = self._clock()
            remaining = self._chunks
            with self._writing("commit what was read"):
                if n_new:
                    chunk = chunks.insert(self._db, self._schema, samples)
                    self._db.executemany(
                        "INSERT INTO ranges VALUES (?, ?, ?, ?)",
                        [(chunk.id, int(part.source, 16), part.start, part.end) for part in batch.ranges],
                    )
                    remaining = chunks.merge_small(self._db, self._schema, [*self._chunks, chunk], self._moved)
                ledger.write_sources(self._db, self._schema, batch.sources, now)
                ledger.write_files(self._db, self._schema, batch.files, now)
                if batch.quarantined:
                    ledger.write_quarantined(self._db, self._schema, batch.quarantined, self._max_quarantined)
                ledger.release(self._db, batch.released)
                waiting.write(self._db, self._schema, batch.pending, now)
                slices.write(self._db, self._schema, batch.slice_names, now)
                n_expired = 0 if batch.bound is None else waiting.expire(self._db, self._schema, batch.bound, now)
                committed = Committed(n_new, n_given - n_new, n_expired)
                if n_given or n_expired or batch.n_lines or batch.n_recognised:
                    add_up(self._db, batch, committed)
            self._chunks = remaining
            self._index.add(samples.keys)
            if self._max_samples is not None and self._n_held() > 2 * self._max_samples:
                self.prune(self._max_samples)
            return committed

    def prune(self, max_samples: int | None = None, older_than: float | None = None) -> int:
        """Drop what fell out of the window, in whole chunks; a little more than the window remains.

        Parameters
        ----------
        max_samples : int, optional
            The newest so many are kept, and at most about twice as many remain.
        older_than : float, optional
            Seconds since the epoch; chunks with nothing as new as this are dropped.

        Returns
        -------
        int
            Samples dropped. Their keys are forgotten with them, but for those that the reservoir keeps.

        Raises
        ------
        StoreError
        """
        with self._guard:
            n_before = self._n_held()
            count = n_before if max_samples is None else max_samples
            cutoff = -math.inf if older_than is None else older_than
            if n_before <= count and all(chunk.newest >= cutoff for chunk in self._chunks):
                return 0
            with self._writing("drop samples that fell out of the window"):
                remaining = chunks.keep_newest(self._db, self._schema, self._chunks, count, cutoff, self._let_go)
                retained.forget_ranges(self._db)
            if len(remaining) != len(self._chunks) or sum(chunk.n for chunk in remaining) != n_before:
                self._chunks = remaining
                self._index_keys()
            return n_before - self._n_held()

    def refresh(self) -> None:
        """Take in what another process has committed since this one opened the store."""
        with self._guard, self._reading("read the list of chunks"):
            self._chunks = chunks.listed(self._db, self._schema)
            if not self._readonly:
                self._index_keys()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Hold what is held still, for as long as it takes to read several things; one within another is one."""
        with self._guard:
            if not self._readonly or self._db.in_transaction:
                yield
                return
            with self._reading("read a snapshot"), self._db:
                self._db.execute("BEGIN")
                self.refresh()
                yield

    def sources(self) -> list[Source]:
        """Every source and how far it was read, the one changed last at the end."""
        with self._guard, self._reading("read the sources"):
            return ledger.read_sources(self._db, self._schema)

    def files(self) -> list[SourceFile]:
        """Every file that carries or carried a source, the one changed last at the end."""
        with self._guard, self._reading("read the files"):
            return ledger.read_files(self._db, self._schema)

    def pending(self, keys: Iterable[int]) -> Mapping[int, bytes]:
        """Look up what is kept of records that come in two lines, by the key that joins them."""
        with self._guard, self._reading("read halves of records"):
            return waiting.read(self._db, self._schema, keys)

    def n_waiting_halves(self) -> int:
        """How many of them wait for their other half."""
        with self._guard, self._reading("count halves of records"):
            return waiting.count(self._db, self._schema)

    def pending_since(self) -> float | None:
        """When the one that has waited longest last changed, in seconds since the epoch; None where none waits."""
        with self._guard, self._reading("look at halves of records"):
            return waiting.since(self._db, self._schema)

    def slice_names(self) -> Mapping[int, str]:
        """Names of slices, by `Samples.slices`: at most 1,000, those read last, each cut to 200 characters."""
        with self._guard, self._reading("read the names of slices"):
            return slices.read(self._db, self._schema)

    def quarantine(self, limit: int = 100, skip: int = 0) -> list[Quarantined]:
        """Quarantined lines, the latest first: at most `limit` after the first `skip`."""
        with self._guard, self._reading("read the quarantine"):
            return ledger.read_quarantined(self._db, self._schema, limit, skip)

    def quarantined_after(self, number: int, limit: int) -> list[Quarantined]:
        """Quarantined lines of every schema with a greater number, the earliest first."""
        with self._guard, self._reading("read the quarantine"):
            return ledger.read_quarantined_after(self._db, number, limit)

    def n_quarantined(self) -> int:
        """How many quarantined lines of any schema are kept."""
        with self._guard, self._reading("count the quarantine"):
            return int(self._db.execute("SELECT count(*) FROM quarantine").fetchone()[0])

    def quarantined(self, number: int) -> Quarantined | None:
        """Quarantined line of this number, of any schema; None if there is none, or not any more."""
        found = self.quarantined_after(number - 1, 1)
        return found[0] if found and found[0].id == number else None

    def counts(self) -> Counts:
        """Figures of the store."""
        with self._guard, self._reading("count"):
            return count(self._db, self._schema)

    @property
    def n_total_ingested(self) -> int:
        """Samples ever added; never falls."""
        return self.counts().n_total_ingested

    def input_ranges(self) -> tuple[InputRange, ...]:
        """Which bytes of which files the samples held came from; ranges of one source don't overlap."""
        query = """SELECT ranges.source, sources.path, ranges.start, ranges.stop
                   FROM ranges JOIN sources ON sources.schema = ?1 AND sources.key = ranges.source
                   WHERE ranges.chunk IN (SELECT id FROM chunks WHERE schema = ?1 UNION SELECT value FROM json_each(?2))
                   ORDER BY ranges.source, ranges.start"""
        joined: list[InputRange] = []
        with self._guard, self._reading("read the input ranges"):
            origins = json.dumps(retained.origins(self._db, self._schema))
            for key, path, start, stop in self._db.execute(query, (self._schema, origins)):
                source = f"{key:016x}"
                if joined and joined[-1].source == source and joined[-1].end >= start:
                    last = joined.pop()
                    start, stop = last.start, max(last.end, stop)
                joined.append(InputRange(source, os.fsdecode(path), start, stop))
        return tuple(joined)

    def chunks(self) -> Sequence[Chunk]:
        """List what is held, in the order of reading, without the samples."""
        with self._guard:
            return tuple(self._chunks)

    def read(self, chunk: Chunk) -> Samples:
        """Read the samples of a chunk, as read-only arrays."""
        with self._guard, self._reading("read samples"):
            return chunks.read(self._db, chunk)

    def timestamps(self, chunk: Chunk) -> F64:
        """Read the timestamps of a chunk only, as a read-only array."""
        with self._guard, self._reading("read timestamps"):
            return chunks.timestamps(self._db, chunk)

    def candidates(self, chunk: Chunk) -> Pool:
        """Read what of a chunk's samples decides about a reservoir, as read-only arrays."""
        with self._guard, self._reading("read sessions and labels"):
            return chunks.candidates(self._db, chunk)

    def retained(self, by_session: bool = False) -> Retained:
        """List what is kept of samples that were dropped, for a reservoir of samples or of sessions."""
        with self._guard, self._reading("read the reservoir"):
            return retained.read(self._db, self._schema, no_limits(by_session))

    def get(self, key: str, default: object = None) -> object:
        """Look up a fact, such as the state of the cycle.

        Parameters
        ----------
        key : str
        default : object
            For when it was never set.

        Returns
        -------
        object
            A JSON value.
        """
        with self._guard, self._reading(f"read {key!r}"):
            row = self._db.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row[0])

    def set(self, key: str, value: object) -> None:
        """Remember a fact.

        Parameters
        ----------
        key : str
        value : object
            A JSON value.

        Raises
        ------
        StoreError
        """
        with self._guard, self._writing(f"write {key!r}"):
            self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, json.dumps(value)))

    def sync(self) -> None:
        """Make everything committed survive a power cut; needed before an input is moved or deleted."""
        with self._guard:
            with self._reading("sync"):
                busy, *_ = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                return
            # Somebody reads what would be overwritten: a commit that waits for the disk takes all before it along.
            self._db.execute("PRAGMA synchronous = FULL")
            try:
                with self._writing("sync"):
                    self._db.execute("UPDATE totals SET n_lines = n_lines")
            finally:
                self._db.execute("PRAGMA synchronous = NORMAL")

    def _index_keys(self) -> None:
        held = retained.read(self._db, self._schema, self._fresh).chunk
        kept = () if held is None else (held.keys,)
        self._index = KeyIndex([*(chunk.keys for chunk in self._chunks), *kept])

    def _let_go(self, leaving: Sequence[tuple[Chunk, Bools]]) -> None:
        retained.take_in(self._db, self._schema, self._reservoir, self._fresh, leaving)

    def _moved(self, merged: int, parts: Sequence[int]) -> None:
        retained.move(self._db, self._schema, merged, parts)

    def _n_held(self) -> int:
        return sum(chunk.n for chunk in self._chunks)

    def _choose_schema(self, digest: str | None) -> tuple[int, bool]:
        """Find the row of the schema, and whether another one was used last."""
        with self._reading("find the log schema"):
            last = self._db.execute("SELECT id, digest FROM schemas ORDER BY used DESC, id DESC LIMIT 1").fetchone()
            last = None if last is None else (int(last[0]), last[1])
        if self._readonly or (last is not None and digest in (None, last[1])):
            if digest is not None and (last is None or last[1] != digest):
                with self._reading("find the log schema"):
                    row = self._db.execute("SELECT id FROM schemas WHERE digest = ?", (digest,)).fetchone()
                return (0 if row is None else int(row[0])), True
            return (0 if last is None else int(last[0])), False
        with self._writing("note the log schema"):
            self._db.execute(
                """INSERT INTO schemas (digest, used) VALUES (?, ?)
                   ON CONFLICT (digest) DO UPDATE SET used = excluded.used""",
                (digest or "", self._clock()),
            )
            row = self._db.execute("SELECT id FROM schemas WHERE digest = ?", (digest or "",)).fetchone()
            ledger.forget_old_sources(self._db, int(row[0]))
        return int(row[0]), last is not None

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise failure(error, f"{what} in {self.path}") from error
        except (ValueError, KeyError, TypeError) as error:
            # The tree of pages can be sound, and a row in it not.
            raise StoreDamagedError(
                f"{what} in {self.path}: a row is malformed ({error}); move the file aside"
            ) from error

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        """Run the body in a transaction: all of it is committed, or nothing."""
        if self._readonly:
            raise StoreError(f"{what} in {self.path}: it was opened for reading only")
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise failure(error, f"{what} in {self.path}", "nothing was changed; ") from error
