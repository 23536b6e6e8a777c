"""Layouts: which lines have one, what is in it, and that nothing is taken for a match that isn't one."""

import re

import numpy as np
import pytest

from streamtrain.ingest import digits
from streamtrain.ingest.layout import Layout


def match(layout, *lines, wanted=("a", "t")):
    text = b"".join(line + b"\n" for line in lines)
    data = np.frombuffer(bytes(digits.BEFORE) + text + bytes(digits.PADDING), np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    starts = np.append(digits.BEFORE, ends[:-1] + 1)
    return layout.match(data, starts, ends, wanted)


def texts(matches, name, lines):
    whole = bytes(digits.BEFORE) + b"".join(line + b"\n" for line in lines)
    return [whole[start : start + size] for start, size in zip(*matches.texts[name], strict=True)]


@pytest.mark.parametrize(
    "line",
    [
        b"[1]",
        b"5",
        b"{}",
        b'{"a": [1]}',
        b'{"a": {"b": 1}}',
        b'{"a": 1, "a": 2}',
        b'{"a\\u0062": 1}',
        b'{"a": "\\n"}',
        b'{"a": 1}x',
        b'{"a": 1,}',
        b'{"a": 1',
        b"{" + b", ".join(b'"%d": 1' % field for field in range(65)) + b"}",
    ],
)
def test_lines_without_one(line):
    assert Layout.of(line) is None


def test_names_are_those_with_a_value():
    assert Layout.of(b'{"a": 1.5, "b": null, "t": "x"}').names == {"a", "t"}


def test_numbers_and_texts():
    lines = [
        b'{"a": 0.25, "t": "one", "n": null}',
        b'{"a": 1.125, "t": "", "n": null}',
        b'{"a": 9, "t": "three", "n": null}',
    ]
    found = match(Layout.of(lines[0]), *lines)
    assert found.lines.all()
    assert found.numbers["a"].tolist() == [0.25, 1.125, 9]
    assert texts(found, "t", lines) == [b"one", b"", b"three"]


def test_identities_keep_their_digits():
    lines = [b'{"t": 5}', b'{"t": 12345678901}', b'{"t": 05}', b'{"t": 1.0}', b'{"t": 0}']
    found = match(Layout.of(lines[0], identities={"t"}), *lines)
    assert found.lines.tolist() == [True, True, False, False, True]
    assert texts(found, "t", lines) == [b"5", b"12345678901", b"0"]


@pytest.mark.parametrize("place", range(len(b'{"abcdefghi": 0.25, "t": "one"}')))
def test_a_changed_byte_of_the_text_around_is_no_match(place):
    """Also where two bytes differ as a digit differs from zero."""
    line = b'{"abcdefghi": 0.25, "t": "one"}'
    layout = Layout.of(line)
    same = re.compile(rb'\{"abcdefghi": [0-9](\.[0-9]+|[eE][0-9]+), "t": "[^"\\\x00-\x1f\x80-\xff]*"\}')
    for change in range(1, 256):
        changed = line[:place] + bytes([line[place] ^ change]) + line[place + 1 :]
        if b"\n" not in changed:
            assert match(layout, changed).lines[0] == bool(same.fullmatch(changed)), changed


def test_a_line_that_fails_early_does_not_stop_the_others():
    lines = [b'{"a": 0.5, "t": "x"}'] * 3 + [b"", b"{", b'{"a": 0.5, "t": "' + b"x" * 300] + [b'{"a": 0.5, "t": "x"}']
    assert match(Layout.of(lines[0]), *lines).lines.tolist() == [True] * 3 + [False] * 3 + [True]


@pytest.mark.parametrize("n", [1, 60, 90, 108, 109, 128, 129, 1000])
def test_much_text_between_values_never_reads_past_the_end(n):
    for line in (b'{"a": 0.5, "%s": null, "t": "x"}', b'{"a": 0.5, "t": "x", "%s": null}', b'{"%s": null, "a": 0.5}'):
        long = line % (b"k" * n)
        layout = Layout.of(long)
        assert (layout is None) == (n >= 120)
        if layout is not None:
            short = [long[:size] for size in range(len(long))]
            assert match(layout, long, *short, long).lines.tolist() == [True] + [False] * len(short) + [True]
            for size in range(1, len(long)):
                assert not match(layout, long[:size]).lines.any()
