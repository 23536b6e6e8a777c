"""Mistakes in a configuration, in words."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass
from pathlib import Path

_MAX_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with a configuration.

    Attributes
    ----------
    key : str
        Dotted, such as "gate.min_accuracy"; "the file" when it is meant as a whole.
    value : object
        What was given; None where something is missing.
    expected : str
        What would be right, in words.
    hint : str
        What to write, when there is more to say than `expected`.
    line : int or None
        Line of the file, counted from 1.
    """

    key: str
    value: object
    expected: str
    hint: str = ""
    line: int | None = None

    def __str__(self) -> str:
        """Return one line, such as ``line 3: gate.min_auc = 1.5: expected a number in 0..1``."""
        where = "" if self.line is None else f"line {self.line}: "
        hint = f" ({printable(self.hint)})" if self.hint else ""
        return f"{where}{self.given}: expected {self.expected}{hint}"

    @property
    def given(self) -> str:
        """What was given alone, such as ``gate.min_auc = 1.5``."""
        return printable(self.key) + ("" if self.value is None else f" = {_shown(self.value)}")


class ConfigError(ValueError):
    """A configuration cannot be used.

    Attributes
    ----------
    path : Path or None
        The file; None for a text that came from none.
    mistakes : tuple of Mistake
        All of them, by line; those that no line shows come first.
    """

    def __init__(self, path: Path | None, mistakes: list[Mistake]) -> None:
        self.path = path
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.line or 0))
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        shown = printable(str(path)) if path else "configuration"
        super().__init__("\n".join([f"{shown}: {count}", *(f"  {mistake}" for mistake in self.mistakes)]))


def printable(text: str) -> str:
    """Return a text without line breaks and terminal escapes, cut to a readable length."""
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[: 4 * _MAX_SHOWN])
    return shown if len(text) <= 4 * _MAX_SHOWN else f"{shown}…"


def _shown(value: object) -> str:
    # Values come from a file and may be huge or nested: reprlib bounds both.
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = _MAX_SHOWN
    short.maxlevel = 3
    return short.repr(value)
