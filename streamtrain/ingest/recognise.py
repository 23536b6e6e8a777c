"""Which source does this file carry? The one it carried before, one known under another name, or a new one.

A file is first looked up by its identity. If what lies before the offset is no longer what was read (it was truncated,
rewritten, or its inode given out again), or the file was never seen, its content decides: a copy, a re-dropped file and
the `.gz` of a rotated one begin with everything that was read of their source, and continue it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from streamtrain.ingest.hashing import digest
from streamtrain.ingest.identity import EDGE_BYTES, FileIdentity, NotReadableError, OpenLog
from streamtrain.ingest.packed import unpack
from streamtrain.ingest.register import TELLING_BYTES, Register
from streamtrain.ingest.tail import ByteStream, DamagedLogError, PlainStream
from streamtrain.reading import Source

QUIET_S: Final = 10.0  # a file that did not grow for so long is not being copied any more
LONGEST_S: Final = 60.0  # so long is waited for a copy to be complete
_WALK_BYTES: Final = 1 << 18
_MOST_ALIKE: Final = 16  # so many files are compared with one that is still short


class StoppedError(Exception):
    """The caller asked to stop; nothing was decided."""


@dataclass(frozen=True, slots=True)
class Place:
    """A source, ready to be read on.

    Attributes
    ----------
    source : Source
    stream : ByteStream
        At the source's offset.
    head, tail : bytes
        The first and the last bytes before the offset, up to 1 KiB each.
    """

    source: Source
    stream: ByteStream
    head: bytes
    tail: bytes


@dataclass(frozen=True, slots=True)
class Finding:
    """What a file turned out to be.

    Attributes
    ----------
    place : Place or None
        None where there is nothing to read: it is empty, or so far only repeats what was read elsewhere.
    recognised : bool
        It carries a source that was known under another name.
    undecided : bool
        It may be a copy in the making: look again even if it doesn't change.
    """

    place: Place | None
    recognised: bool = False
    undecided: bool = False


class Recogniser:
    """Find the source of a file.

    Parameters
    ----------
    register : Register
    clock : callable
        Seconds since the epoch.
    """

    def __init__(self, register: Register, clock: Callable[[], float]) -> None:
        self._register = register
        self._clock = clock
        # How much of a growing copy was compared with its original already.
        self._compared: dict[tuple[FileIdentity, int], int] = {}
        self._undecided: dict[FileIdentity, float] = {}
        # Sources by how they begin, and those that were not looked at for it yet.
        self._alike: dict[int, list[int]] = {}
        self._unlearnt: set[int] = set()

    def find(self, log: OpenLog, compressed: bool, go_on: Callable[[], bool]) -> Finding:
        """Find the source of an open file.

        Parameters
        ----------
        log : OpenLog
        compressed : bool
            It is.
        go_on : callable
            Asked now and then on a long comparison; False ends it.

        Returns
        -------
        Finding

        Raises
        ------
        StoppedError, NotReadableError, DamagedLogError
        """
        self._register.put_opened(log.identity)
        known = self._register.file(log.identity)
        source = None if known is None else self._register.source(known.source)
        if source is not None and source.offset:
            place = self._resume(log, compressed, source, go_on)
            if place is not None:
                return Finding(place)
        stream = open_stream(log, compressed)
        buffer = memoryview(bytearray(EDGE_BYTES))
        head = bytes(buffer[: stream.read_into(buffer)])
        if not head or (compressed and len(head) < EDGE_BYTES and not stream.ended):
            return Finding(None)
        # Only a first line without an end was seen of it, here.
        own = source if source is not None and not source.offset and _begins(head, source) else None
        finding = self._known_elsewhere(log, compressed, head, own, go_on)
        if known is not None and own is not None and (finding.place is None or finding.place.source.key != own.key):
            # It turned out to be another's: what was seen of it is still there.
            self._register.put_file(replace(known, waiting=False))
        return finding

    def _known_elsewhere(
        self, log: OpenLog, compressed: bool, head: bytes, own: Source | None, go_on: Callable[[], bool]
    ) -> Finding:
        """Find the source by the content; else it is the file's own, or a new one."""
        candidates = self._register.candidates(head)
        begun = sorted((one for one in candidates if not one.offset), key=lambda one: one.head_bytes)
        candidates = [candidate for candidate in candidates if candidate.offset]
        place, reached = self._longest(log, compressed, candidates, go_on)
        if place is not None:
            return Finding(place, recognised=True)
        longer = [candidate for candidate in candidates if candidate.offset > reached]
        if TELLING_BYTES <= len(head) < EDGE_BYTES:
            longer += self._longer_heads(head)
        if longer:
            finding = self._maybe_copy(log, compressed, longer, reached, go_on)
            if finding is not None:
                return finding
        # A source may also have begun elsewhere, with a first line without an end.
        source = own or next((one for one in reversed(begun) if self._may_be(one)), None)
        if source is None:
            source = self._register.new_source(log, head)
            if len(head) >= TELLING_BYTES:
                self._note_start(source.key, head)
            else:
                self._unlearnt.add(source.key)
        return Finding(Place(source, open_stream(log, compressed), b"", b""))

    def _longer_heads(self, head: bytes) -> list[Source]:
        """List sources that begin alike, of which more was read, but less than a whole head is here to tell."""
        self._unlearnt.update(self._register.take_new())
        # Of one whose file can't be looked at, because it was renamed just now, nobody knows: it may be this.
        unknown: list[int] = []
        for key in list(self._unlearnt):
            source = self._register.source(key)
            if source is None or (source.offset and self._learn(source)):
                self._unlearnt.discard(key)
            elif source.offset:
                unknown.append(key)
        known = self._alike.get(hash(head[:TELLING_BYTES]), ())
        alike = map(self._register.source, (*known[-_MOST_ALIKE:], *unknown[-_MOST_ALIKE:]))
        return [
            source
            for source in alike
            if source is not None
            and source.offset
            and source.head_bytes > len(head)
            and self._register.carriers(source)
        ]

    def _learn(self, source: Source) -> bool:
        """Look how a source begins; False if there may be more of it later, or its file is not where it was."""
        moved = False
        for file in self._register.carriers(source):
            if file.compressed:
                continue
            try:
                with OpenLog(file.path) as original:
                    start = original.read_at(0, TELLING_BYTES)
            except (FileNotFoundError, NotReadableError):
                moved = True
                continue
            if len(start) < TELLING_BYTES:
                return False
            self._note_start(source.key, start)
            return True
        return not moved

    def _note_start(self, key: int, head: bytes) -> None:
        keys = self._alike.setdefault(hash(head[:TELLING_BYTES]), [])
        if key not in keys[-1:]:
            keys.append(key)

    def _may_be(self, source: Source) -> bool:
        """Tell whether a source may be this file's: where its beginning says too little, no other may have it."""
        if source.head_bytes >= TELLING_BYTES:
            return True
        for file in self._register.carriers(source):
            try:
                with OpenLog(file.path) as log:
                    same = log.identity == FileIdentity(file.device, file.inode, file.birth_ns)
                    # It may have been truncated, and begin otherwise by now.
                    if same and (file.compressed or _begins(log.read_at(0, source.head_bytes), source)):
                        return False
            except (FileNotFoundError, NotReadableError):
                continue
        return True

    def _resume(self, log: OpenLog, compressed: bool, source: Source, go_on: Callable[[], bool]) -> Place | None:
        """Go on where this file was left, if what was read is still there."""
        if compressed:
            stream = unpack(log)
            for step in _walk(stream, [source.offset], go_on):
                if step.is_at(source):
                    return Place(source, stream, step.head, step.tail)
            return None
        if log.look.size < source.offset:
            return None
        head = log.read_at(0, source.head_bytes)
        tail = log.read_at(source.offset - source.tail_bytes, source.tail_bytes)
        if digest(head) != source.head_hash or digest(tail) != source.tail_hash:
            return None
        return Place(source, PlainStream(log, source.offset), head, tail)

    def _longest(
        self, log: OpenLog, compressed: bool, candidates: Sequence[Source], go_on: Callable[[], bool]
    ) -> tuple[Place | None, int]:
        """Find the source of which this content continues the most; also how long the content is, as far as known."""
        if not compressed:
            # Most only share the head; the bytes before their offset tell without reading all that lies between.
            likely = [
                source
                for source in candidates
                if source.offset <= log.look.size
                and digest(log.read_at(source.offset - source.tail_bytes, source.tail_bytes)) == source.tail_hash
            ]
        else:
            likely = list(candidates)
        stream = open_stream(log, compressed)
        best: tuple[Source, _Step] | None = None
        position = 0
        for step in _walk(stream, sorted({source.offset for source in likely}), go_on):
            position = step.offset
            best = next(((source, step) for source in likely if step.is_at(source)), best)
        reached = position if compressed else log.look.size
        if best is None:
            return None, reached
        source, found = best
        if not compressed:
            stream = PlainStream(log, source.offset)
        elif position != source.offset:
            stream = unpack(log)
            for _ in _walk(stream, [source.offset], go_on):
                pass
        return Place(source, stream, found.head, found.tail), reached

    def _maybe_copy(
        self, log: OpenLog, compressed: bool, longer: Sequence[Source], size: int, go_on: Callable[[], bool]
    ) -> Finding | None:
        """Tell whether this is the beginning of something read already: a copy in the making, or cut short."""
        undecided = False
        for source in longer:
            same = self._compare(log, compressed, source, size, go_on)
            if same:
                return Finding(None)
            undecided |= same is None
        now = self._clock()
        since = self._undecided.setdefault(log.identity, now)
        if undecided and 0.0 <= now - log.look.ctime_ns / 1e9 < QUIET_S and 0.0 <= now - since < LONGEST_S:
            return Finding(None, undecided=True)
        del self._undecided[log.identity]
        return None

    def _compare(
        self, log: OpenLog, compressed: bool, source: Source, size: int, go_on: Callable[[], bool]
    ) -> bool | None:
        """Compare with a file that carries the source; None if there is none to read."""
        for file in self._register.carriers(source):
            identity = FileIdentity(file.device, file.inode, file.birth_ns)
            if identity == log.identity:
                continue  # what it carried before it was written anew is no more
            try:
                with OpenLog(file.path) as original:
                    if original.identity != identity or not self._resume(original, file.compressed, source, go_on):
                        continue
                    if file.compressed or compressed:
                        return _same(open_stream(log, compressed), open_stream(original, file.compressed), go_on)
                    done = self._compared.pop((log.identity, source.key), 0)
                    same = _same(PlainStream(log, done), PlainStream(original, done), go_on)
                    if same:
                        self._compared[log.identity, source.key] = size
                    return same
            except (FileNotFoundError, NotReadableError, DamagedLogError):
                continue
        return None


