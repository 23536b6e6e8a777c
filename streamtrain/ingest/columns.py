"""Decoded rows → checked columns: the typed line of a schema, and what its values must be."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamtrain.ingest import times
from streamtrain.ingest.hashing import NO_TEXT, hash_offsets, hash_texts
from streamtrain.ingest.labels import LabelError, Labeller
from streamtrain.ingest.packing import BOOL_BYTES, FLOAT_BYTES, Table
from streamtrain.ingest.schema import Schema, VectorField
from streamtrain.ingest.slices import NO_SLICE, SliceNames, of_values
from streamtrain.types import F64, U64, Bools, Samples

FLOAT32_MAX = float(np.finfo(np.float32).max)


class Columns:
    """Columns of one schema.

    Parameters
    ----------
    schema : Schema
    clock : callable
        Seconds since the epoch, for lines without a time.
    slice_names : SliceNames
        Where the names of slices are noted.

    Attributes
    ----------
    line_type : type
        The msgspec struct that a line is decoded into, made from the schema.
    """

    def __init__(self, schema: Schema, clock: Callable[[], float], slice_names: SliceNames) -> None:
        self._schema = schema
        self._clock = clock
        self._slice_names = slice_names
        self._dim = len(schema.feature_names)
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        rename: dict[str, str] = {}
        listed = isinstance(schema.features, VectorField)
        if isinstance(schema.features, VectorField):
            names = ["x"]
            fields.append(("x", Annotated[list[float], msgspec.Meta(min_length=self._dim, max_length=self._dim)]))
            rename["x"] = schema.features.field
        else:
            names = [f"x{index}" for index in range(self._dim)]
            fields += [(name, float) for name in names]
            rename |= dict(zip(names, schema.features, strict=True))
        self._bare = Table(names, self._dim, listed, ())
        self._labelled = Table(names, self._dim, listed, ("y",))
        self._timed = Table(names, self._dim, listed, ("y", "t"))
        self._labeller = None if schema.scores is None else Labeller(schema)
        fields.append(("y", bool | float if schema.scores is None else dict[str, float | None]))
        rename["y"] = schema.scores or schema.label
        for attribute, name, kind in (
            ("t", schema.timestamp, float | str | None),
            ("id", schema.id, str | int | None),
            ("session", schema.session, str | int | None),
            ("teacher", schema.teacher, float | None),
            ("weight", schema.weight, float | None),
            ("propensity", schema.propensity, float | None),
            ("slice", schema.slice, msgspec.Raw),
        ):
            if name is not None and name not in rename.values():
                fields.append((attribute, kind, None))
                rename[attribute] = name
        # One field may be both.
        self._session = "id" if schema.session == schema.id else "session"
        self.line_type: type[Any] = msgspec.defstruct("Line", fields, rename=rename, gc=False)

    def samples(self, rows: list[Any], offsets: NDArray[np.int64], source: int) -> tuple[Samples, dict[int, str]]:
        """Turn rows into columns and check them.

        Parameters
        ----------
        rows : list of `line_type`, (N,)
        offsets : int64, (N,)
            Where each line starts in its source.
        source : int
            Key of the source.

        Returns
        -------
        samples : Samples
            Of the good rows.
        wrong : dict of int to str
            What is wrong with each of the others, by its index.
        """
        wrong: dict[int, str] = {}
        values, labels, numbers = self._scored(rows, wrong) if self._labeller else self._numbers(rows)
        features = self._features(values, wrong)
        good = in_unit(labels)
        _check(wrong, self._schema.label, labels, good, "true, false or a number in 0..1")
        timestamps = self._timestamps(rows, numbers, wrong)
        keys = _hashes(rows, "id", self._schema.id, hash_offsets(source, offsets))
        groups = _hashes(rows, self._session, self._schema.session, keys)
        columns: list[NDArray[Any]] = [
            features,
            np.where(good, labels, 0.0).astype(np.float32),
            timestamps,
            keys,
            groups,
            _numbers(rows, "weight", self._schema.weight, 1.0, is_weight, "a finite number ≥ 0", wrong),
            _numbers(rows, "teacher", self._schema.teacher, np.nan, in_unit, "a number in 0..1", wrong),
            _numbers(rows, "propensity", self._schema.propensity, np.nan, is_propensity, "above 0, at most 1", wrong),
            self._slices(rows),
        ]
        if wrong:
            kept = np.ones(len(rows), np.bool_)
            kept[list(wrong)] = False
            columns = [column[kept] for column in columns]
        return Samples(*columns), wrong

    def _slices(self, rows: list[Any]) -> U64:
        if self._schema.slice is None:
            return np.full(len(rows), NO_SLICE)
        return of_values(list(map(attrgetter("slice"), rows)), self._slice_names)

    def _scored(self, rows: list[Any], wrong: dict[int, str]) -> tuple[F64, F64, F64 | None]:
        """Bring features into an array, and make labels from scores."""
        read = self._bare.read(rows, ())
        if read is None or self._labeller is None:
            raise ValueError(f"decode {len(rows)} rows with scores: their {self._dim} features take another length")
        labels = np.zeros(len(rows))
        for index, row in enumerate(rows):
            try:
                label = self._labeller.from_scores(row.y)
            except LabelError as error:
                wrong[index] = str(error)
                continue
            if label is None:
                wrong[index] = f"{self._schema.scores!r} has fewer than two scores, which compares nothing"
            else:
                labels[index] = label
        return read[0], labels, None

    def _numbers(self, rows: list[Any]) -> tuple[F64, F64, F64 | None]:
        """Bring features (N, D), labels (N,) and, where all are numbers, times (N,) into arrays."""
        # Nearly always the labels are all of one kind, and so are the times: that is tried.
        label = BOOL_BYTES if rows and type(rows[0].y) is bool else FLOAT_BYTES
        if self._schema.timestamp is not None and rows and type(rows[0].t) is float:
            read = self._timed.read(rows, (label, FLOAT_BYTES))
            if read is not None:
                return read[0], read[1][0], read[1][1]
        read = self._labelled.read(rows, (label,))
        if read is not None:
            return read[0], read[1][0], None
        read = self._bare.read(rows, ())
        if read is None:
            raise ValueError(
                f"decode {len(rows)} rows of {self._dim} features: they take another length than they must"
            )
        return read[0], _float64([row.y for row in rows]), None

    def _features(self, values: F64, wrong: dict[int, str]) -> NDArray[np.float32]:
        usable = np.abs(values) <= FLOAT32_MAX
        if not usable.all():
            names = self._schema.feature_names
            for row in np.flatnonzero(~usable.all(axis=1)):
                column = int(np.argmin(usable[row]))
                wrong[int(row)] = f"{names[column]!r} is {values[row, column]:g}, which a 32-bit float can't hold"
            values = np.where(usable, values, 0.0)
        return values.astype(np.float32)

    def _timestamps(self, rows: list[Any], numbers: F64 | None, wrong: dict[int, str]) -> F64:
        name = self._schema.timestamp
        if name is None:
            return np.full(len(rows), self._clock())
        if numbers is not None:
            seconds = times.from_numbers(numbers)
            values: list[Any] | F64 = numbers
        else:
            values = [row.t for row in rows]
            seconds = self._mixed_times(values)
        for row in np.flatnonzero(np.isnan(seconds)):
            value = _shown(values[row] if numbers is None else float(values[row]))
            wrong.setdefault(int(row), f"{name!r} is {value}, expected {times.EXPECTED}")
        return seconds

    def _mixed_times(self, values: list[Any]) -> F64:
        try:
            return times.from_texts(values)
        except TypeError:
            seconds = np.full(len(values), self._clock())
        numbers = [index for index, value in enumerate(values) if isinstance(value, float)]
        texts = [index for index, value in enumerate(values) if isinstance(value, str)]
        seconds[numbers] = times.from_numbers(_float64([values[index] for index in numbers]))
        seconds[texts] = times.from_texts([values[index] for index in texts])
        return seconds


def _hashes(rows: list[Any], attribute: str, name: str | None, default: U64) -> U64:
    """Hash an identity of each row; where a row has none (or an empty one), the default stands."""
    if name is None:
        return default
    values = list(map(attrgetter(attribute), rows))
    try:
        hashes = hash_texts(values)
    except TypeError:
        hashes = hash_texts(["" if value is None else str(value) for value in values])
    return np.where(hashes == NO_TEXT, default, hashes)


def _numbers(
    rows: list[Any],
    attribute: str,
    name: str | None,
    default: float,
    valid: Callable[[F64], Bools],
    expected: str,
    wrong: dict[int, str],
) -> NDArray[np.float32]:
    """Bring an optional number of each row into a column, and check those that are there."""
    if name is None:
        return np.full(len(rows), default, np.float32)
    given = list(map(attrgetter(attribute), rows))
    values = _float64([np.nan if value is None else value for value in given])
    # JSON has no NaN, so that it can stand for absence.
    absent = np.isnan(values)
    good = valid(values)
    _check(wrong, name, values, absent | good, expected)
    return np.where(good, values, default).astype(np.float32)


def _check(wrong: dict[int, str], name: str, values: F64, good: Bools, expected: str) -> None:
    if not good.all():
        for row in np.flatnonzero(~good):
            wrong.setdefault(int(row), f"{name!r} is {values[row]:g}, expected {expected}")


def _float64(values: list[Any]) -> F64:
    """Make an array of numbers; unlike NumPy, it never reads a text as one, but raises TypeError."""
    return np.frombuffer(array("d", values), np.float64)


def in_unit(values: F64) -> Bools:
    """Tell which are in 0..1."""
    return (values >= 0.0) & (values <= 1.0)


def is_weight(values: F64) -> Bools:
    """Tell which can weigh a sample."""
    return (values >= 0.0) & (values <= FLOAT32_MAX)


def is_propensity(values: F64) -> Bools:
    """Tell which can be the probability of what was chosen."""
    # Below float32's smallest normal number its inverse would not be finite.
    return (values >= float(np.finfo(np.float32).tiny)) & (values <= 1.0)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
