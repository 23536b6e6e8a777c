"""Stable 64-bit hashes, vectorised: the same on every run and machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamtrain.types import U64

Buffer: TypeAlias = bytes | bytearray | memoryview

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
# Keep the low k bytes of a word that starts k bytes before the end of a text.
_KEEP = np.array([(1 << (8 * k)) - 1 for k in range(9)], np.uint64)


# Longer texts are hashed one by one (BLAKE2b): few of a million bytes would take a million steps of a few lanes each.
_LONG_BYTES: Final = 4096

NO_TEXT: Final = np.uint64(0xE220A8397B1DCDAF)  # the hash of an empty string


def digest(data: Buffer) -> bytes:
    """Hash a piece of a file into 16 bytes (BLAKE2b)."""
    return hashlib.blake2b(data, digest_size=16).digest()


def mix(values: U64) -> U64:
    """Apply splitmix64's finalizer, a bijection of 64 bits (Steele, Lea and Flood 2014).

    Parameters
    ----------
    values : uint64, (N,)

    Returns
    -------
    uint64, (N,)
    """
    mixed = values + _GOLDEN
    mixed ^= mixed >> np.uint64(30)
    mixed *= _FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed


def hash_texts(texts: Sequence[str]) -> U64:
    """Hash strings by their UTF-8 bytes and length, eight bytes at a time over all strings at once.

    Parameters
    ----------
    texts : sequence of str, (N,)

    Returns
    -------
    uint64, (N,)
        `NO_TEXT` for an empty string.

    Raises
    ------
    TypeError
        If one is no string.
    """
    joined = "".join(texts)
    if joined.isascii():
        data = joined.encode()
        sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    else:
        pieces = [text.encode("utf-8", "surrogatepass") for text in texts]
        data = b"".join(pieces)
        sizes = np.fromiter(map(len, pieces), np.int64, len(pieces))
    # Eight zero bytes let the last text be read past its end.
    words: U64 = np.ndarray((len(data) + 1,), "<u8", data + bytes(8), strides=(1,))
    return hash_spans(words, np.cumsum(sizes) - sizes, sizes)


def hash_spans(words: U64, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> U64:
    """Hash texts where they are, as `hash_texts` does.

    Parameters
    ----------
    words : uint64
        Every byte's place read as a little-endian word (a view with strides of 1), to the last byte of any text.
    starts, sizes : int64, (N,)
        Where the UTF-8 bytes of each text are.

    Returns
    -------
    uint64, (N,)
    """
    long = sizes > _LONG_BYTES
    if long.any():
        hashes: U64 = np.empty(len(sizes), np.uint64)
        hashes[~long] = hash_spans(words, starts[~long], sizes[~long])
        hashes[long] = [_hash_long(words, start, size) for start, size in zip(starts[long], sizes[long], strict=True)]
        return hashes
    hashes = mix(sizes.astype(np.uint64))
    n_whole = int(sizes.min()) // 8 if len(sizes) else 0
    for word in range(n_whole):
        hashes = mix(hashes ^ words[starts + 8 * word])
    rest = sizes - 8 * n_whole
    active = np.flatnonzero(rest > 0)
    position = starts + 8 * n_whole
    while len(active):
        left = rest[active]
        hashes[active] = mix(hashes[active] ^ (words[position[active]] & _KEEP[np.minimum(left, 8)]))
        position[active] += 8
        rest[active] = left - 8
        active = active[left > 8]
    return hashes


def _hash_long(words: U64, start: int, size: int) -> int:
    text = words[start + 8 * np.arange(-(-size // 8))].tobytes()[:size]
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def hash_offsets(source: int, offsets: NDArray[np.int64]) -> U64:
    """Hash places in a source.

    Parameters
    ----------
    source : int
        Key of the source, 63 bits.
    offsets : int64, (N,)
        Byte offsets.

    Returns
    -------
    uint64, (N,)
    """
    # Mixed once more than the offset, or a source and an offset could change places.
    salted = mix(mix(np.array([source], np.uint64)))
    return mix(mix(offsets.astype(np.uint64)) ^ salted)
