"""Timestamps of a log → seconds since the epoch, whole columns at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamtrain.types import F64

I64 = NDArray[np.int64]

MILLISECONDS_FROM: Final = 1e11  # as seconds this is the year 5138, as milliseconds it is 1973
LIMIT: Final = 1e14  # milliseconds of the year 5138
EXPECTED: Final = "seconds or milliseconds since the epoch, or RFC 3339 such as 2026-01-31T12:00:00.000Z"

_TEMPLATE = np.frombuffer(b"0000-00-00T00:00:00.", np.uint8)
_SEPARATORS = np.array([4, 7, 10, 13, 16])
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
    size = len(texts[0])
    # A column usually has one form throughout, such as 2026-01-31T12:00:00.000Z: then it is arithmetic on digits.
    if 20 <= size <= 30 and size != 21 and joined.isascii() and len(joined) == size * len(texts):
        characters = np.frombuffer(joined.encode(), np.uint8).reshape(len(texts), size)
        seconds = _uniform(characters)
        if seconds is not None:
            return seconds
    return np.fromiter(map(_from_text, texts), np.float64, len(texts))


def _uniform(characters: NDArray[np.uint8]) -> F64 | None:
    """Read texts of the form YYYY-MM-DDThh:mm:ss[.f…]Z; None if not all of them are valid times of that form."""
    size = characters.shape[1]
    template = _TEMPLATE[: min(size - 1, 20)]
    digit_places = [place for place in range(size - 1) if place >= 20 or template[place] == ord("0")]
    columns = np.ascontiguousarray(characters.T)
    digits = columns - np.uint8(48)
    separators = _SEPARATORS if size == 20 else np.append(_SEPARATORS, 19)
    if (
        np.any(digits[digit_places] > 9)
        or np.any(columns[separators] != template[separators, None])
        or np.any(columns[-1] != ord("Z"))
    ):
        return None

    def number(*places: int) -> I64:
        value: I64 = digits[places[0]].astype(np.int64)
        for place in places[1:]:
            value = value * 10 + digits[place]
        return value

    year, month, day = number(0, 1, 2, 3), number(5, 6), number(8, 9)
    hour, minute, second = number(11, 12), number(14, 15), number(17, 18)
    if np.any((month < 1) | (month > 12)) or np.any((hour > 23) | (minute > 59) | (second > 59)):
        return None
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    last = np.where((month == 2) & ~leap, 28, _MONTH_DAYS[month])
    if np.any((day < 1) | (day > last) | (year < 1970)):
        return None
    seconds = _days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
    if size == 20:
        return seconds.astype(np.float64)
    # Microseconds, as datetime has them; one division of whole numbers, so that both ways round alike.
    n_digits = min(size - 21, 6)
    units: I64 = seconds * 10**n_digits + number(*range(20, 20 + n_digits))
    return np.asarray(units / 10.0**n_digits, np.float64)


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
