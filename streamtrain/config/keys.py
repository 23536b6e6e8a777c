"""The keys of a section: their names, types, limits, defaults and meanings, and how a value is checked against them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Annotated, Any, Literal, cast, get_args, get_origin, get_type_hints

import msgspec

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_DURATION_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(ms|s|m|h|d|w)\s*")
_DURATION = re.compile(f"(?:{_DURATION_PART.pattern})+")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([KMG]?i?B?)", re.IGNORECASE)


class KeyValueError(ValueError):
    """A value does not fit its key; the message is a hint at how to write it (it may be empty)."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a section.

    Attributes
    ----------
    name : str
        As written in YAML: without the unit that the attribute may end in.
    attribute : str
        Field of the section's dataclass.
    type : object
        Its type, with `msgspec.Meta` limits.
    default : object
        `dataclasses.MISSING` for a required key.
    expected : str
        What a value must be, in words.
    meaning : str
        What the key is for.
    """

    name: str
    attribute: str
    type: Any
    default: object
    expected: str
    meaning: str

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is dataclasses.MISSING


def keys_of(section: type[Any]) -> Mapping[str, Key]:
    """Return the keys of a section's dataclass by name, in order."""
    return _keys_of(cast("Hashable", section))


@cache
def _keys_of(section: Any) -> Mapping[str, Key]:
    hints = get_type_hints(section, include_extras=True)
    keys = {}
    for field in dataclasses.fields(section):
        hint = hints[field.name]
        meaning = next((part for part in get_args(hint)[1:] if isinstance(part, str)), "")
        unit = _unit(hint)
        name = field.name.removesuffix(f"_{unit}") if unit else field.name
        keys[name] = Key(name, field.name, hint, field.default, _expected(hint), meaning)
    return MappingProxyType(keys)


def convert(key: Key, value: object) -> object:
    """Check one value and give it its type.

    Parameters
    ----------
    key : Key
    value : object
        As `config_text.read_text` returns it.

    Returns
    -------
    object
        Durations in seconds, sizes in bytes, lists as tuples, paths as written.

    Raises
    ------
    KeyValueError
        If the value does not fit.
    """
    if value is None:
        if _is_optional(key.type):
            return None
        raise KeyValueError("leave the key out to get its default" if not key.required else "")
    unit = _unit(key.type)
    if isinstance(value, str) and unit:
        value = duration_s(value) if unit == "s" else size_bytes(value)
    if _holds(key.type, Path):
        return _path(value)
    if _holds(key.type, int) and isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        converted: object = msgspec.convert(value, key.type)
    except msgspec.ValidationError as error:
        raise KeyValueError(_hint(value, str(error))) from error
    return converted


def duration_s(text: str) -> float:
    """Read a duration such as ``90s``, ``10m`` or ``1h30m``.

    Raises
    ------
    KeyValueError
        If it is not one.
    """
    if not _DURATION.fullmatch(text.strip()):
        raise KeyValueError("units are ms, s, m, h, d and w")
    return math.fsum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


def size_bytes(text: str) -> int:
    """Read a size such as ``64KiB``, ``8MiB`` or ``1.5MB``.

    Raises
    ------
    KeyValueError
        If it is not a whole number of bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    factor = _BYTES.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise KeyValueError("units are B, KB, MB, GB, KiB, MiB and GiB")
    size = float(match[1]) * factor
    if not size.is_integer():
        raise KeyValueError("it must come out as whole bytes")
    return int(size)


def written(key: Key, value: object) -> object:
    """Return a converted value as it may be written in YAML or JSON."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if isinstance(value, tuple):
        return [written(key, item) for item in value]
    unit = _unit(key.type)
    if unit == "s" and isinstance(value, float):
        return _as_duration(value)
    if unit == "bytes" and isinstance(value, int):
        return _as_size(value)
    return value


def _as_duration(seconds: float) -> str | float:
    for unit in ("w", "d", "h", "m", "s"):
        if seconds % _SECONDS[unit] == 0:
            return f"{int(seconds / _SECONDS[unit])}{unit}"
    return seconds


def _as_size(size: int) -> str | int:
    for unit in ("GiB", "MiB", "KiB"):
        if size % _BYTES[unit.lower()] == 0:
            return f"{size // _BYTES[unit.lower()]}{unit}"
    return size


def _path(value: object) -> Path:
    if not isinstance(value, str):
        raise KeyValueError(_hint(value, "Expected `str`"))
    if not value or "\0" in value:
        raise KeyValueError("it must name a path")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise KeyValueError("there is no such home directory") from error


def _hint(value: object, problem: str) -> str:
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+", value):
        return "write it without quotes"
    if isinstance(value, str) and "Expected `bool`" in problem:
        return "write true or false"
    if "Expected `array`" in problem:
        return f"write a list: [{value}]" if isinstance(value, str) else "write a list in [brackets]"
    if "Expected `str`" in problem and isinstance(value, int | float):
        return "write it in quotes"
    match = re.search(r"`\$\[(\d+)\]", problem)
    return f"look at item {int(match[1]) + 1}" if match else ""


def _parts(hint: Any) -> list[Any]:
    """Return the type itself and all types and annotations within it, but not those of list items."""
    if get_origin(hint) is Annotated:
        first, *rest = get_args(hint)
        return [*_parts(first), *rest]
    if get_origin(hint) in (tuple, Literal, None):
        return [hint]
    return [part for argument in get_args(hint) for part in _parts(argument)]


def _holds(hint: Any, wanted: type) -> bool:
    return any(part is wanted for part in _parts(hint))


def _is_optional(hint: Any) -> bool:
    return _holds(hint, NoneType)


def _unit(hint: Any) -> str | None:
    for part in _parts(hint):
        if isinstance(part, msgspec.Meta) and part.extra:
            return str(part.extra["unit"])
    return None


def _expected(hint: Any) -> str:
    phrases = []
    for part in _parts(hint):
        if isinstance(part, msgspec.Meta) and part.description:
            phrases.append(part.description)
        elif get_origin(part) is Literal:
            *first, last = get_args(part)
            phrases.append(f"{', '.join(first)} or {last}" if first else str(last))
        elif part is bool:
            phrases.append("true or false")
        elif part is Path:
            phrases.append("a path")
        elif dataclasses.is_dataclass(part):
            fields = ", ".join(field.name for field in dataclasses.fields(part))
            phrases.append(f"a mapping {{{fields}}}")
    if _is_optional(hint):
        phrases.append("null")
    return ", or ".join(phrases)


def mapping_type(key: Key) -> type[Any] | None:
    """Return the dataclass that a mapping given to this key is read into, or None where none may be given."""
    return next((part for part in _parts(key.type) if dataclasses.is_dataclass(part) and isinstance(part, type)), None)


def as_dict(section: object) -> dict[str, object]:
    """Return a section's values by key, as they may be written in YAML or JSON."""
    if not dataclasses.is_dataclass(section) or isinstance(section, type):
        raise TypeError(f"as_dict: expected a section, got {section!r}")
    values: dict[str, object] = {}
    for key in keys_of(type(section)).values():
        value = getattr(section, key.attribute)
        values[key.name] = as_dict(value) if dataclasses.is_dataclass(value) else written(key, value)
    return values
