"""Values of many lines, read side by side: each field of all lines at once, over their bytes."""

from __future__ import annotations

import math
import re
from enum import Enum, auto
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamtrain.ingest import digits
from streamtrain.types import F64, U64, Bools

I64 = NDArray[np.int64]

NUMBER: Final = rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
"""Pattern of a JSON number."""
_ANY_NUMBER: Final = re.compile(NUMBER)
_MOST_ODD: Final = 16  # numbers of a column that are read one by one
_MOST_PLAIN: Final = 128

_POINTED: Final = b"0."
_NINE_IN_FRONT: Final = np.uint64(9 << 48)  # a digit before a point, where these two end a word
_48_BITS: Final = np.uint64((1 << 48) - 1)
_TRUE, _FALSE = (np.uint64(int.from_bytes(word, "little")) for word in (b"true", b"false"))
_FOUR_BYTES, _FIVE_BYTES = np.uint64((1 << 32) - 1), np.uint64((1 << 40) - 1)
_0, _48 = np.uint64(0), np.uint64(48)
_MINUS, _POINT, _ZERO, _QUOTE = (np.uint8(ord(character)) for character in '-.0"')


class Kind(Enum):
    """What a value is."""

    FRACTION = auto()  # a number of the form d.ddd, as most scores are
    NUMBER = auto()
    TRUTH = auto()
    TEXT = auto()
    WHOLE = auto()  # a whole number that is an identity
    SIZED = auto()  # a text that is always of one size, and is looked at by who asked for it


class Spans(NamedTuple):
    """Where the texts of a column are: (N,) places and sizes in bytes."""

    starts: I64
    sizes: I64


