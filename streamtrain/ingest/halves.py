"""Rows of a log whose records come in two lines → checked halves, each known by the hash of its key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamtrain.ingest.columns import Columns
from streamtrain.ingest.labels import LabelError, Labeller
from streamtrain.ingest.schema import Join, Schema, VectorField
from streamtrain.ingest.slices import SliceNames


class Decision(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first half of a record: everything of a sample but its label."""

    time_s: float
    features: bytes
    group: int
    weight: float
    teacher: float
    propensity: float
    model: str | None
    source: int
    start: int
    end: int
    slice: int = 0


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The second half: the label, or what it is to be judged from once the model that ran is known."""

    time_s: float
    label: float | None
    quality: float | None
    model: str | None
    source: int
    start: int
    end: int
    slice: int = 0


@dataclass(frozen=True, slots=True)
class Half:
    """One line of a record that comes in two, under the hash of its key (signed, as the database holds it)."""

    key: int
    value: Decision | Outcome


class HalfColumns:
    """Halves of one schema that joins.

    Parameters
    ----------
    schema : Schema
    join : Join
        Of the schema.
    clock : callable
        Seconds since the epoch, for lines without a time.
    names : SliceNames
        Where the names of slices are noted.

    Attributes
    ----------
    line_type : type
        The msgspec struct that a line of either kind is decoded into.
    labeller : Labeller
    """

    def __init__(self, schema: Schema, join: Join, clock: Callable[[], float], names: SliceNames) -> None:
        self.labeller = Labeller(schema)
        self._schema = schema
        self._join = join
        # The key is the identity for now; it also is the session, where the log has none.
        plain = replace(schema, id=join.key, session=schema.session or join.key, scores=None, join=None)
        self._columns = Columns(plain, clock, names)
        dim = len(schema.feature_names)
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
            ("kind", Literal.__getitem__((join.decision, join.outcome))),
            ("id", str | int),
        ]
        rename = {"kind": join.kind, "id": join.key}
        if isinstance(schema.features, VectorField):
            self._features = {"x": schema.features.field}
            vector = Annotated[list[float], msgspec.Meta(min_length=dim, max_length=dim)]
            fields.append(("x", vector | None, None))
        else:
            self._features = {f"x{index}": name for index, name in enumerate(schema.features)}
            fields += [(attribute, float | None, None) for attribute in self._features]
        rename |= self._features
        for attribute, name, kind in (
            ("t", schema.timestamp, float | str | None),
            ("session", schema.session, str | int | None),
            ("teacher", schema.teacher, float | None),
            ("weight", schema.weight, float | None),
            ("propensity", schema.propensity, float | None),
            ("slice", schema.slice, msgspec.Raw),
            ("label", schema.label, bool | float | None),
            ("scores", schema.scores, dict[str, float | None] | None),
            ("quality", schema.quality, float | None),
            ("model", schema.model, str | None),
        ):
            if name is not None and name not in rename.values():
                fields.append((attribute, kind, None))
                rename[attribute] = name
        # What the log has no field for is as if it were missing in every line.
        namespace: dict[str, Any] = {name: None for name in ("t", "scores", "quality", "model") if name not in rename}
        namespace["y"] = 0.0
        self.line_type: type[Any] = msgspec.defstruct("Line", fields, rename=rename, namespace=namespace, gc=False)

    def read(
        self, rows: list[Any], starts: NDArray[np.int64], ends: NDArray[np.int64], source: int
    ) -> tuple[list[Half], dict[int, str]]:
        """Turn rows into halves and check them.

        Parameters
        ----------
        rows : list of `line_type`, (N,)
        starts, ends : int64, (N,)
            Where each line lies in its source.
        source : int
            Key of the source.

        Returns
        -------
        halves : list of Half
            Of the good rows, in order.
        wrong : dict of int to str
            What is wrong with each of the others, by its index.
        """
        wrong: dict[int, str] = {}
        usable = []
        for index, row in enumerate(rows):
            missing = None if row.kind != self._join.decision else self._missing(row)
            if missing is None:
                usable.append(index)
            else:
                wrong[index] = f"a decision without {missing!r}"
        # Outcomes go through the same checks of key and time, with features of no meaning.
        given = [rows[index] for index in usable]
        for row in given:
            if row.kind == self._join.outcome:
                self._blank(row)
        samples, failed = self._columns.samples(given, starts[usable], source)
        wrong |= {usable[place]: reason for place, reason in failed.items()}
        halves: list[Half] = []
        good = [index for place, index in enumerate(usable) if place not in failed]
        keys = samples.keys.view(np.int64)
        for place, index in enumerate(good):
            row, key = rows[index], int(keys[place])
            where = (source, int(starts[index]), int(ends[index]))
            time_s = float(samples.timestamps[place])
            if row.kind == self._join.outcome:
                try:
                    label = self._label(row)
                except LabelError as error:
                    wrong[index] = str(error)
                    continue
                slice_ = int(samples.slices[place])
                halves.append(Half(key, Outcome(time_s, label, row.quality, row.model, *where, slice_)))
                continue
            value = Decision(
                time_s,
                samples.features[place].tobytes(),
                int(samples.groups[place]),
                float(samples.weights[place]),
                float(samples.teachers[place]),
                float(samples.propensities[place]),
                row.model,
                *where,
                int(samples.slices[place]),
            )
            halves.append(Half(key, value))
        return halves, wrong

    def _label(self, row: Any) -> float | None:
        if row.scores is not None:
            return self.labeller.from_scores(row.scores)
        if row.label is not None and not 0.0 <= row.label <= 1.0:
            raise LabelError(f"{self._schema.label!r} is {row.label:g}, expected true, false or a number in 0..1")
        return None if row.label is None else float(row.label)

    def _missing(self, row: Any) -> str | None:
        """Name the first feature that a row does not have."""
        return next((name for attribute, name in self._features.items() if getattr(row, attribute) is None), None)

    def _blank(self, row: Any) -> None:
        dim = len(self._schema.feature_names)
        for attribute in self._features:
            setattr(row, attribute, [0.0] * dim if isinstance(self._schema.features, VectorField) else 0.0)
