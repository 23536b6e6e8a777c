"""Lines that are all alike → samples, without decoding them one by one; what is not plainly alike is left over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from streamtrain.ingest import digits, times
from streamtrain.ingest.columns import FLOAT32_MAX, in_unit, is_propensity, is_weight
from streamtrain.ingest.hashing import NO_TEXT, hash_offsets, hash_spans
from streamtrain.ingest.layout import Layout, Matches
from streamtrain.ingest.schema import Schema, VectorField
from streamtrain.ingest.slices import NO_SLICE, SliceNames, of_hashes
from streamtrain.types import F64, U64, Bools, Samples

I64 = NDArray[np.int64]

_FEW: Final = 64  # so few lines are decoded sooner than looked at
_PAUSE: Final = 8  # batches for which nothing is tried after lines turned out not to be alike


class RegularLines:
    """Read the lines of one schema that have one layout, which is learned from one of them.

    What it reads is to the last bit what decoding gives. It judges nothing: a line that is wrong in any way is left.

    Parameters
    ----------
    schema : Schema
        With a field for each feature, and the label in a field.
    clock : callable
        Seconds since the epoch, for lines without a time.
    decode : callable
        Decode one line into an object with its time as `t`; raises what `errors` names.
    errors : tuple of exception types
    names : SliceNames
        Where the names of slices are noted.
    """

    def __init__(
        self,
        schema: Schema,
        clock: Callable[[], float],
        decode: Callable[[bytes], Any],
        errors: tuple[type[Exception], ...],
        names: SliceNames,
    ) -> None:
        self._schema = schema
        self._clock = clock
        self._decode = decode
        self._errors = errors
        self._names = names
        self._wanted = frozenset(name for name in _fields(schema) if name is not None)
        self._identities = frozenset(name for name in (schema.id, schema.session) if name is not None)
        self._layout: Layout | None = None
        self._form: times.Form | None = None
        self._n_pause = 0
        self._data = np.zeros(0, np.uint8)

    @staticmethod
    def possible(schema: Schema) -> bool:
        """Tell whether lines of this schema can be read so: plain values, and no field that is two things."""
        if schema.scores is not None or schema.join is not None or isinstance(schema.features, VectorField):
            return False
        names = [name for name in _fields(schema) if name is not None]
        return len(names) - len(set(names)) == (schema.session is not None and schema.session == schema.id)

    def read(self, view: memoryview, starts: I64, ends: I64, source: int, start: int) -> tuple[Samples, Bools] | None:
        """Read the lines that are alike.

        Parameters
        ----------
        view : memoryview
            Lines one after the other.
        starts, ends : int64, (L,)
            Where each begins, and where its newline is.
        source : int
            Key of the source.
        start : int
            Offset of `view` in the source.

        Returns
        -------
        samples : Samples
            Of the lines that were read.
        lines : bool, (L,)
            Which those are.
            None instead of both if it is not worth while.
        """
        if len(starts) < _FEW:
            return None
        if self._layout is None:
            if self._n_pause:
                self._n_pause -= 1
                return None
            middle = len(starts) // 2
            self._learn(bytes(view[starts[middle] : ends[middle]]))
        found = None if self._layout is None else self._match(self._layout, view, starts, ends, source, start)
        if found is None or 2 * np.count_nonzero(found[1]) < len(starts):
            self._layout, self._n_pause = None, _PAUSE
            return None
        return found

    def _learn(self, line: bytes) -> None:
        try:
            row = self._decode(line)
        except self._errors:
            return
        timestamp, self._form = self._schema.timestamp, None
        if timestamp is not None and isinstance(row.t, str):
            self._form = times.form_of(row.t.encode())
            if self._form is None:
                return
        self._layout = Layout.of(line, self._identities, () if timestamp is None else (timestamp,))

    def _match(
        self, layout: Layout, view: memoryview, starts: I64, ends: I64, source: int, start: int
    ) -> tuple[Samples, Bools]:
        size = digits.BEFORE + len(view) + digits.PADDING
        if len(self._data) < size:
            self._data = np.zeros(size, np.uint8)
        data = self._data[:size]
        data[digits.BEFORE : -digits.PADDING] = np.frombuffer(view, np.uint8)
        data[-digits.PADDING :] = 0
        matches = layout.match(data, starts + digits.BEFORE, ends + digits.BEFORE, self._wanted, self._schema.slice)
        lines = matches.lines
        places = (starts if lines.all() else starts[lines]) + start
        columns, good = self._columns(data, matches, places, source)
        if not good.all():
            columns = [column[good] for column in columns]
            lines = lines.copy()
            lines[np.flatnonzero(lines)[~good]] = False
        return Samples(*columns), lines

    def _columns(
        self, data: NDArray[np.uint8], matches: Matches, places: I64, source: int
    ) -> tuple[list[NDArray[Any]], Bools]:
        """Make the columns of `Samples`, and tell which rows are good."""
        schema, numbers, n = self._schema, matches.numbers, len(places)
        features = np.empty((n, len(schema.feature_names)), np.float32)
        good = np.ones(n, np.bool_)
        for column, name in enumerate(schema.feature_names):
            usable = np.abs(numbers[name]) <= FLOAT32_MAX
            if not usable.all():
                good &= usable
                numbers[name] = np.where(usable, numbers[name], 0.0)
            features[:, column] = numbers[name]
        labels = in_unit(numbers[schema.label])
        good &= labels
        timestamps = self._timestamps(data, matches, n)
        good &= ~np.isnan(timestamps)
        keys = _hashes(matches, schema.id, lambda: hash_offsets(source, places))
        columns: list[NDArray[Any]] = [
            features,
            np.where(labels, numbers[schema.label], 0.0).astype(np.float32),
            timestamps,
            keys,
            keys if schema.session == schema.id else _hashes(matches, schema.session, lambda: keys),
        ]
        for optional, absent, valid in (
            (schema.weight, 1.0, is_weight),
            (schema.teacher, np.nan, in_unit),
            (schema.propensity, np.nan, is_propensity),
        ):
            if optional is None or optional not in numbers:
                columns.append(np.full(n, absent, np.float32))
                continue
            valid_rows = valid(numbers[optional])
            good &= valid_rows
            columns.append(np.where(valid_rows, numbers[optional], absent).astype(np.float32))
        columns.append(self._slices(data, matches, n))
        return columns, good

    def _slices(self, data: NDArray[np.uint8], matches: Matches, n: int) -> U64:
        name = self._schema.slice
        if name is None or name not in matches.texts:
            return np.full(n, NO_SLICE)
        starts, sizes = matches.texts[name]
        slices = of_hashes(hash_spans(matches.words, starts, sizes))
        # Plain text is ASCII.
        self._names.note(slices, lambda row: bytes(data[starts[row] : starts[row] + sizes[row]]).decode())
        return slices

    def _timestamps(self, data: NDArray[np.uint8], matches: Matches, n: int) -> F64:
        name = self._schema.timestamp
        if name is not None and name in matches.numbers:
            return times.from_numbers(matches.numbers[name])
        if name is not None and name in matches.texts and self._form is not None:
            return times.from_places(data, matches.texts[name].starts, self._form)
        return np.full(n, self._clock())


def _fields(schema: Schema) -> list[str | None]:
    return [
        *schema.feature_names,
        schema.label,
        schema.timestamp,
        schema.id,
        schema.session,
        schema.teacher,
        schema.weight,
        schema.propensity,
        schema.slice,
    ]


def _hashes(matches: Matches, name: str | None, default: Callable[[], U64]) -> U64:
    """Hash an identity of each line; where it has none (or an empty one), the default stands."""
    if name is None or name not in matches.texts:
        return default()
    hashes = hash_spans(matches.words, *matches.texts[name])
    without = hashes == NO_TEXT
    return np.where(without, default(), hashes) if without.any() else hashes
