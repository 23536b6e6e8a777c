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
    """

    features: tuple[str, ...] | VectorField = GUIDE_FEATURES
    label: str = "lightweight_successful"
    timestamp: str | None = "timestamp"
    id: str | None = "id"
    session: str | None = None
    teacher: str | None = None
    weight: str | None = None
    propensity: str | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the D features in column order; an array's are ``field[0]``, ``field[1]`` and so on."""
        if isinstance(self.features, VectorField):
            return tuple(f"{self.features.field}[{index}]" for index in range(self.features.dim))
        return self.features

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the whole schema; samples of different digests are never mixed."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
