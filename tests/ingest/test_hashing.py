"""Hashes: a frozen example, a plain one-by-one computation, and no collisions among like ids."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.ingest.hashing import NO_TEXT, hash_offsets, hash_texts, mix

FROZEN_TEXTS = [10769581338639152644, 16294208416658607535, 12213114911819052007, 15313665638233262838]
FROZEN_OFFSETS = [14602521892564604090, 11300706942943552286, 1972343757510018819]
MASK = (1 << 64) - 1


def plain_mix(value):
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def plain_hash(text):
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > 4096:
        return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
    value = plain_mix(len(data))
    for start in range(0, len(data), 8):
        value = plain_mix(value ^ int.from_bytes(data[start : start + 8], "little"))
    return value


@given(st.lists(st.text(max_size=40), max_size=20))
def test_same_as_hashing_one_by_one(texts):
    assert hash_texts(texts).tolist() == [plain_hash(text) for text in texts]


def test_long_texts_among_short_ones():
    texts = ["a" * length for length in (4095, 3, 4096, 4097, 0, 4104, 9, 100_001)] + ["é" * 2049, "é" * 2048]
    assert hash_texts(texts).tolist() == [plain_hash(text) for text in texts]
    assert hash_texts(texts[3:4]).tolist() == [plain_hash(texts[3])]


@given(st.lists(st.integers(0, MASK), max_size=10))
def test_mix_is_splitmix64(values):
    assert mix(np.array(values, np.uint64)).tolist() == [plain_mix(value) for value in values]


def test_never_changes_between_releases():
    """A frozen example: a change here would split every dataset that exists anew, and count every record twice."""
    assert hash_texts(["req-0001", "", "é", "a" * 100]).tolist() == FROZEN_TEXTS
    assert hash_offsets(7, np.array([0, 1, 1 << 40])).tolist() == FROZEN_OFFSETS


def test_like_ids_do_not_collide():
    texts = [f"req-{number:012d}" for number in range(200_000)] + [f"{number}" for number in range(200_000)]
    texts += ["a" * length for length in range(300)] + ["\0" * length for length in range(1, 300)]
    hashes = hash_texts(texts)
    assert len(np.unique(hashes)) == len(texts)
    # Every bit is set about half of the time.
    bits = np.unpackbits(hashes[:200_000].view(np.uint8)).reshape(-1, 64).mean(axis=0)
    assert np.all(np.abs(bits - 0.5) < 0.01)


def test_places_do_not_collide_across_sources():
    places = np.arange(0, 100_000, 100)
    hashes = np.concatenate([hash_offsets(source, places) for source in range(200)])
    assert len(np.unique(hashes)) == len(hashes)


def test_no_text():
    assert hash_texts([""])[0] == NO_TEXT
    assert len(hash_texts([])) == 0
    with pytest.raises(TypeError):
        hash_texts(["a", None])
