"""Timestamps of a log → seconds since the epoch, whole columns at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamtrain.ingest import digits
from streamtrain.types import F64, U64

I64 = NDArray[np.int64]

MILLISECONDS_FROM: Final = 1e11  # as seconds this is the year 5138, as milliseconds it is 1973
LIMIT: Final = 1e14  # milliseconds of the year 5138
EXPECTED: Final = "seconds or milliseconds since the epoch, or RFC 3339 such as 2026-01-31T12:00:00.000Z"

_FORM = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.(\d{1,9}))?(?:Z|\+00:00)\Z")
_WORD_BYTES: Final = 8
_BYTE, _TEN, _EIGHT, _THIRTY_TWO = (np.uint64(number) for number in (255, 10, 8, 32))
_MONTH_DAYS = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def from_numbers(values: F64) -> F64:
    """Read numbers as seconds, or as milliseconds where they are 1e11 or more.

    Parameters
    ----------
    values : float64, (N,)

    Returns
    -------
    float64, (N,)
        Seconds; NaN where the number is negative, not finite, or no time before the year 5138 in either unit.
    """
    seconds = np.where(values >= MILLISECONDS_FROM, values / 1000.0, values)
    seconds[~((values >= 0.0) & (values < LIMIT))] = np.nan
    return seconds


def from_texts(texts: list[str]) -> F64:
    """Read RFC 3339 times; one without an offset is taken as UTC.

    Parameters
    ----------
    texts : list of str, (N,)

    Returns
    -------
    float64, (N,)
        Seconds; NaN where the text is no time.

    Raises
    ------
    TypeError
        If one is no string.
    """
    if not texts:
        return np.empty(0)
    joined = "".join(texts)
    # A column usually has one form throughout, such as 2026-01-31T12:00:00.000Z: then it is arithmetic on digits.
    form = form_of(texts[0].encode()) if joined.isascii() else None
    if form is None or set(map(len, texts)) != {form.size}:
        return np.fromiter(map(_from_text, texts), np.float64, len(texts))
    data = np.frombuffer(joined.encode() + bytes(2 * _WORD_BYTES), np.uint8)
    seconds = from_places(data, np.arange(len(texts)) * form.size, form)
    for row in np.flatnonzero(np.isnan(seconds)):
        seconds[row] = _from_text(texts[row])
    return seconds


@dataclass(frozen=True, slots=True)
class Form:
    """A form of times in UTC: ``YYYY-MM-DDThh:mm:ss``, perhaps a fraction, and ``Z`` or ``+00:00``.

    Attributes
    ----------
    size : int
        Length of each text.
    n_behind : int
        Digits behind the point.
    template : uint64, (W,)
        The text in words of eight bytes, all its digits zero, with zero bytes at the end.
    constant : uint64, (W,)
        Masks of what is not a digit, in words.
    inside : uint64
        Mask of the bytes of the last word that belong to it.
    """

    size: int
    n_behind: int
    template: U64
    constant: U64
    inside: np.uint64


def form_of(text: bytes) -> Form | None:
    """Recognise the form of a time; None where it has another one."""
    found = _FORM.match(text)
    if found is None:
        return None
    n_words = -(-len(text) // _WORD_BYTES)
    # Of the suffix +00:00 the digits are constant too.
    suffix = 1 if text.endswith(b"Z") else 6
    template = re.sub(rb"\d", b"0", text)
    constant = b"".join(b"\0" if byte in b"0" else b"\xff" for byte in template[:-suffix]) + b"\xff" * suffix
    n_over = _WORD_BYTES * n_words - len(text)
    return Form(
        len(text),
        len(found[1] or b""),
        np.frombuffer(template + bytes(n_over), "<u8"),
        np.frombuffer(constant + bytes(n_over), "<u8"),
        np.uint64((1 << 64) - 1 >> 8 * n_over),
    )


def from_places(data: NDArray[np.uint8], starts: I64, form: Form) -> F64:
    """Read times of one form where they are.

    Parameters
    ----------
    data : uint8, (n,)
        At least 16 bytes more than the last of them.
    starts : int64, (N,)
        Where each begins.
    form : Form

    Returns
    -------
    float64, (N,)
        Seconds; NaN where the text is no valid time of that form.
    """
    found = digits.gather(data, starts, len(form.template))
    # A digit becomes its value, and everything else 0, if the text is of this form.
    words = [found[:, word] ^ form.template[word] for word in range(len(form.template))]
    words[-1] &= form.inside
    wrong = digits.others(words[0]) | (words[0] & form.constant[0])
    for word, constant in zip(words[1:], form.constant[1:], strict=True):
        wrong |= digits.others(word) | (word & constant)

    def pair(pairs: U64, place: int) -> I64:
        return ((pairs >> np.uint64(8 * place)) & _BYTE).view(np.int64)

    date, hours, rest = (word * _TEN + (word >> _EIGHT) for word in words[:3])
    year, month, day = pair(date, 0) * 100 + pair(date, 2), pair(date, 5), pair(hours, 0)
    hour, minute, second = pair(hours, 3), pair(hours, 6), pair(rest, 1)
    good = (wrong == 0) & (hour < 24) & (minute < 60) & (second < 60)
    good &= (month - 1).view(np.uint64) < 12
    day_of_month = year * 65536 + month * 256 + day
    if len(starts) and (day_of_month == day_of_month[0]).all():
        # Lines that are read together are mostly of one day.
        year, month, day = year[:1], month[:1], day[:1]
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    last = np.where((month == 2) & ~leap, 28, _MONTH_DAYS[month % 13])
    good &= (day >= 1) & (day <= last) & (year >= 1970)
    seconds = _days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
    # Microseconds, as datetime has them; one division of whole numbers, so that both ways round alike.
    n_behind = min(form.n_behind, 6)
    if n_behind:
        behind = words[2] >> _THIRTY_TWO
        if len(words) > 3:
            behind |= words[3] << _THIRTY_TWO
        # Shifted up, so that zeros stand before and further digits are gone.
        behind = digits.number(behind << np.uint64(64 - 8 * n_behind)).view(np.int64)
        times = np.asarray((seconds * 10**n_behind + behind) / 10.0**n_behind, np.float64)
    else:
        times = seconds.astype(np.float64)
    times[~good] = np.nan
    return times


def _days(year: I64, month: I64, day: I64) -> I64:
    """Days since 1970-01-01 (H. Hinnant, "chrono-compatible low-level date algorithms", days_from_civil)."""
    year = year - (month <= 2)
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days: I64 = era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468
    return days


def _from_text(text: str) -> float:
    # fromisoformat also reads a bare date or week date, which are days and not times.
    if len(text) < 19 or text[10] not in "Tt ":
        return float("nan")
    # RFC 3339 has leap seconds, datetime has not: 23:59:60 is the second after 23:59:59.
    leap = text[17:19] == "60"
    try:
        moment = datetime.fromisoformat(text[:17] + ("59" if leap else text[17:19]) + text[19:].upper())
    except ValueError:
        return float("nan")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = moment.timestamp() + leap
    return seconds if seconds >= 0.0 else float("nan")
