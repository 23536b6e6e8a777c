"""Rows of a table, as text or as native values → checked columns: what `Columns` makes of JSON, of tables too."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import is_, itemgetter
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamtrain.ingest import times
from streamtrain.ingest.columns import Columns
from streamtrain.ingest.halves import Half, HalfColumns
from streamtrain.ingest.schema import Schema, VectorField
from streamtrain.ingest.slices import SliceNames
from streamtrain.types import Samples

I64 = NDArray[np.int64]

_WIDE: Final = 256  # a table with more columns is picked from, so that no row of a thousand fields is made a struct
_PLACE: Final = re.compile(r" - at `\$\[(\d+)\]")
_NUMBER: Final = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_NAMES_TOLD: Final = 20
_NAME_CHARACTERS: Final = 60
_UNREAD: Final = ("t", "scores", "quality", "model")  # what a schema may have no field for, and is read all the same


class Layout:
    """Which column of a table is which field of a schema.

    Attributes
    ----------
    names : tuple of str
        Of all columns.
    problem : str or None
        Why no row of this table can be read: a field is missing, or there twice.
    """

    def __init__(self, schema: Schema, line_type: type[Any], joins: bool, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.problem: str | None = None
        fields = {field.encode_name: field for field in msgspec.structs.fields(line_type)}
        places: dict[str, int] = {}
        for place, name in enumerate(self.names):
            if name in fields:
                if name in places:
                    self.problem = self.problem or f"the field {name!r} is there twice"
                places[name] = place
        missing = [name for name, field in fields.items() if field.required and name not in places]
        if joins and not missing and schema.join is not None:
            # A table of outcomes needs no features, one of decisions nothing else.
            missing = [name for name in (schema.join.kind, schema.join.key) if name not in places]
        if missing:
            self.problem = f"no field {missing[0]!r}; the keys are: {_told(self.names)}"
        self.used = tuple(sorted(places.values()))
        self.pick: Callable[[Sequence[Any]], Sequence[Any]] | None = None
        columns = list(range(len(self.names)))
        if len(columns) > _WIDE:
            columns = list(self.used)
            self.pick = itemgetter(*columns) if len(columns) > 1 else lambda row: (row[columns[0]],)
        self.columns = tuple(self.names[place] for place in columns)
        self.attributes = tuple(
            fields[name].name if places.get(name) == place else f"_{place}"
            for name, place in zip(self.columns, columns, strict=True)
        )
        struct: list[tuple[str, Any] | tuple[str, Any, Any]] = [
            (attribute, fields[name].type if attribute[0] != "_" and attribute != "slice" else Any)
            for name, attribute in zip(self.columns, self.attributes, strict=True)
        ]
        struct += [(field.name, field.type, None) for name, field in fields.items() if name not in places]
        namespace: dict[str, Any] = {}
        if joins:
            namespace = {name: None for name in _UNREAD if not any(part[0] == name for part in struct)} | {"y": 0.0}
        row = msgspec.defstruct("Row", struct, array_like=True, namespace=namespace, gc=False)
        self.row_type: Any = list.__class_getitem__(row)
        self.one_type: Any = row
        self.place_of = {attribute: place for place, attribute in enumerate(self.attributes)}


class Rows:
    """Read rows of tables under one schema.

    Parameters
    ----------
    schema : Schema
    clock : callable
        Seconds since the epoch, for rows without a time.
    names : SliceNames, optional
        Where the names of slices are noted.

    Attributes
    ----------
    fields : frozenset of str
        Names that the schema reads, if they are there.
    telling : frozenset of str
        Those of them that a table of something else would hardly have.
    identified : str or None
        Column with the record's identity.
    joins : bool
        Records are two rows.
    dim : int
        Number of features D.
    """

    def __init__(self, schema: Schema, clock: Callable[[], float], names: SliceNames | None = None) -> None:
        self._schema = schema
        names = SliceNames() if names is None else names
        self._columns = Columns(schema, clock, names)
        self._halves = None if schema.join is None else HalfColumns(schema, schema.join, clock, names)
        self._line_type = self._columns.line_type if self._halves is None else self._halves.line_type
        self.fields = frozenset(field.encode_name for field in msgspec.structs.fields(self._line_type))
        required = {field.encode_name for field in msgspec.structs.fields(self._line_type) if field.required}
        self._required = required if schema.join is None else required | {schema.join.kind, schema.join.key}
        features = (schema.features.field,) if isinstance(schema.features, VectorField) else schema.features
        telling = {*features, schema.scores or schema.label}
        if schema.join is not None:
            telling |= {schema.join.key, schema.join.kind}
        self.telling = frozenset(telling)
        self.dim = len(schema.feature_names)
        self._vector = msgspec.json.Decoder(list[float])
        self._scores = msgspec.json.Decoder(dict[str, float | None])
        self.identified = schema.id
        self.joins = schema.join is not None

    def has_fields(self, names: Sequence[str]) -> bool:
        """Tell whether a table of these columns has every field that the schema can't do without."""
        return self._required.issubset(names)

    def layout(self, names: Sequence[str]) -> Layout:
        """Find the fields of the schema among the columns of a table."""
        return Layout(self._schema, self._line_type, self._halves is not None, names)

    def read(
        self,
        layout: Layout,
        values: Sequence[Sequence[Any]],
        starts: I64,
        stops: I64,
        source: int,
        identities: I64 | None = None,
    ) -> tuple[Samples, tuple[Half, ...], dict[int, str]]:
        """Turn rows into samples, or into halves where the schema joins, and check them.

        Parameters
        ----------
        layout : Layout
            Without a problem.
        values : sequence of sequences, (N,)
            One value for each column: text, or what the table itself holds. None where there is none.
        starts, stops : int64, (N,)
            Where each row lies in its source.
        source : int
            Key of the source.
        identities : int64, (N,), optional
            What a row without an id is known by within its source, instead of where it starts.

        Returns
        -------
        samples : Samples
        halves : tuple of Half
        wrong : dict of int to str
            What is wrong with each of the other rows, by its index.
        """
        rows, kept, wrong = self._typed(layout, values)
        if kept is not None:
            starts, stops = starts[kept], stops[kept]
            identities = None if identities is None else identities[kept]
        halves: list[Half] = []
        if self._halves is None:
            samples, failed = self._columns.samples(rows, starts if identities is None else identities, source)
        else:
            halves, failed = self._halves.read(rows, starts, stops, source)
            samples, _ = self._columns.samples([], starts[:0], source)
        for row, reason in failed.items():
            wrong[row if kept is None else int(kept[row])] = reason
        return samples, tuple(halves), wrong

    def nothing(self) -> tuple[Samples, tuple[Half, ...], dict[int, str]]:
        """Return what `read` makes of no rows."""
        return self._columns.samples([], np.empty(0, np.int64), 0)[0], (), {}

    def _typed(self, layout: Layout, values: Sequence[Sequence[Any]]) -> tuple[list[Any], I64 | None, dict[int, str]]:
        """Give rows their types; those that can't have them are left out."""
        wrong: dict[int, str] = {}
        if layout.pick is not None:
            values = list(map(layout.pick, values))
        prepared = self._prepare(layout, values, wrong)
        if not wrong:
            try:
                rows: list[Any] = msgspec.convert(prepared, layout.row_type, strict=False)
            except (msgspec.ValidationError, UnicodeEncodeError):
                pass
            else:
                return rows, None, wrong
        rows, kept = [], []
        for index, row in enumerate(prepared):
            if index in wrong:
                continue
            try:
                rows.append(self._single(layout, row))
            except (msgspec.ValidationError, UnicodeEncodeError) as error:
                wrong[index] = _explain(error, layout, row)
            else:
                kept.append(index)
        return rows, np.array(kept, np.int64), wrong

    def _single(self, layout: Layout, row: Sequence[Any]) -> Any:
        try:
            return msgspec.convert(row, layout.one_type, strict=False)
        except msgspec.ValidationError:
            # A number may be written as ` .5` or `+1` too; then it is one.
            plain = [
                float(value)
                if isinstance(value, str)
                and attribute not in ("id", "session", "t", "kind", "model", "slice")
                and _NUMBER.fullmatch(value)
                else value
                for attribute, value in zip(layout.attributes, row, strict=True)
            ]
            return msgspec.convert(plain, layout.one_type, strict=False)

    def _prepare(
        self, layout: Layout, values: Sequence[Sequence[Any]], wrong: dict[int, str]
    ) -> Sequence[Sequence[Any]]:
        """Read what stands within a value: an array, an object, or a time that is a number written as text."""
        readers: dict[str, Callable[[Any], Any]] = {"t": _time}
        if isinstance(self._schema.features, VectorField):
            readers["x"] = self._array
        if self._schema.scores is not None:
            readers["y" if self._halves is None else "scores"] = self._object
        for attribute, reader in readers.items():
            place = layout.place_of.get(attribute)
            if place is None:
                continue
            column = [row[place] for row in values]
            if reader is _time:
                seconds = _times(column)
                if seconds is not None:
                    # Copies: what was read tells later whether it is still there.
                    copies = [list(row) for row in values]
                    for copy, new in zip(copies, seconds, strict=True):
                        copy[place] = new
                    values = copies
                    continue
                if seconds is None:
                    continue
            changed: list[Any] = []
            for index, value in enumerate(column):
                try:
                    changed.append(reader(value))
                except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError) as error:
                    changed.append(None)
                    wrong.setdefault(index, f"{layout.columns[place]!r} can't be read: {error}")
            values = [(*row[:place], new, *row[place + 1 :]) for row, new in zip(values, changed, strict=True)]
        return values

    def _array(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._vector.decode(value)
        if isinstance(value, bytes):
            # As programs write embeddings into databases.
            for kind, size in (("<f4", 4), ("<f8", 8)):
                if len(value) == size * self.dim:
                    return np.frombuffer(value, kind).tolist()
            raise ValueError(f"{len(value)} bytes are not {self.dim} 32-bit or 64-bit floats")
        return value

    def _object(self, value: Any) -> Any:
        return self._scores.decode(value) if isinstance(value, str) else value


def _times(column: list[Any]) -> list[Any] | None:
    """Make numbers of texts that are numbers; None where none is."""
    if not any(isinstance(value, str) for value in column):
        return None
    try:
        return msgspec.convert(column, list[float], strict=False)
    except (msgspec.ValidationError, UnicodeEncodeError):
        changed = list(map(_time, column))
        return None if all(map(is_, changed, column)) else changed


def _time(value: Any) -> Any:
    """Make a number of a text that is one."""
    if isinstance(value, str) and len(value) <= 40 and ":" not in value and _NUMBER.fullmatch(value):
        return float(value)
    return value


def _told(names: Sequence[str]) -> str:
    listed = ", ".join(name[:_NAME_CHARACTERS] for name in names[:_NAMES_TOLD])
    more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
    return f"{listed}{more}" if names else "none"


def _explain(error: Exception, layout: Layout, row: Sequence[Any]) -> str:
    """Say what is wrong with a row, by the name of its column."""
    if isinstance(error, UnicodeEncodeError):
        return "not UTF-8"
    found = _PLACE.search(str(error))
    if found is None:
        return str(error).replace("`", "'")
    place = int(found[1])
    name, attribute, value = layout.columns[place], layout.attributes[place], row[place]
    if value is None:
        return f"{name!r} is empty"
    if isinstance(value, list | dict):
        return f"{name!r}: {str(error)[: found.start()].replace('`', chr(39))}"
    return f"{name!r} is {_shown(value)}, expected {_expected(attribute)}"


def _expected(attribute: str) -> str:
    if attribute in ("id", "session"):
        return "a text or a whole number"
    return {
        "y": "true, false or a number in 0..1",
        "label": "true, false or a number in 0..1",
        "t": times.EXPECTED,
        "kind": "the word of a decision or an outcome",
        "model": "the name of a model",
        "x": "an array of numbers",
        "scores": "an object of numbers",
    }.get(attribute, "a number")


def _shown(value: object) -> str:
    text = repr(value[:64] if isinstance(value, str | bytes) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
