"""Which file carries which source, and how far each was read: what is committed, and what is about to be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final, Protocol

from streamtrain.ingest.hashing import digest
from streamtrain.ingest.identity import FileIdentity, Look, OpenLog, source_key
from streamtrain.reading import Batch, Committed, Quarantined, Source, SourceFile

TELLING_BYTES: Final = 64  # a shorter beginning of a first line is too much like others to know it again by it alone
_MANY_FILES: Final = 256
_FEW: Final = 16


class StateStore(Protocol):
    """What ingestion asks of the state database."""

    def commit(self, batch: Batch) -> Committed:
        """Write all of a batch, or nothing."""

    def sources(self) -> Sequence[Source]:
        """Every source."""

    def files(self) -> Sequence[SourceFile]:
        """Every file."""

    def quarantined_after(self, number: int, limit: int) -> Sequence[Quarantined]:
        """Quarantined lines of every schema with a greater number, the earliest first."""

    def pending(self, keys: Iterable[int]) -> Mapping[int, bytes]:
        """Look up what is kept of records that come in two lines, by the key that joins them."""

    def n_waiting_halves(self) -> int:
        """How many of them wait for their other half."""

    def pending_since(self) -> float | None:
        """When the one that did not change for longest was written; None where there is none."""


class Register:
    """Sources and files in memory.

    Parameters
    ----------
    store : StateStore
        Where they are read from, at once and at `reload`.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self.reload()

    def reload(self) -> None:
        """Forget everything that was not committed."""
        self._sources = {source.key: source for source in self._store.sources()}
        self._new = [key for key in self._sources if key]
        self._files: dict[FileIdentity, SourceFile] = {}
        self._present: dict[tuple[int, int], SourceFile] = {}
        self._carriers: dict[int, dict[FileIdentity, SourceFile]] = {}
        self._heads: dict[int, dict[bytes, set[int]]] = {}
        for source in self._sources.values():
            self._note_head(source)
        for file in self._store.files():
            self._note_file(file)
        self._changed_sources: dict[int, Source] = {}
        self._changed_files: dict[FileIdentity, SourceFile] = {}
        # As they are committed; of others the size tells nothing that the source's offset doesn't.
        self._waiting_sizes = {identity: file.size for identity, file in self._files.items() if file.waiting}

    def changes(self) -> tuple[tuple[Source, ...], tuple[SourceFile, ...]]:
        """Take what changed since the last call; it counts as committed from here on."""
        changes = tuple(self._changed_sources.values()), tuple(self._changed_files.values())
        self._waiting_sizes |= {identity: file.size for identity, file in self._changed_files.items() if file.waiting}
        self._changed_sources, self._changed_files = {}, {}
        return changes

    @property
    def worth_committing(self) -> bool:
        """Something changed that a later run would not find out by itself with little effort."""
        if self._changed_sources or len(self._changed_files) > _MANY_FILES:
            return True
        return any(
            file.compressed
            or file.gone
            or not file.source
            # Of what was seen and not read yet, it is only known by this that it was there.
            or (file.waiting and self._waiting_sizes.get(identity) != file.size)
            for identity, file in self._changed_files.items()
        )

    def source(self, key: int) -> Source | None:
        """Look up a source; None for key 0 or one that was forgotten."""
        return self._sources.get(key) if key else None

    def take_new(self) -> list[int]:
        """Take the keys of the sources that were read from the store since the last call."""
        taken, self._new = self._new, []
        return taken

    def file(self, identity: FileIdentity) -> SourceFile | None:
        """Look up a file that was seen before."""
        return self._files.get(identity)

    def present(self, look: Look) -> SourceFile | None:
        """Look up a file by what a scan knows of it."""
        return self._present.get((look.device, look.inode))

    def files(self) -> list[SourceFile]:
        """List the files that are there."""
        return list(self._present.values())

    def lost(self) -> list[int]:
        """List the bytes that are known to be missing, for each source that disappeared unread."""
        return [source.lost_bytes for source in self._sources.values() if source.lost_bytes]

    def carriers(self, source: Source) -> list[SourceFile]:
        """List the files that are there and carry a source."""
        return [file for file in self._carriers.get(source.key, {}).values() if not file.gone]

    def candidates(self, head: bytes) -> list[Source]:
        """List sources that begin like this content, those read least first; of those too short to tell, a few."""
        keys: set[int] = set()
        for size, keys_of in self._heads.items():
            if size <= len(head):
                alike = keys_of.get(digest(head[:size]), set())
                keys.update(alike if size >= TELLING_BYTES else islice(alike, _FEW))
        return sorted((self._sources[key] for key in keys), key=lambda source: source.offset)

    def new_source(self, log: OpenLog, head: bytes) -> Source:
        """Begin a source, of which nothing has been read, and only its first bytes were seen."""
        attempt = 0
        while not (key := source_key(log.identity, head, attempt)) or key in self._sources:
            attempt += 1
        source = Source(key=key, path=log.path, head_hash=digest(head), head_bytes=len(head))
        self.put_source(source)
        return source

    def put_source(self, source: Source) -> None:
        """Note the new state of a source; what is lost of it, the register knows better."""
        before = self._sources.get(source.key)
        if before is not None:
            reached = self._reached(before)
            gained = self._reached(source) - reached if reached < math.inf else 0
            source = replace(source, lost_bytes=int(max(0, before.lost_bytes - max(0, gained))))
        if before == source:
            return
        if before is not None and before.head_hash != source.head_hash:
            self._drop_head(before)
        self._sources[source.key] = source
        self._note_head(source)
        self._changed_sources[source.key] = source

    def put_file(self, file: SourceFile) -> None:
        """Note the new state of a file, and whether what it carried before is lost with it, or found again."""
        identity = FileIdentity(file.device, file.inode, file.birth_ns)
        before = self._files.get(identity)
        if before == file:
            return
        if not file.gone:
            self.put_opened(identity)
        keys = {file.source} if before is None else {before.source, file.source}
        sources = [self._sources[key] for key in keys if key and key in self._sources]
        reached = [self._reached(source) for source in sources]
        self._note_file(file)
        self._changed_files[identity] = file
        for source, was in zip(sources, reached, strict=True):
            self._note_loss(source, was, before, file)

    def put_opened(self, identity: FileIdentity) -> None:
        """Note that a file is there, and so the one that had its inode before is not."""
        there = self._present.get((identity.device, identity.inode))
        if there is not None and there.birth_ns != identity.birth_ns:
            self.put_file(replace(there, gone=True))

    def put_path(self, look: Look, path: str) -> None:
        """Note that a file that did not change is found elsewhere, because a directory was moved."""
        file = self._present[look.device, look.inode]
        self.put_file(replace(file, path=path))

    def put_absent(self, there: set[tuple[int, int]], expected: Callable[[str], bool]) -> None:
        """Note which of the files are gone.

        Parameters
        ----------
        there : set of (device, inode)
            Files that a complete scan found.
        expected : callable
            Tells of a path whether that scan would have found it.
        """
        for place, file in list(self._present.items()):
            if place not in there and expected(file.path):
                self.put_file(replace(file, gone=True))

    def _reached(self, source: Source) -> float:
        """How much of a source was read or can be; infinite while a compressed file of it grows."""
        reached: float = source.offset
        for file in self.carriers(source):
            if file.waiting:
                reached = max(reached, math.inf if file.compressed else file.size)
        return reached

    def _note_loss(self, source: Source, was: float, before: SourceFile | None, file: SourceFile) -> None:
        """Count what of a source went with a file, or was found with one: exactly what was seen of it.

        Parameters
        ----------
        source : Source
            That the file carries, or did before.
        was : float
            How much of it could be read before.
        before, file : SourceFile or None
            The file as it was and is.
        """
        now = self._reached(source)
        lost: float = source.lost_bytes
        if now > was:
            lost = max(0.0, lost - (now - was))
        elif now < was and before is not None and _left(before, file):
            # How much was in a compressed file that never was whole, nobody knows: its own size counts.
            lost = before.size if was == math.inf else lost + was - now
        if lost != source.lost_bytes:
            source = replace(source, lost_bytes=int(lost))
            self._sources[source.key] = self._changed_sources[source.key] = source

    def _note_head(self, source: Source) -> None:
        if source.head_bytes:
            self._heads.setdefault(source.head_bytes, {}).setdefault(source.head_hash, set()).add(source.key)

    def _drop_head(self, source: Source) -> None:
        keys_of = self._heads.get(source.head_bytes, {})
        keys_of.get(source.head_hash, set()).discard(source.key)
        if not keys_of.get(source.head_hash, True):
            del keys_of[source.head_hash]
        if not keys_of:
            self._heads.pop(source.head_bytes, None)

    def _note_file(self, file: SourceFile) -> None:
        identity = FileIdentity(file.device, file.inode, file.birth_ns)
        before = self._files.get(identity)
        if before is not None:
            self._carriers.get(before.source, {}).pop(identity, None)
        self._files[identity] = file
        if file.source:
            self._carriers.setdefault(file.source, {})[identity] = file
        place = (file.device, file.inode)
        now = self._present.get(place)
        if not file.gone:
            self._present[place] = file
        elif now is not None and now.birth_ns == file.birth_ns:
            del self._present[place]


def _left(before: SourceFile, file: SourceFile) -> bool:
    """Tell whether a file no longer has what it had: it is gone, carries another source, or was cut short."""
    return file.gone or file.source != before.source or (not file.compressed and file.size < before.size)
