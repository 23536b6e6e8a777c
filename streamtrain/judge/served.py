"""What is known of the version that serves, from samples that came after it: figures, evidence, detectors, alarms.

All of it is one JSON value, so that it is written whole or not at all; which samples come in one call changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from streamtrain.types import F32, F64, U64

FADING = 0.998
"""Each sample counts so much of the one after it (prequential with a fading factor; Gama et al. 2013): about the last
500 samples make the figure."""
POINT_EVERY = 100
POINTS = 400
ALARMS = 50


@dataclass(frozen=True, slots=True)
class Answers:
    """What the champion, and perhaps its shadow, answered to samples with known outcomes, in the order of reading.

    Attributes
    ----------
    labels : float32, (N,)
    timestamps : float64, (N,)
    champion : float64, (N,)
        Probabilities of label 1.
    shadow : float64, (N,), or None
    sessions : uint64, (N,), or None
        None where each sample is its own.
    """

    labels: F32
    timestamps: F64
    champion: F64
    shadow: F64 | None = None
    sessions: U64 | None = None

    @property
    def right(self) -> F64:
        """1 where the champion decided right, else 0."""
        return decided_right(self.labels, self.champion)


def decided_right(labels: F32, probabilities: F64) -> F64:
    """Return 1 where a decision at 0.5 is that of the label, else 0."""
    return np.equal(probabilities >= 0.5, labels >= 0.5).astype(np.float64)


def advantages(answers: Answers) -> tuple[F64, F64]:
    """Advantage of the shadow on each sample: in decisions (-1, 0 or 1), and in the Brier score (-1 to 1)."""
    if answers.shadow is None:
        raise ValueError("advantages: there is no shadow")
    y = answers.labels.astype(np.float64)
    decisions = decided_right(answers.labels, answers.shadow) - answers.right
    return decisions, (answers.champion - y) ** 2 - (answers.shadow - y) ** 2


class Curve:
    """The accuracy on samples as they come, now and over time.

    Attributes
    ----------
    points : list of [time, accuracy]
        One every so many samples, thinned out as there get many. Times never fall.
    """

    def __init__(self) -> None:
        self._right = self._weight = 0.0
        self._n = 0
        self._step = POINT_EVERY
        self._time = 0.0
        self.points: list[list[float]] = []

    @property
    def accuracy(self) -> float | None:
        """The faded mean; None of nothing."""
        return self._right / self._weight if self._weight else None

    def add(self, right: F64, timestamps: F64) -> None:
        """Take samples in, in order."""
        for one, time_s in zip(right.tolist(), timestamps.tolist(), strict=True):
            self._right = FADING * self._right + one
            self._weight = FADING * self._weight + 1.0
            self._time = max(self._time, time_s)
            self._n += 1
            if self._n % self._step == 0:
                self.points.append([self._time, round(self._right / self._weight, 4)])
                if len(self.points) > POINTS:
                    del self.points[::2]
                    self._step *= 2

    def state(self) -> list[float]:
        """All but the points that the next samples depend on, as JSON values."""
        return [self._right, self._weight, self._n, self._step, self._time]

    @classmethod
    def of(cls, state: list[Any], points: list[list[float]]) -> Curve:
        """Go on from a `state`."""
        made = cls()
        made._right, made._weight, made._n, made._step, made._time = state
        made.points = points
        return made