@dataclass(frozen=True, slots=True)
class _Step:
    """What lies before an offset."""

    offset: int
    checksum: int
    head: bytes
    tail: bytes

    def is_at(self, source: Source) -> bool:
        return (
            self.offset == source.offset
            and self.checksum == source.checksum
            and digest(self.head[: source.head_bytes]) == source.head_hash
            and digest(self.tail[len(self.tail) - source.tail_bytes :]) == source.tail_hash
        )


def carries(
    log: OpenLog, compressed: bool, sources: Sequence[Source], go_on: Callable[[], bool] = lambda: True
) -> Iterator[tuple[Source, bool, int]]:
    """Tell which sources a file begins with everything of that was read of them.

    Parameters
    ----------
    log : OpenLog
    compressed : bool
        It is.
    sources : sequence of Source
    go_on : callable
        Asked now and then; False ends it.

    Yields
    ------
    source : Source
    is_there : bool
    reached : int
        Offset that was looked at; before the source's where the content ends there.

    Raises
    ------
    StoppedError, NotReadableError, DamagedLogError
    """
    steps = {
        step.offset: step for step in _walk(open_stream(log, compressed), sorted({s.offset for s in sources}), go_on)
    }
    longest = max(steps, default=0)
    for source in sources:
        step = steps.get(source.offset)
        yield source, step is not None and step.is_at(source), min(longest, source.offset)


