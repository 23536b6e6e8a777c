"""The nouns of reading logs: what was read, from which file, and what goes into the store in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamtrain.types import InputRange, Samples


@dataclass(frozen=True, slots=True)
class Source:
    """A stream of log content and how far it has been read, whatever files carry it.

    A rotated file, its hard links, its copy and its `.gz` are one source. Offsets count decompressed bytes.

    Attributes
    ----------
    key : int
        Stable id in the store, 63 bits.
    path : str
        Where it was last seen.
    head_hash, head_bytes : bytes, int
        Hash and length of its first bytes (up to 1 KiB of what was read; of what was seen while nothing was read).
    offset : int
        Everything before it is in the dataset or the quarantine.
    tail_hash, tail_bytes : bytes, int
        Hash and length of the bytes just before `offset` (up to 1 KiB).
    checksum : int
        CRC-32 of everything before `offset`.
    oversize : bool
        `offset` lies inside a line that is longer than the limit and is being skipped.
    lost_bytes : int
        Bytes after `offset` that were seen but can't be read any more, because no file carries them (of a compressed
        file that was never whole, its size).
    """

    key: int
    path: str
    head_hash: bytes
    head_bytes: int
    offset: int = 0
    tail_hash: bytes = b""
    tail_bytes: int = 0
    checksum: int = 0
    oversize: bool = False
    lost_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file that carries a source.

    Attributes
    ----------
    device, inode, birth_ns : int
        Which file; `birth_ns` is 0 where the file system doesn't say.
    source : int
        Key of its `Source`; 0 while it has none (empty, or not readable as a log).
    path : str
    size : int
        As last seen; compressed bytes if it is compressed.
    mtime_ns, ctime_ns : int
        As they were when it was last read to its end; -1 while it was not.
    compressed : bool
        It is gzip or zstd.
    waiting : bool
        Its end is not a complete line yet, or it was not read to its end.
    gone : bool
        No longer in the directory.
    """

    device: int
    inode: int
    birth_ns: int
    source: int
    path: str
    size: int = 0
    mtime_ns: int = -1
    ctime_ns: int = -1
    compressed: bool = False
    waiting: bool = False
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A line that could not become a sample.

    Attributes
    ----------
    source : int
        Key of its `Source`.
    path : str
        Where the source was when it was read.
    offset : int
        Byte offset of the line in the (decompressed) file.
    reason : str
        What is wrong with it, in words.
    line : bytes
        Its first 4 KiB.
    id : int
        Number in the store, never given twice; 0 before it has one.
    """

    source: int
    path: str
    offset: int
    reason: str
    line: bytes
    id: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Pending:
    """What is known of a record that comes in two lines.

    Attributes
    ----------
    key : int
        Signed 64-bit hash of the key that joins them.
    waiting : bool
        One half waits for the other; otherwise it is only remembered which lines were joined.
    record : bytes
        The halves, in a form that only ingestion reads.
    """

    key: int
    waiting: bool
    record: bytes


@dataclass(frozen=True, slots=True)
class Bound:
    """How long, and how many, halves of records are waited for: those that waited longest go first."""

    max_age_s: float
    max_pending: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What was read since the last commit; goes into the store in one transaction.

    Attributes
    ----------
    samples : Samples
    ranges : tuple of InputRange
        The bytes that were read; `InputRange.source` is the source's key in hexadecimal.
    sources : tuple of Source
        New state of each source that was read.
    files : tuple of SourceFile
        New state of each file that was looked at.
    quarantined : tuple of Quarantined
        Examples, possibly fewer than `n_quarantined`.
    n_lines, n_quarantined : int
        Complete lines read, and how many of them were no samples.
    n_recognised : int
        Files whose content turned out to have been read under another name.
    pending : tuple of Pending
        New state of each record of which a half was read.
    bound : Bound or None
        Of all that are pending.
    n_repeated, n_unlabelled : int
        Halves that were read before or that a later one replaced; outcomes that no label can be made from.
    released : tuple of int
        Quarantined lines, by `Quarantined.id`, that are in quarantine no longer.
    slice_names : mapping of int to str
        Names of slices of the samples, by their hash; not of all where there are very many.
    """

    samples: Samples
    ranges: tuple[InputRange, ...] = ()
    sources: tuple[Source, ...] = ()
    files: tuple[SourceFile, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    n_lines: int = 0
    n_quarantined: int = 0
    n_recognised: int = 0
    pending: tuple[Pending, ...] = ()
    bound: Bound | None = None
    n_repeated: int = 0
    n_unlabelled: int = 0
    released: tuple[int, ...] = ()
    slice_names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did.

    Attributes
    ----------
    n_samples : int
        New samples.
    n_duplicates : int
        Samples dropped because their key was in the window already.
    n_expired : int
        Records given up because their other half did not come in time, or too many were waiting.
    """

    n_samples: int
    n_duplicates: int
    n_expired: int = 0
