"""Quarantined lines, decoded again: those that now work become samples and leave quarantine in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from streamtrain.ingest.decode import KEPT_BYTES, Decoder
from streamtrain.ingest.halves import Half
from streamtrain.ingest.kept import read_kept
from streamtrain.ingest.pile import Pile
from streamtrain.ingest.rows import Rows
from streamtrain.reading import Batch, Committed, Quarantined, Source

_AT_ONCE: Final = 1000


class QuarantineStore(Protocol):
    """What a retry asks of the state database."""

    def commit(self, batch: Batch) -> Committed:
        """Write all of a batch, or nothing."""

    def quarantined_after(self, number: int, limit: int) -> Sequence[Quarantined]:
        """Quarantined lines of every schema, the earliest first."""


@dataclass(frozen=True, slots=True)
class RetryReport:
    """What a retry did.

    Attributes
    ----------
    tried, samples, duplicates : int
        Lines decoded again; new samples; samples that were in the window already.
    halves : int
        Lines that are one half of a record.
    remaining : int
        Lines that still fail, or of which only a part was kept.
    """

    tried: int
    samples: int
    duplicates: int
    halves: int
    remaining: int


def retry(
    store: QuarantineStore,
    decoder: Decoder,
    rows: Rows,
    pile: Pile,
    joined: Callable[[Batch, Sequence[Half]], Batch],
    on_lines: Callable[[int], None] = lambda n_tried: None,
) -> RetryReport:
    """Decode every quarantined line again.

    A line without an id keeps the identity that it has by its place in its file, so that it can't become a second
    sample where the file itself was read again meanwhile.

    Parameters
    ----------
    store : QuarantineStore
    decoder : Decoder
    rows : Rows
        Both of the present schema.
    pile : Pile
        An empty one.
    joined : callable
        Puts halves of records together before a batch is committed.
    on_lines : callable
        Told how many were tried, after each batch.

    Returns
    -------
    RetryReport
    """
    last = tried = n_released = samples = duplicates = n_halves = 0
    while kept := store.quarantined_after(last, _AT_ONCE):
        last = kept[-1].id
        released = []
        for row in kept:
            tried += 1
            if not row.line or len(row.line) >= KEPT_BYTES:
                continue
            if b"\n" in row.line:
                decoded = read_kept(rows, row.line, row.source, row.offset)
            else:
                decoded = decoder.decode_lines(row.line, np.array([len(row.line)], np.int64), row.source, row.offset)
            if decoded is None or decoded.bad or not decoded.n_lines:
                continue
            pile.add(Source(row.source, row.path, b"", 0), row.offset, row.offset + len(row.line) + 1, decoded)
            released.append(row.id)
        if released:
            halves = pile.halves
            committed = store.commit(joined(pile.take_again(tuple(released)), halves))
            samples += committed.n_samples
            duplicates += committed.n_duplicates
            n_halves += len(halves)
            n_released += len(released)
        on_lines(tried)
    return RetryReport(tried, samples, duplicates, n_halves, tried - n_released)