def _begins(head: bytes, source: Source) -> bool:
    """Tell whether a content begins with all that was seen of a source that nothing was read of."""
    return not source.head_bytes or digest(head[: source.head_bytes]) == source.head_hash


def open_stream(log: OpenLog, compressed: bool) -> ByteStream:
    """Open the bytes of a log from their start, decompressed if need be."""
    return unpack(log) if compressed else PlainStream(log, 0)


def _walk(stream: ByteStream, offsets: Sequence[int], go_on: Callable[[], bool]) -> Iterator[_Step]:
    """Read from the start through ascending offsets; a last step, wherever the stream ends before them."""
    buffer = memoryview(bytearray(min(_WALK_BYTES, max(offsets, default=0))))
    position, checksum, head, tail = 0, 0, b"", b""
    for offset in offsets:
        while position < offset:
            if not go_on():
                raise StoppedError
            n = stream.read_into(buffer[: offset - position])
            if not n:
                yield _Step(position, checksum, head, tail)
                return
            piece = buffer[:n]
            checksum = zlib.crc32(piece, checksum)
            if len(head) < EDGE_BYTES:
                head += bytes(piece[: EDGE_BYTES - len(head)])
            tail = (tail + bytes(piece[-EDGE_BYTES:]))[-EDGE_BYTES:]
            position += n
        yield _Step(position, checksum, head, tail)


def _same(stream: ByteStream, other: ByteStream, go_on: Callable[[], bool]) -> bool:
    """Tell whether all of one stream is the beginning of another."""
    buffer, others = memoryview(bytearray(_WALK_BYTES)), memoryview(bytearray(_WALK_BYTES))
    while n := stream.read_into(buffer):
        if not go_on():
            raise StoppedError
        if other.read_into(others[:n]) != n or buffer[:n] != others[:n]:
            return False
    return True
