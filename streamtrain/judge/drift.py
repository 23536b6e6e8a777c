"""Has the world changed? The champion's errors and log losses on samples as they come, watched by four detectors.

ADWIN finds any change of the mean within some dozens of samples if it is large; Page-Hinkley finds a slow rise. Both
watch errors (0 or 1) and log losses. Only what gets worse is an alarm: a stream also changes when a better version is
published, and after that all four begin anew, as they do after an alarm.

The limits are for at most one false alarm in 100,000 samples of a stream that does not change, also where requests of
a session stand or fall together; `make bench-drift` counts them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from streamtrain.judge.adwin import Adwin
from streamtrain.judge.page_hinkley import PageHinkley
from streamtrain.types import F32, F64

LEAST_PROBABILITY = 0.01
"""A loss is cut off at that of this probability, and is a share of it: one answer that was very wrong is no change."""
ERROR_DELTA = 0.05
LOSS_DELTA = 0.02
"""What Page-Hinkley lets pass: in accuracy, and in log loss as a share of the largest."""
LOSS_THRESHOLD = 0.3
"""Page-Hinkley's threshold on losses, as a share of that on errors."""
MIN_INSTANCES = 100

_MOST = -math.log(LEAST_PROBABILITY)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A change was found.

    Attributes
    ----------
    at : int
        Index of the sample, among those handed over, at which it was found.
    ago : int
        How many samples, that one among them, came after the change.
    text : str
        What was found, in words.
    """

    at: int
    ago: int
    text: str


def losses_of(labels: F32 | F64, probabilities: F64) -> F64:
    """Log losses as shares of the largest that counts, in 0..1.

    Parameters
    ----------
    labels, probabilities : float, (N,)

    Returns
    -------
    float64, (N,)
    """
    p = np.clip(probabilities, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    y = labels.astype(np.float64)
    losses: F64 = -(y * np.log(p) + (1.0 - y) * np.log1p(-p)) / _MOST
    return losses


class Monitor:
    """The four detectors.

    Parameters
    ----------
    adwin_delta : float
        ADWIN's significance.
    threshold : float
        Page-Hinkley's on errors; 0 for none.
    """

    def __init__(self, adwin_delta: float, threshold: float) -> None:
        self._delta, self._threshold = adwin_delta, threshold or math.inf
        self._begin()

    def _begin(self) -> None:
        self._adwins = (Adwin(self._delta), Adwin(self._delta))
        self._hinkleys = (
            PageHinkley(self._threshold, ERROR_DELTA, MIN_INSTANCES),
            PageHinkley(self._threshold * LOSS_THRESHOLD, LOSS_DELTA, MIN_INSTANCES),
        )

    @property
    def statistic(self) -> float:
        """How far the nearest detector is towards an alarm; above 1 would be one."""
        return max(*(one.statistic for one in self._adwins), *(one.statistic for one in self._hinkleys))

    def add(self, errors: F64, losses: F64) -> list[Alarm]:
        """Take samples in, in order; which of them come in one call changes nothing.

        Parameters
        ----------
        errors : float64, (N,)
            1 where the champion decided wrongly.
        losses : float64, (N,)
            From `losses_of`.

        Returns
        -------
        list of Alarm
        """
        alarms = []
        for i, (error, loss) in enumerate(zip(errors.tolist(), losses.tolist(), strict=True)):
            found = self._one(error, loss)
            if found is not None:
                self._begin()
                if found.text:
                    alarms.append(Alarm(i, found.ago, found.text))
        return alarms

    def _one(self, error: float, loss: float) -> Alarm | None:
        """Take one sample in; an alarm without words is a change for the better."""
        (on_errors, on_losses), (errors_rise, losses_rise) = self._adwins, self._hinkleys
        worse, dearer = on_errors.add(error), on_losses.add(loss)
        more, higher = errors_rise.add(error), losses_rise.add(loss)
        if worse > 0:
            return Alarm(0, on_errors.ago, f"ADWIN: accuracy fell by {100 * worse:.1f} points")
        if dearer > 0:
            return Alarm(0, on_losses.ago, f"ADWIN: log loss rose by {_MOST * dearer:.3f}")
        if more:
            return Alarm(0, errors_rise.since, "Page-Hinkley: accuracy has been falling")
        if higher:
            return Alarm(0, losses_rise.since, "Page-Hinkley: log loss has been rising")
        return Alarm(0, 0, "") if worse < 0 or dearer < 0 else None

    def state(self) -> dict[str, Any]:
        """All that the next samples depend on, as JSON values."""
        return {
            "adwins": [one.state() for one in self._adwins],
            "page_hinkleys": [one.state() for one in self._hinkleys],
        }

    def resume(self, state: dict[str, Any]) -> Self:
        """Go on from a `state`."""
        first, second = state["adwins"]
        self._adwins = (Adwin.of(self._delta, first), Adwin.of(self._delta, second))
        for detector, kept in zip(self._hinkleys, state["page_hinkleys"], strict=True):
            detector.resume(kept)
        return self
