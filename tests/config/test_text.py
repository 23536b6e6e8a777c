from __future__ import annotations

import pytest

from streamtrain.config.text import TextError, read_text


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("1e-4", 1e-4),
        ("1.5E3", 1500.0),
        (".5", 0.5),
        ("12:30", "12:30"),
        ("2026-11-22", "2026-11-22"),
        ("010", 10),
        ("100_000", 100_000),
        ("-7", -7),
        ("0x1F", "0x1F"),
        ("null", None),
        ("~", None),
        ("", None),
        ("'12'", "12"),
        ('"true"', "true"),
        (".inf", float("inf")),
        ("9" * 65, "9" * 65),
    ],
)
def test_scalars_follow_yaml_1_2(written: str, value: object) -> None:
    document = read_text(f"key: {written}")
    assert document.value == {"key": value}
    assert type(document.value["key"]) is type(value)  # True is not 1


def test_values_nest_and_keys_keep_their_lines() -> None:
    document = read_text("# note\na:\n  b: [1, two]\n  c:\n  - x: 3\n")
    assert document.value == {"a": {"b": [1, "two"], "c": [{"x": 3}]}}
    assert document.lines == {("a",): 2, ("a", "b"): 3, ("a", "c"): 4, ("a", "c", "0", "x"): 5}


def test_an_empty_text_is_none() -> None:
    assert read_text("# only a comment\n").value is None


@pytest.mark.parametrize(
    ("text", "line", "key", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a", "twice (first on line 1)"),
        ("s:\n  k: 1\n  k: 1\n", 3, "s.k", "twice"),
        ("a: &x 1\nb: *x\n", 2, "b", "alias"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "a", "tag"),
        ("a: !!int 3\n", 1, "a", "tag"),
        ("a: !!bool maybe\n", 1, "a", "tag"),
        ("? [1, 2]\n: 3\n", 1, "", "used as a key"),
        ("s:\n  '': 1\n", 2, "s", "without a name"),
        ("&s: {a: 1}\n", 1, "", "without a name"),
        ("a: 1\n---\nb: 2\n", 2, "", "single document"),
        ("a: [1, 2\nb: 3\n", 2, "", "flow sequence"),
        ("a: 'x\n", 2, "", "quoted scalar"),
        ("a:\n\t- 1\n", 2, "", "cannot start any token"),
        ("a: {b: c: d}\n", 1, "", ""),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text: str, line: int, key: str, problem: str) -> None:
    with pytest.raises(TextError) as caught:
        read_text(text)
    assert caught.value.line == line
    assert caught.value.key == key
    assert problem in caught.value.problem
    assert caught.value.hint


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "a: " + "[" * 30 + "]" * 30, "a: \x07", "a: \ud800"])
def test_hostile_text_is_refused(text: str) -> None:
    with pytest.raises(TextError):
        read_text(text)


def test_unfolding_aliases_are_refused_before_they_unfold() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    with pytest.raises(TextError, match="alias"):
        read_text("\n".join(rows))
