"""One pass over the logs: every complete line that was not read yet goes into the store, exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from streamtrain.ingest.decode import Decoder
from streamtrain.ingest.disposal import Finished
from streamtrain.ingest.halves import Half
from streamtrain.ingest.identity import NotReadableError, OpenLog
from streamtrain.ingest.join import Joiner
from streamtrain.ingest.labels import Labeller
from streamtrain.ingest.pile import Pile
from streamtrain.ingest.reading import FileReader, look_of
from streamtrain.ingest.recognise import StoppedError
from streamtrain.ingest.register import Register, StateStore
from streamtrain.ingest.retry import RetryReport, retry
from streamtrain.ingest.rows import Rows
from streamtrain.ingest.scan import EXCLUDE, INCLUDE, Chosen, Found, scan
from streamtrain.ingest.schema import Schema
from streamtrain.ingest.slices import SliceNames
from streamtrain.ingest.tail import MAX_LINE_BYTES
from streamtrain.reading import Batch, Bound, Committed


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How logs are read.

    Attributes
    ----------
    directory : Path
        Where they are, with its sub-directories.
    include, exclude : tuple of str
        Patterns of the shell, see `scan`.
    max_line_bytes : int
        A longer line is quarantined, and never held whole.
    commit_bytes : int
        Read about so much before a commit.
    idle_timeout_s : float or None
        A last line without a newline is accepted, if it is a valid record, when its file did not change for so long.
    json_only : bool
        JSON Lines are read, and no tables.
    sqlite_table : str or None
        Table of a database that is read; None for the one that has the fields of the schema.
    """

    directory: Path
    include: tuple[str, ...] = INCLUDE
    exclude: tuple[str, ...] = EXCLUDE
    max_line_bytes: int = MAX_LINE_BYTES
    commit_bytes: int = 4 << 20
    idle_timeout_s: float | None = 10.0
    json_only: bool = False
    sqlite_table: str | None = None


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What a pass did.

    Attributes
    ----------
    lines : int
        Complete lines read; each is one of the next three.
    samples, duplicates, quarantined : int
        Of lines that are joined, two make a sample.
    pending : int
        Files whose last line has no end yet and is waited for, and halves of records that wait for the other half.
    recognised : int
        Files found to be copies of what was read before.
    n_lost, lost_bytes : int
        Sources that disappeared before they were read to their end (in all, not in this pass), and the bytes known of.
    refused : tuple of (str, str)
        Paths that were left alone, and why.
    unlabelled : int
        Outcomes that no label can be made from.
    expired : int
        Halves given up because the other did not come in time, or too many were waiting.
    """

    lines: int
    samples: int
    duplicates: int
    quarantined: int
    pending: int
    recognised: int
    n_lost: int
    lost_bytes: int
    refused: tuple[tuple[str, str], ...]
    unlabelled: int = 0
    expired: int = 0


class Ingestor:
    """Read the logs of one directory into one store.

    Parameters
    ----------
    store : StateStore
    schema : Schema
    options : IngestOptions
    clock : callable
        Seconds since the epoch.
    """

    def __init__(
        self, store: StateStore, schema: Schema, options: IngestOptions, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._options = options
        self._clock = clock
        self._register = Register(store)
        self._names = SliceNames()
        self._pile = Pile(len(schema.feature_names), self._names)
        self._join = schema.join
        self._joiner = None if schema.join is None else Joiner(Labeller(schema), len(schema.feature_names))
        self._schema = schema
        self._decoder = Decoder(schema, clock, self._names)
        self._rows = Rows(schema, clock, self._names)
        self._reader = FileReader(
            self._register,
            self._pile,
            self._decoder,
            None if options.json_only else self._rows,
            clock,
            max_line_bytes=options.max_line_bytes,
            commit_bytes=options.commit_bytes,
            idle_timeout_s=options.idle_timeout_s,
            sqlite_table=options.sqlite_table,
        )
        self._chosen = Chosen(options.include, options.exclude)
        self._unfinished = False

    def run(
        self, should_stop: Callable[[], bool] = lambda: False, progress: Callable[[], None] = lambda: None
    ) -> IngestReport:
        """Read everything that is there and was not read yet.

        Files that have not changed since they were read are not opened. What was read is committed every few MiB and at
        the end; after an error, what was not committed is read again by the next call.

        Parameters
        ----------
        should_stop : callable
            Asked after each block; True commits what was read so far and returns.
        progress : callable
            Called after each block of real progress.

        Returns
        -------
        IngestReport

        Raises
        ------
        Exception
            Whatever `store.commit` raises.
        """
        if self._unfinished:
            self._register.reload()
            self._pile.clear()
            self._reader.reset()
        self._unfinished = True

        def go_on() -> bool:
            progress()
            return not should_stop()

        tally = _Tally()

        def commit() -> None:
            halves = self._pile.halves
            batch = self._joined(self._pile.take(*self._register.changes()), halves)
            tally.add(batch, self._store.commit(batch))

        options = self._options
        listing = scan(options.directory, options.include, options.exclude)
        refused = list(listing.refused)
        if listing.complete:
            # First, so that what went can be told from what is still there in what comes.
            self._register.put_absent(
                {(found.look.device, found.look.inode) for found in listing.files}, self._would_find
            )
        moved = []
        for found in listing.files:
            if self._reader.settled(found.look):
                file = self._register.present(found.look)
                if file is not None and file.path != found.path:
                    moved.append(found)
                continue
            if should_stop():
                break
            try:
                with OpenLog(found.path) as log:
                    # Another file by now: renamed since the scan, or reached through a link put in a directory's place.
                    if (log.look.device, log.look.inode) == (found.look.device, found.look.inode):
                        self._reader.read(log, go_on, commit)
            except FileNotFoundError:
                continue  # renamed or deleted since the scan; the next one tells which
            except NotReadableError as error:
                refused.append((found.path, str(error)))
            except StoppedError:
                break
        if moved:
            self._note_paths(moved, {found.path for found in listing.files})
        if not self._pile.empty or self._register.worth_committing or self._overdue():
            commit()
        self._unfinished = False
        lost = self._register.lost()
        return IngestReport(
            lines=tally.lines,
            samples=tally.samples,
            duplicates=tally.duplicates,
            quarantined=tally.quarantined,
            pending=sum(file.waiting for file in self._register.files()) + self._n_waiting(),
            recognised=tally.recognised,
            n_lost=len(lost),
            lost_bytes=sum(lost),
            refused=tuple(refused),
            unlabelled=tally.unlabelled,
            expired=tally.expired,
        )

    def retry(self, on_lines: Callable[[int], None] = lambda n_tried: None) -> RetryReport:
        """Decode quarantined lines again under the present schema, and ingest those that now work, exactly once.

        Parameters
        ----------
        on_lines : callable
            Told how many were tried, now and then.

        Returns
        -------
        RetryReport

        Raises
        ------
        Exception
            Whatever `store.commit` raises; what was committed before stays so, and is in quarantine no longer.
        """
        pile = Pile(len(self._schema.feature_names), self._names)
        return retry(self._store, self._decoder, self._rows, pile, self._joined, on_lines)

    def finished(self) -> list[Finished]:
        """List the files that were read to their end, the last line whole, and have been left alone since.

        Returns
        -------
        list of Finished
            Unchanged for `idle_timeout_s`; none where that is None. Files that are no logs are not among them.
        """
        options, idle_s = self._options, self._options.idle_timeout_s
        if idle_s is None or self._unfinished:
            return []
        latest = (self._clock() - idle_s) * 1e9
        found = []
        for path, look in scan(options.directory, options.include, options.exclude).files:
            file = self._register.present(look)
            if file is None or file.waiting or look_of(file) != look or max(look.mtime_ns, look.ctime_ns) > latest:
                continue
            source = self._register.source(file.source)
            if source is not None and not source.oversize and (file.compressed or source.offset == look.size):
                found.append(Finished(path, look))
        return found

    def lag(self) -> tuple[int, float]:
        """Measure what is there and not read yet, by looking at sizes only.

        Returns
        -------
        n_bytes : int
            Compressed bytes where a file is compressed. A last line without an end is not counted once it was seen.
        seconds : float
            Since the longest unread file was last written; 0 when there is none.
        """
        options = self._options
        n_bytes, oldest = 0, None
        for found in scan(options.directory, options.include, options.exclude).files:
            file = self._register.present(found.look)
            if file is not None and look_of(file) == found.look:
                continue
            unread = found.look.size
            if file is not None and file.compressed and file.source and not file.waiting:
                # A database; of what it holds, what it grew by is unread at most.
                unread = max(0, unread - file.size)
            if file is not None and not file.compressed:
                source = self._register.source(file.source)
                offset = 0 if source is None else source.offset
                unread = unread - offset if unread >= offset else unread
            if unread:
                n_bytes += unread
                oldest = found.look.mtime_ns if oldest is None else min(oldest, found.look.mtime_ns)
        return n_bytes, 0.0 if oldest is None else max(0.0, self._clock() - oldest / 1e9)

    def _joined(self, batch: Batch, halves: Sequence[Half]) -> Batch:
        """Put together what came in two lines, as far as both are here."""
        if self._join is None or self._joiner is None:
            return batch
        bound = Bound(self._join.max_age_s, self._join.max_pending)
        if not halves:
            return replace(batch, bound=bound)
        joined = self._joiner.join(halves, self._store.pending)
        return replace(
            batch,
            samples=joined.samples,
            ranges=(*batch.ranges, *joined.ranges),
            pending=joined.pending,
            bound=bound,
            n_repeated=joined.n_repeated,
            n_unlabelled=joined.n_unlabelled,
        )

    def _overdue(self) -> bool:
        """Tell whether something has waited too long for its other half."""
        if self._join is None:
            return False
        since = self._store.pending_since()
        return since is not None and self._clock() - since > self._join.max_age_s

    def _n_waiting(self) -> int:
        return 0 if self._join is None else self._store.n_waiting_halves()

    def _note_paths(self, moved: Sequence[Found], there: set[str]) -> None:
        """Note where files are that did not change; of hard links, any that is there will do."""
        for found in moved:
            file = self._register.present(found.look)
            if file is not None and file.path not in there:
                self._register.put_path(found.look, found.path)

    def _would_find(self, path: str) -> bool:
        """Tell whether a file that was seen at a path once is looked for by this ingestor, and not by another."""
        root = f"{self._options.directory}/"
        return path.startswith(root) and self._chosen.would_find(path[len(root) :])


@dataclass(slots=True)
class _Tally:
    lines: int = 0
    samples: int = 0
    duplicates: int = 0
    quarantined: int = 0
    recognised: int = 0
    unlabelled: int = 0
    expired: int = 0

    def add(self, batch: Batch, committed: Committed) -> None:
        """Count what was committed."""
        self.lines += batch.n_lines
        self.samples += committed.n_samples
        self.duplicates += committed.n_duplicates + batch.n_repeated
        self.quarantined += batch.n_quarantined
        self.recognised += batch.n_recognised
        self.unlabelled += batch.n_unlabelled
        self.expired += committed.n_expired