class Values:
    """Reads all lines side by side, field after field; a line that stops matching is read no further.

    Parameters
    ----------
    data : uint8, (n,)
        At least `digits.BEFORE` bytes, lines, and at least `digits.PADDING` zeros.
    starts : int64, (L,)
        Where each line begins.

    Attributes
    ----------
    words : uint64
        `digits.words_of` the data.
    places : int64, (L,)
        How far each line was read.
    alive : bool, (L,)
        Which lines have matched so far.
    """

    def __init__(self, data: NDArray[np.uint8], starts: I64) -> None:
        self._data = data
        self.words = digits.words_of(data)
        self.places = starts
        self.alive = np.ones(len(starts), np.bool_)

    def skip(self, text: bytes) -> None:
        """Compare with constant text, and move past it."""
        differs, end, _ = self._compare(text, 0)
        self._advance((differs | end) == 0, len(text))

    def fractions(self, before: bytes) -> F64:
        """Read numbers of one digit, a point and up to 16 digits, after constant text."""
        # The digit and its point are compared with the text: they end its last word, so that only the digit differs.
        differs, end, found = self._compare(before + _POINTED, 1)
        good = ((differs | (end & _48_BITS)) == 0) & (end <= _NINE_IN_FRONT)
        found = digits.values(found)
        masks = digits.digits(found)
        good &= masks != 0
        sizes = digits.count(masks)
        # With zeros to make up eight digits. Both numbers of the division are exact, so that it rounds as it must.
        units = (end >> _48) * digits.POWERS[8] + digits.number(found & masks)
        start = len(before)
        full = sizes == 8
        if not full.any():
            good &= ~digits.exponents(found, sizes)
            values: F64 = units.astype(np.float64) / 1e8
        else:
            more = digits.values(self.words[self.places + (start + len(_POINTED) + 8)])
            masks = digits.digits(more) & np.where(full, ~_0, _0)
            n_more = digits.count(masks)
            good &= ~digits.exponents(np.where(full, more, found), np.where(full, n_more, sizes))
            units = units * digits.POWERS[8] + digits.number(more & masks)
            sizes += n_more
            values = _divided(units, digits.POWERS[16], good)
        sizes += start + len(_POINTED)
        if not good.all():
            self._read_odd(before, values, sizes, good)
        self._advance(good, sizes)
        return values

    def decimals(self, before: bytes) -> F64:
        """Read numbers of up to 16 digits, perhaps a minus before, perhaps a point and up to eight digits behind."""
        self.skip(before)
        negative = self._data[self.places] == _MINUS
        places = self.places + negative
        whole, sizes, good = self._whole(places)
        places = places + sizes
        point = self._data[places] == _POINT
        n_behind, behind = digits.leading(self.words[places + 1])
        n_behind, behind = n_behind * point, behind * point
        good &= (n_behind > 0) == point
        good &= sizes + n_behind <= 18
        scale = digits.POWERS[n_behind]
        units = whole * scale + behind
        values = _divided(units, scale, good)
        # Minus zero is another number with a point than without.
        good &= ~negative | (units > 0)
        values = np.where(negative, -values, values)
        sizes = sizes + n_behind + point + negative
        if not good.all():
            self._read_odd(b"", values, sizes, good)
        self._advance(good, sizes)
        return values

    def truths(self, before: bytes) -> F64:
        """Read `true` and `false`, after constant text."""
        differs, end, found = self._compare(before, 1)
        true = (found & _FOUR_BYTES) == _TRUE
        good = ((differs | end) == 0) & (true | ((found & _FIVE_BYTES) == _FALSE))
        self._advance(good, len(before) + 5 - true.astype(np.int64))
        return np.asarray(true, np.float64)

    def texts(self, kind: Kind, size: int) -> Spans:
        """Read texts; of whole numbers that are identities, their digits."""
        starts, good = self.places, self.alive
        if kind is Kind.WHOLE:
            _, sizes, good = self._whole(starts)
        elif kind is Kind.SIZED or self._all_plain(size):
            sizes = np.full(len(starts), size)
        else:
            sizes = digits.text_ends(self.words, starts) - starts
        self._advance(good, sizes)
        return Spans(starts, sizes)

    def _all_plain(self, size: int) -> bool:
        """Tell whether plain text of this size stands everywhere, and then a quote; as it mostly does."""
        if not 0 < size <= _MOST_PLAIN or (self._data[self.places + size] != _QUOTE).any():
            return False
        n_words = -(-size // 8)
        found = digits.gather(self._data, self.places, n_words)
        for word in range(n_words):
            marks = digits.stops(found[:, word])
            if word == n_words - 1:
                marks &= np.uint64((1 << (size - 8 * word) * 8) - 1)
            if marks.any():
                return False
        return True

    def _compare(self, text: bytes, n_after: int) -> tuple[U64, U64, U64]:
        """Compare with constant text.

        Returns
        -------
        differs : uint64, (L,)
            0 where the text is the same but for its last eight bytes.
        end : uint64, (L,)
            How these differ; the last byte in the highest bits.
        after : uint64, (L,)
            With `n_after` of 1, the word that follows.
        """
        n_words = -(-len(text) // 8)
        n_before = 8 * n_words - len(text)
        found = digits.gather(self._data, self.places - n_before, n_words + n_after)
        expected = np.frombuffer(bytes(n_before) + text, "<u8")
        # What stands before the text in its first word is something else.
        differs: U64 = (found[:, 0] ^ expected[0]) & np.uint64((1 << 64) - (1 << 8 * n_before))
        if n_words == 1:
            return np.zeros_like(differs), differs, found[:, -1]
        for word in range(1, n_words - 1):
            differs |= found[:, word] ^ expected[word]
        return differs, found[:, n_words - 1] ^ expected[-1], found[:, -1]

    def _whole(self, places: I64) -> tuple[U64, I64, Bools]:
        """Read whole numbers of up to 16 digits, with no zeros before: numbers, sizes, and which hold."""
        sizes, numbers = digits.leading(self.words[places])
        full = sizes == 8
        if full.any():
            more, units = digits.leading(self.words[places + 8])
            more, units = more * full, units * full
            numbers = numbers * digits.POWERS[more] + units
            sizes = sizes + more
        return numbers, sizes, (sizes == 1) | ((sizes > 1) & (self._data[places] != _ZERO))

    def _read_odd(self, before: bytes, values: F64, sizes: I64, good: Bools) -> None:
        """Read numbers of another form one by one, where there are few and the text before them is the same."""
        odd = np.flatnonzero(self.alive & ~good)
        if len(odd) > _MOST_ODD:
            return
        for line in odd:
            place = int(self.places[line])
            start = place + len(before)
            if self._data[place:start].tobytes() != before:
                continue
            number = _ANY_NUMBER.match(self._data.data, start)
            value = math.nan if number is None else float(number[0])
            # The sign of zero depends on its form, and what is too great is an error.
            if number is not None and math.isfinite(value) and (value or not number[0].startswith(b"-")):
                values[line], sizes[line], good[line] = value, number.end() - place, True

    def _advance(self, good: Bools, sizes: I64 | int) -> None:
        self.alive = self.alive & good
        # A line that failed goes on at 0, where there is something to read in any case.
        self.places = (self.places + sizes) * self.alive


def _divided(units: U64, scale: U64 | np.uint64, good: Bools) -> F64:
    """Divide where both numbers are exact, so that the result is rounded once; note where they are not."""
    exact = units.astype(np.float64)
    # Of lines that are no match, units can be anything; the greatest round to what is no uint64.
    with np.errstate(invalid="ignore"):
        good &= exact.astype(np.uint64) == units
    return np.asarray(exact / np.asarray(scale).astype(np.float64))
