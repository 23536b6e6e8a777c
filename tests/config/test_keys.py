from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.config.keys import KeyValueError, convert, duration_s, keys_of, size_bytes, written
from streamtrain.config.sections import SECTIONS, DatasetSection, LogsSection


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("10m", 600), ("1h30m", 5400), ("2 d", 172800), ("1w", 604800), ("250ms", 0.25), ("1.5h", 5400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "ten minutes", "10 M", "-5s", "1h 30", "s", "1e3s", "5m!", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(KeyValueError, match="units are"):
        duration_s(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8MiB", 8 * 2**20), ("64kib", 65536), ("1.5MB", 1_500_000), ("100", 100), ("12 B", 12), ("1GiB", 2**30)],
)
def test_sizes(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "8 parsecs", "-1MiB", "1.5B", "0.1KiB", "MiB", "8iB8"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(KeyValueError):
        size_bytes(text)


@given(st.floats(0.001, 3e9).map(lambda s: round(s, 3)))
def test_a_duration_survives_being_written(seconds: float) -> None:
    key = keys_of(DatasetSection)["max_age"]
    assert convert(key, written(key, seconds)) == pytest.approx(seconds, abs=1e-9)


@given(st.integers(64, 2**30))
def test_a_size_survives_being_written(size: int) -> None:
    key = keys_of(LogsSection)["max_line"]
    assert convert(key, written(key, size)) == size


def test_units_are_in_attributes_and_not_in_keys() -> None:
    assert keys_of(DatasetSection)["max_age"].attribute == "max_age_s"
    assert keys_of(LogsSection)["max_line"].attribute == "max_line_bytes"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_says_what_it_expects_and_means(section: str) -> None:
    for key in keys_of(SECTIONS[section]).values():
        assert key.expected, key.name
        assert key.meaning.endswith("."), key.name


@pytest.mark.parametrize("section", SECTIONS)
def test_every_default_is_allowed(section: str) -> None:
    for key in keys_of(SECTIONS[section]).values():
        if not key.required:
            assert convert(key, written(key, key.default)) == key.default
