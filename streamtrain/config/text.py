"""YAML text → plain values that remember their line.

Only the part of YAML that a configuration needs: mappings, lists and scalars. Scalars follow YAML 1.2, so that
``off`` is a word and not a boolean, ``1e-4`` is a number and not a word, and ``10:30`` is not 630. Duplicate keys, tags
and aliases are refused, the last also because a few lines of them can unfold into gigabytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

import yaml

KeyPath = tuple[str, ...]

# YAML 1.2 core schema, plus underscores between digits (100_000), which many files use.
_INTEGER = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, object] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
    ".inf": float("inf"),
    "+.inf": float("inf"),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}
# Python refuses to read integers of more than 4,300 digits; no setting needs more than 20.
_MAX_DIGITS = 64
_MAX_DEPTH = 16
_FLAT = "a configuration has sections and keys only"


class TextError(ValueError):
    """The text is not the YAML that a configuration is made of.

    Attributes
    ----------
    line : int or None
        Counted from 1.
    problem, hint : str
        What is wrong, and what to write instead.
    key : str
        Dotted key, when one is to blame.
    """

    def __init__(self, line: int | None, problem: str, hint: str, key: str = "") -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem
        self.hint = hint
        self.key = key


@dataclass(frozen=True, slots=True)
class Document:
    """A configuration's values, not yet checked.

    Attributes
    ----------
    value : object
        dict with str keys, list, str, int, float, bool or None, nested.
    lines : dict of key path to int
        Line of each key, counted from 1.
    """

    value: object
    lines: dict[KeyPath, int]


def read_text(text: str) -> Document:
    """Read one YAML document.

    Parameters
    ----------
    text : str

    Returns
    -------
    Document
        Its value is None for an empty text.

    Raises
    ------
    TextError
        Naming the line, for text that is not YAML or uses more of it than a configuration needs.
    """
    lines: dict[KeyPath, int] = {}
    try:
        _refuse_bombs(text)
        # BaseLoader takes every scalar as text: what a plain one means is decided in `_scalar`.
        node = yaml.compose(text, Loader=yaml.BaseLoader)
        return Document(None if node is None else _value(node, (), lines), lines)
    except yaml.MarkedYAMLError as error:
        problem = " ".join(part for part in (error.context, error.problem) if part)
        raise TextError(
            _line(error.problem_mark), problem, "check indentation, colons, quotes and brackets there"
        ) from error
    except yaml.YAMLError as error:
        raise TextError(None, " ".join(str(error).split()), "save the file as plain UTF-8 text") from error


@dataclass(slots=True)
class _Collection:
    """A mapping or list that is being read: how many nodes of it were seen, and what the last one is called by."""

    is_mapping: bool
    n_nodes: int = 0
    name: str = ""

    def take(self, event: yaml.Event) -> None:
        if not self.is_mapping:
            self.name = str(self.n_nodes)
        elif self.n_nodes % 2 == 0:
            self.name = event.value if isinstance(event, yaml.ScalarEvent) else ""
        self.n_nodes += 1


def _refuse_bombs(text: str) -> None:
    """Refuse aliases and deep nesting before anything is built of them, and name the key they are given for."""
    opened: list[_Collection] = []
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        if isinstance(event, yaml.CollectionEndEvent):
            opened.pop()
        elif isinstance(event, yaml.NodeEvent):
            if opened:
                opened[-1].take(event)
            if isinstance(event, yaml.AliasEvent):
                problem, hint = "an alias (*name)", "write the value out at each place"
                raise TextError(_line(event.start_mark), problem, hint, _key(opened))
            if isinstance(event, yaml.CollectionStartEvent):
                opened.append(_Collection(isinstance(event, yaml.MappingStartEvent)))
            if len(opened) > _MAX_DEPTH:
                # The key of a section, not all the way down.
                raise TextError(_line(event.start_mark), "values nested too deeply", _FLAT, _key(opened[:2]))


def _key(opened: list[_Collection]) -> str:
    return ".".join(one.name for one in opened if one.name)


class _Mark(Protocol):
    @property
    def line(self) -> int: ...


def _line(mark: _Mark | None) -> int | None:
    return None if mark is None else mark.line + 1


def _value(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int]) -> object:
    line = node.start_mark.line + 1
    key = ".".join(path)
    if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
        return _mapping(node, path, lines)
    if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
        return [_value(item, (*path, str(index)), lines) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str":
        text = _characters(node)
        return text if node.style is not None else _scalar(text)
    raise TextError(line, f"a tag ({node.tag})", "write the value without a tag", key)


def _mapping(node: yaml.MappingNode, path: KeyPath, lines: dict[KeyPath, int]) -> dict[str, object]:
    values: dict[str, object] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise TextError(line, "a list or mapping used as a key", "keys are words", ".".join(path))
        key = _characters(key_node)
        if not key:
            raise TextError(line, "a key without a name", "write a name before the colon", ".".join(path))
        here = (*path, key)
        if key in values:
            raise TextError(
                line,
                f"the key is given twice (first on line {lines[here]})",
                "keep one of the two",
                ".".join(here),
            )
        lines[here] = line
        values[key] = _value(value_node, here, lines)
    return values


def _characters(node: yaml.ScalarNode) -> str:
    """Return a scalar's text with escaped surrogate pairs, which JSON writes, joined to characters."""
    try:
        return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise TextError(_line(node.start_mark), "half a character (a lone surrogate)", "write it as UTF-8") from error


def _scalar(text: str) -> object:
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= _MAX_DIGITS:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text
