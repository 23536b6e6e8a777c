"""What a line of the routing log means: which field is a feature, the label, the time, the identity."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

GUIDE_FEATURES = ("similarity_score", "recency_score", "popularity_score", "success_rate", "complexity_score")


@dataclass(frozen=True, slots=True)
class VectorField:
    """All features in one JSON array.

    Attributes
    ----------
    field : str
        Name of the field that holds the array.
    dim : int
        Its length D.
    """

    field: str
    dim: int


@dataclass(frozen=True, slots=True)
class Join:
    """A record comes in two lines, a decision with the features and an outcome with the label, joined by a key.

    Attributes
    ----------
    key : str
        Field of both lines with the key, a string or a whole number, such as a hash of the task.
    kind : str
        Field that tells the two apart.
    decision, outcome : str
        Its values.
    max_age_s : float
        A half that has waited for so long for the other is given up and counted.
    max_pending : int
        At most so many wait; beyond, those that waited longest are given up and counted.
    """

    key: str = "task_hash"
    kind: str = "type"
    decision: str = "decision"
    outcome: str = "outcome"
    max_age_s: float = 7 * 86400.0
    max_pending: int = 100_000


@dataclass(frozen=True, slots=True)
class Schema:
    """The fields of a log line; the defaults are the guide's routing log. Other fields of a line are ignored.

    Attributes
    ----------
    features : tuple of str, or VectorField
        One numeric field per feature, in column order; or one array. Required in every line.
    label : str
        Field with the label: true, false or a number in 0..1; 1 = the lightweight model was good enough. Required.
    timestamp : str or None
        Field with the time: seconds or milliseconds since the epoch, or RFC 3339. A line without it gets the time at
        which it is read.
    id : str or None
        Field with the record's identity, a string or a whole number. A line without it is identified by
        file and offset.
    session : str or None
        Field with the session, which is split and sequenced as one. Without it each sample is its own.
    teacher : str or None
        Field with a teacher's probability of label 1, in 0..1.
    weight : str or None
        Field with the sample's weight, finite and ≥ 0.
    propensity : str or None
        Field with the probability with which the logged choice was made, in (0, 1].
    slice : str or None
        Field with what the record belongs to, such as a task: a text, a number or a truth; anything else is no slice,
        and no fault.
    scores : str or None
        Field with the score of each model, by name. The label is then made from it, and the field `label` is not read:
        1 where the cheapest of the scored models that have a price is within `tolerance` of the best, else 0.
    prices : tuple of (str, float)
        Price of each model, in any unit.
    tolerance : float
    quality, model : str or None
        For lines of `join` without scores: fields with the quality of the answer, and of the model that gave it. The
        label is then 1 if the quality is at least `min_quality`, but only where the cheapest model of `prices` ran;
        what another model made of a task says nothing about the cheapest.
    min_quality : float
    join : Join or None
        A record is two lines. `id` is then not read, and without `session` records of one key are one session.
    """

    features: tuple[str, ...] | VectorField = GUIDE_FEATURES
    label: str = "lightweight_successful"
    timestamp: str | None = "timestamp"
    id: str | None = "id"
    session: str | None = None
    teacher: str | None = None
    weight: str | None = None
    propensity: str | None = None
    slice: str | None = None
    scores: str | None = None
    prices: tuple[tuple[str, float], ...] = ()
    tolerance: float = 0.05
    quality: str | None = None
    model: str | None = None
    min_quality: float = 0.7
    join: Join | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the D features in column order; an array's are ``field[0]``, ``field[1]`` and so on."""
        if isinstance(self.features, VectorField):
            return tuple(f"{self.features.field}[{index}]" for index in range(self.features.dim))
        return self.features

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of what makes samples; those of different digests are never mixed."""
        fields = asdict(self)
        if self.join is not None:
            # How long a half is waited for changes no sample.
            del fields["join"]["max_age_s"], fields["join"]["max_pending"]
        fields = {name: value for name, value in fields.items() if name in _ALWAYS or value != _DEFAULTS[name]}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


_ALWAYS = ("features", "label", "timestamp", "id", "session", "teacher", "weight", "propensity")
_DEFAULTS = asdict(Schema())

TRAJECTORY = Schema(
    features=VectorField("embedding", 384),
    timestamp="ts",
    id=None,
    scores="scores",
    prices=(("haiku", 1.0), ("opus", 5.0), ("sonnet", 3.0)),
    quality="quality",
    model="model",
    join=Join(),
)
"""The routing log that the Tiny Dancer ecosystem writes: decisions and outcomes, joined on the hash of the task."""
