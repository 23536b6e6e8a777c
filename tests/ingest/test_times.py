"""Timestamps: against datetime, in every form, and what is no time."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.ingest.times import _from_text, form_of, from_numbers, from_places, from_texts

MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


@given(st.lists(MOMENTS, min_size=1, max_size=10), st.sampled_from(["seconds", "milliseconds", "microseconds"]))
def test_columns_of_one_form_equal_datetime(moments, precision):
    texts = [moment.isoformat(timespec=precision).replace("+00:00", "Z") for moment in moments]
    expected = [datetime.fromisoformat(text).timestamp() for text in texts]
    assert from_texts(texts).tolist() == expected
    assert [_from_text(text) for text in texts] == expected


@given(st.lists(MOMENTS, min_size=1, max_size=10), st.integers(-840, 840))
def test_other_offsets_and_mixed_forms(moments, minutes):
    zone = timezone(timedelta(minutes=minutes))
    texts = [moment.astimezone(zone).isoformat() for moment in moments] + [
        "2026-01-31T12:00:00Z",
        "2026-01-31 12:00:00",
    ]
    expected = [moment.timestamp() for moment in moments] + [1769860800.0] * 2
    assert from_texts(texts).tolist() == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-01-31",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-01-31T24:01:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:61Z",
        "2026-01-31T12:00:00.Z!",
        "2026-01-31T1a:00:00Z",
        "1969-12-31T23:59:59Z",
        "1763838000",
        "2026-01-31T12:00:00Zulu",
        "２０26-01-31T12:00:00Z",
    ],
)
def test_what_is_no_time(text):
    assert np.isnan(from_texts([text])).all()
    assert np.isnan(from_texts([text, text])).all()


def test_a_bad_one_leaves_its_column_alone():
    texts = ["2024-02-29T23:59:59.999Z", "2023-02-29T23:59:59.999Z", "2024-02-29T23:59:60.000Z"]
    assert np.isnan(from_texts(texts)).tolist() == [False, True, False]
    assert from_texts(texts)[2] == datetime(2024, 3, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("end", ["Z", "+00:00"])
@pytest.mark.parametrize("n_behind", range(10))
def test_every_form_in_utc_is_read_at_once(end, n_behind):
    behind = f".{123456789 % 10**n_behind:0{n_behind}}" if n_behind else ""
    text = f"2026-01-31T12:34:56{behind}{end}"
    form = form_of(text.encode())
    data = np.frombuffer(b"xyz" + text.encode() + bytes(16), np.uint8)
    assert from_places(data, np.array([3]), form).tolist() == [_from_text(text)]
    for place in range(len(text)):
        for byte in (b"x", b"/", b":", b"\x00", b"\xff"):
            changed = text.encode()[:place] + byte + text.encode()[place + 1 :]
            if changed != text.encode():
                data = np.frombuffer(b"xyz" + changed + bytes(16), np.uint8)
                assert np.isnan(from_places(data, np.array([3]), form)[0]), changed


def test_texts_that_only_together_have_one_form():
    texts = ["2026-01-31T12:00:00Z2", "026-01-31T12:00:00Z"]
    assert np.isnan(from_texts(texts)).all()


def test_longer_fractions_are_cut_to_microseconds():
    assert from_texts(["2026-01-31T12:00:00.123456789Z"])[0] == 1769860800.123456


def test_numbers_are_seconds_or_milliseconds():
    given = np.array([0, 1763838000, 1763838000.25, 1763838000250, 99_999_999_999, 1e11, -1, 1e14, np.inf, np.nan])
    nothing = float("nan")
    expected = [0, 1763838000, 1763838000.25, 1763838000.25, 99_999_999_999, 1e8, nothing, nothing, nothing, nothing]
    np.testing.assert_array_equal(from_numbers(given), expected)


def test_nothing():
    assert len(from_texts([])) == len(from_numbers(np.empty(0))) == 0
