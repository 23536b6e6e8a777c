"""Bytes told apart eight at a time: the same as looking at each."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.ingest import digits

CHARACTERS = st.binary(min_size=8, max_size=8) | st.text('0123456789.eE"\\ \t\n\x00-', min_size=8, max_size=8).map(
    str.encode
)


def word(data: bytes):
    return np.array([int.from_bytes(data, "little")], np.uint64)


@given(CHARACTERS)
def test_leading_digits(data):
    expected = re.match(rb"[0-9]*", data)[0]
    sizes, numbers = digits.leading(word(data))
    assert (sizes[0], numbers[0]) == (len(expected), int(expected or b"0"))
    found = digits.values(word(data))
    masks = digits.digits(found)
    assert digits.count(masks)[0] == len(expected)
    assert digits.number(found & masks)[0] == int(expected.ljust(8, b"0"))
    if len(expected) < 8:
        follows = data[len(expected) : len(expected) + 1] in (b"e", b"E")
        assert digits.exponents(found, digits.count(masks))[0] == follows


@given(CHARACTERS)
def test_what_ends_plain_text(data):
    ends = [index for index, byte in enumerate(data) if byte < 0x20 or byte >= 0x80 or byte in b'"\\']
    marks = int(digits.stops(word(data))[0])
    assert bool(marks) == bool(ends)
    if ends:
        assert (marks & -marks).bit_length() == 8 * ends[0] + 8


@given(
    st.lists(st.text("ab ~\x7f", max_size=140), min_size=1, max_size=5), st.sampled_from(['"', "\\", "\n", "\0", "é"])
)
def test_text_ends(texts, end):
    pieces = [(text + end).encode() for text in texts]
    data = np.frombuffer(b"".join(pieces) + bytes(digits.PADDING), np.uint8)
    starts = np.cumsum([0, *map(len, pieces[:-1])])
    got = digits.text_ends(digits.words_of(data), starts) - starts
    assert got.tolist() == [min(len(text), 128) for text in texts]


def test_words_side_by_side():
    data = np.arange(64, dtype=np.uint8)
    got = digits.gather(data, np.array([0, 3, 48]), 2)
    assert got.tobytes() == bytes(range(16)) + bytes(range(3, 19)) + bytes(range(48, 64))
    assert digits.words_of(data)[np.array([5])].tobytes() == bytes(range(5, 13))
