"""A state that is given and never changes: what reading outside of the daemon's own goes by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from streamtrain.reading import Batch, Committed, Quarantined, Source, SourceFile


@dataclass(frozen=True, slots=True)
class Seeded:
    """A state (`streamtrain.ingest.register.StateStore`) that keeps nothing.

    Attributes
    ----------
    known : tuple of Source
        Which sources there are; none: nothing was ever read.
    carriers : tuple of SourceFile
        Which files carry them.
    """

    known: tuple[Source, ...] = ()
    carriers: tuple[SourceFile, ...] = ()

    def commit(self, batch: Batch) -> Committed:
        """Keep nothing."""
        return Committed(len(batch.samples.keys), 0)

    def sources(self) -> Sequence[Source]:
        """List the sources."""
        return self.known

    def files(self) -> Sequence[SourceFile]:
        """List the files."""
        return self.carriers

    def quarantined_after(self, number: int, limit: int) -> Sequence[Quarantined]:
        """List nothing."""
        return ()

    def pending(self, keys: Iterable[int]) -> Mapping[int, bytes]:
        """Know of nothing."""
        return {}

    def n_waiting_halves(self) -> int:
        """Wait for nothing."""
        return 0

    def pending_since(self) -> float | None:
        """Wait for nothing."""
        return None
