"""Digits and plain text in raw bytes, eight bytes of many places at once: how far they go, and what number they are.

A word holds eight bytes, the first in its lowest bits. Bytes are told apart inside the word, without a loop (H. S.
Warren, "Hacker's Delight", 2nd ed., section 6-1); digits are added up in pairs, fours and eights.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from streamtrain.types import U64, Bools

I64: TypeAlias = NDArray[np.int64]

BEFORE: Final = 8
"""Bytes that must stand before the text, so that words that end in it can be read."""
PADDING: Final = 256
"""Zeros that must follow the text, so that words can be read past its end; they stop digits and text alike."""
POWERS: Final = np.array([10**power for power in range(20)], np.uint64)

_ONES: Final = np.uint64(0x0101010101010101)
_HIGH: Final = np.uint64(0x8080808080808080)
_LOW: Final = np.uint64(0x7F7F7F7F7F7F7F7F)
_ZEROS: Final = np.uint64(0x3030303030303030)
_ABOVE_NINE: Final = np.uint64(0x7676767676767676)  # added to ten or more, sets the byte's highest bit
_QUOTES: Final = np.uint64(0x2222222222222222)
_BACKSLASHES: Final = np.uint64(0x5C5C5C5C5C5C5C5C)
_SPACES: Final = np.uint64(0x2020202020202020)
_PAIRS, _BY_10 = np.uint64(0x00FF00FF00FF00FF), np.uint64((10 << 8) + 1)
_FOURS, _BY_100 = np.uint64(0x0000FFFF0000FFFF), np.uint64((100 << 16) + 1)
_BY_10_000: Final = np.uint64((10_000 << 32) + 1)
_EXPONENTS: Final = np.uint64(0x5555555555555555)  # what `values` makes of an e
_UPPER_CASE: Final = np.uint64(0xDF)  # without the bit in which an E differs
_ONE, _THREE, _SEVEN, _EIGHT, _SIXTEEN, _THIRTY_TWO = (np.uint64(number) for number in (1, 3, 7, 8, 16, 32))
_FIFTY_SIX, _SIXTY_FOUR = np.uint64(56), np.uint64(64)
_TEXT_WORDS: Final = 16


def words_of(data: NDArray[np.uint8]) -> U64:
    """Look at every byte's place as the beginning of a word.

    Parameters
    ----------
    data : uint8, (N,)
        Its last seven bytes begin no word.

    Returns
    -------
    uint64, (N - 7,)
        A view.
    """
    return np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))


def gather(data: NDArray[np.uint8], places: I64, n_words: int) -> U64:
    """Read words that stand side by side.

    Parameters
    ----------
    data : uint8, (N,)
    places : int64, (L,)
        Where the first of each begins.
    n_words : int

    Returns
    -------
    uint64, (L, n_words)
    """
    size = 8 * n_words
    # Items of as many bytes are copied at once, which takes as long as one word.
    items = np.ndarray((len(data) - size + 1,), f"V{size}", data, strides=(1,))
    return items[places].view("<u8").reshape(len(places), n_words)


def values(words: U64) -> U64:
    """Turn the digits of words into their values; any other byte becomes ten or more."""
    return words ^ _ZEROS


def digits(values: U64) -> U64:
    """Find the digits that words begin with.

    Parameters
    ----------
    values : uint64, (N,)
        As `values` makes them.

    Returns
    -------
    uint64, (N,)
        Masks of the bytes before the first that is no digit.
    """
    return _before(others(values))


def others(values: U64) -> U64:
    """Mark the bytes that are no digits, by their highest bits; `values` as `values` makes them."""
    return (((values & _LOW) + _ABOVE_NINE) | values) & _HIGH


def count(masks: U64) -> I64:
    """Count the bytes of masks, 0 to 8."""
    return (((masks & _ONES) * _ONES) >> _FIFTY_SIX).view(np.int64)


def exponents(values: U64, sizes: I64) -> Bools:
    """Tell whether an exponent follows the digits that words begin with.

    Parameters
    ----------
    values : uint64, (N,)
    sizes : int64, (N,)
        How many digits. After eight it is not known, and answered with yes.

    Returns
    -------
    bool, (N,)
    """
    follows: U64 = ((values ^ _EXPONENTS) >> (sizes.view(np.uint64) << _THREE)) & _UPPER_CASE
    return np.asarray(follows == 0)


def number(values: U64) -> U64:
    """Read eight digits as a number, the first the most significant.

    Parameters
    ----------
    values : uint64, (N,)
        Each byte 0 to 9.

    Returns
    -------
    uint64, (N,)
    """
    pairs = ((values * _BY_10) >> _EIGHT) & _PAIRS
    fours = ((pairs * _BY_100) >> _SIXTEEN) & _FOURS
    return (fours * _BY_10_000) >> _THIRTY_TWO


def leading(words: U64) -> tuple[I64, U64]:
    """Read the digits that words begin with.

    Parameters
    ----------
    words : uint64, (N,)

    Returns
    -------
    sizes : int64, (N,)
        How many digits, 0 to 8.
    numbers : uint64, (N,)
    """
    found = values(words)
    sizes = count(digits(found))
    # Shifted up, so that zeros stand before and what follows is gone. NumPy shifts by 64 to nothing.
    return sizes, number(found << (_SIXTY_FOUR - (sizes.view(np.uint64) << _THREE)))


def stops(words: U64) -> U64:
    """Mark what ends plain text: a quote, a backslash, a control character, a byte that is not ASCII.

    Parameters
    ----------
    words : uint64, (N,)

    Returns
    -------
    uint64, (N,)
        0 where the word has none. Otherwise the lowest mark is right; the borrow may have set others above it.
    """
    quotes, backslashes = words ^ _QUOTES, words ^ _BACKSLASHES
    marks = (quotes - _ONES) & ~quotes
    marks |= (backslashes - _ONES) & ~backslashes
    marks |= (words - _SPACES) & ~words
    marks |= words
    marks &= _HIGH
    return marks


def text_ends(words: U64, places: I64) -> I64:
    """Find where plain text ends.

    Parameters
    ----------
    words : uint64
        As `words_of` makes them.
    places : int64, (N,)
        Where each text begins.

    Returns
    -------
    int64, (N,)
        At most 128 bytes further.
    """
    ends = places
    for _ in range(_TEXT_WORDS):
        sizes = count(_before(stops(words[ends])))
        ends = ends + sizes
        if not (sizes == 8).any():
            break
    return ends


def _before(marks: U64) -> U64:
    """Mask the bytes before the lowest mark, each the highest bit of a byte; all where there is none."""
    return ((marks & (~marks + _ONE)) >> _SEVEN) - _ONE
