"""What was read and not committed yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from itertools import islice
from typing import Final

import numpy as np

from streamtrain.ingest.decode import Decoded
from streamtrain.ingest.halves import Half
from streamtrain.ingest.slices import SliceNames
from streamtrain.reading import Batch, Quarantined, Source, SourceFile
from streamtrain.types import InputRange, Samples

_EXAMPLES: Final = 1000  # quarantined lines kept of one commit; all are counted


class Pile:
    """Collect samples and bad lines of many blocks and files.

    Parameters
    ----------
    dim : int
        Number of features D.
    names : SliceNames, optional
        Names of slices, which go along with what is taken.

    Attributes
    ----------
    n_bytes : int
        Bytes read since the last `take`.
    n_recognised : int
        Files recognised since the last `take`.
    """

    def __init__(self, dim: int, names: SliceNames | None = None) -> None:
        self._dim = dim
        self._names = SliceNames() if names is None else names
        self.clear()

    def clear(self) -> None:
        """Throw everything away."""
        self._samples: list[Samples] = []
        self._halves: list[Half] = []
        self._ranges: list[InputRange] = []
        self._quarantined: list[Quarantined] = []
        self._n_lines = 0
        self._n_quarantined = 0
        self.n_recognised = 0
        self.n_bytes = 0

    @property
    def empty(self) -> bool:
        """Nothing was read or recognised."""
        return not (self.n_bytes or self._n_lines or self.n_recognised)

    def add(
        self,
        source: Source,
        start: int,
        end: int,
        decoded: Decoded,
        *,
        keep: bool = True,
        before: Sequence[Quarantined] = (),
    ) -> None:
        """Add the lines of the bytes [start, end) of a source.

        Parameters
        ----------
        source : Source
        start, end : int
        decoded : Decoded
        keep : bool
            Keep examples of its bad lines; they are counted either way.
        before : sequence of Quarantined
            Examples of earlier bad lines, which were counted already.
        """
        self.keep(before)
        key = f"{source.key:016x}"
        last = self._ranges[-1] if self._ranges else None
        if len(decoded.samples.keys) or decoded.halves:
            if len(decoded.samples.keys):
                self._samples.append(decoded.samples)
            self._halves += decoded.halves
            if last is not None and last.source == key and last.end == start:
                self._ranges[-1] = InputRange(key, source.path, last.start, end)
            else:
                self._ranges.append(InputRange(key, source.path, start, end))
        self._n_lines += decoded.n_lines - len(decoded.bad)
        self._n_lines += len(decoded.bad)
        self._n_quarantined += len(decoded.bad)
        if keep:
            self.keep(Quarantined(source.key, source.path, bad.offset, bad.reason, bad.line) for bad in decoded.bad)
        self.n_bytes += end - start

    def add_bad(self, line: Quarantined) -> None:
        """Add a line that is no sample."""
        self._n_lines += 1
        self._n_quarantined += 1
        self.keep((line,))

    def keep(self, lines: Iterable[Quarantined]) -> None:
        """Keep examples of bad lines, as long as there is room, and count none of them."""
        self._quarantined += islice(lines, max(0, _EXAMPLES - len(self._quarantined)))

    @property
    def halves(self) -> tuple[Half, ...]:
        """Halves of records, to be joined before they are committed."""
        return tuple(self._halves)

    def take(self, sources: tuple[Source, ...], files: tuple[SourceFile, ...]) -> Batch:
        """Make a batch of everything collected, and begin anew."""
        batch = Batch(
            samples=self._joined(),
            ranges=tuple(self._ranges),
            sources=sources,
            files=files,
            quarantined=tuple(self._quarantined),
            n_lines=self._n_lines,
            n_quarantined=self._n_quarantined,
            n_recognised=self.n_recognised,
            slice_names=self._names.take(),
        )
        self.clear()
        return batch

    def take_again(self, released: tuple[int, ...]) -> Batch:
        """Make a batch of lines that were counted when they were quarantined, and are so no longer."""
        batch = Batch(
            samples=self._joined(), ranges=tuple(self._ranges), released=released, slice_names=self._names.take()
        )
        self.clear()
        return batch

    def _joined(self) -> Samples:
        if len(self._samples) == 1:
            return self._samples[0]
        if not self._samples:
            none, keys = np.empty(0, np.float32), np.empty(0, np.uint64)
            return Samples(np.empty((0, self._dim), np.float32), none, np.empty(0), keys, keys, none, none, none, keys)
        names = [column.name for column in fields(Samples)]
        return Samples(**{name: np.concatenate([getattr(part, name) for part in self._samples]) for name in names})
