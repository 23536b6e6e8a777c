"""The standing of what serves: all that is known of it on new samples, as one fact of the state database."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import Any

from streamtrain.config.sections import DriftSection
from streamtrain.dataset.tail import Place
from streamtrain.judge.betting import Bets
from streamtrain.judge.drift import Monitor
from streamtrain.judge.served import Curve

_LOG = logging.getLogger(__name__)

FACT = "prequential"
FORM = 2
"""Of the fact."""


@dataclass(frozen=True, slots=True)
class Change:
    """When the world last changed, as far as an alarm tells.

    Attributes
    ----------
    n : int
        Samples ever ingested until then.
    time_s : float
        Timestamp of the first sample after it.
    found : int
        Samples ever ingested when it was found.
    text : str
    open : bool
        Whether nothing has been published since that was judged by what came after it.
    """

    n: int
    time_s: float
    found: int
    text: str
    open: bool = True


@dataclass(slots=True)
class Standing:
    """The fact, taken apart.

    Attributes
    ----------
    place : Place
        In the dataset, up to which samples were answered.
    champion, shadow : str or None
        The current version, and the last one that proved itself.
    n_own : int
        Samples that the champion answered beside its shadow.
    own_decisions, own_brier : float
        By how much it was behind on them, in sum: decisions, and Brier scores.
    bets, own_bets : Bets
        Against the champions since the shadow, and against the champion alone; `most` and `own_most` are the most that
        they ever were worth.
    monitor : Monitor
        The detectors on its errors and losses.
    shift : dict or None
        State of the detector on features.
    curve : Curve
        Its accuracy over time.
    alarms : list of [timestamp, text]
    change : Change or None
        The last one.
    """

    place: Place
    champion: str | None
    shadow: str | None
    n_own: int
    own_decisions: float
    own_brier: float
    bets: Bets
    most: float
    own_bets: Bets
    own_most: float
    monitor: Monitor
    shift: dict[str, Any] | None
    curve: Curve
    alarms: list[list[Any]]
    change: Change | None

    @classmethod
    def fresh(cls, settings: DriftSection, place: Place) -> Standing:
        """Know nothing yet."""
        monitor = Monitor(settings.adwin_delta, settings.page_hinkley)
        return cls(place, None, None, 0, 0.0, 0.0, Bets(), 1.0, Bets(), 1.0, monitor, None, Curve(), [], None)

    @classmethod
    def of(cls, kept: object, settings: DriftSection, schema: str) -> Standing | None:
        """Take the fact apart; None where there is none, or it is of another schema or another program's."""
        if not isinstance(kept, dict) or not isinstance(inner := kept.get("state"), dict):
            return None
        if inner.get("schema") != schema or inner.get("form") != FORM:
            return None
        try:
            state = cls.fresh(settings, Place(int(inner["n"]), tuple(map(int, inner["anchors"]))))
            state.champion, state.shadow = inner["champion"], inner["shadow"]
            state.n_own, state.own_decisions, state.own_brier = inner["own"]
            state.bets, state.most = Bets.of(inner["bets"]), float(inner["most"])
            state.own_bets, state.own_most = Bets.of(inner["own_bets"]), float(inner["own_most"])
            state.monitor.resume(inner["monitor"])
            state.shift = inner["shift"]
            state.curve = Curve.of(inner["curve"], list(kept["points"]))
            state.alarms = list(kept["alarms"])
            state.change = None if inner["change"] is None else Change(**inner["change"])
        except (KeyError, TypeError, ValueError) as error:
            _LOG.warning("what is known of the champion on new samples can't be read and begins anew: %s", error)
            return None
        return state

    def fact(self, settings: DriftSection, schema: str) -> dict[str, Any]:
        """Put the fact together: what is read by others, and the state."""
        return {
            "accuracy": self.curve.accuracy,
            "drift": self._drift(),
            "points": self.curve.points,
            "alarms": self.alarms,
            "versus": self.versus(settings),
            "psi": (self.shift or {}).get("psi"),
            "state": {
                "form": FORM,
                "schema": schema,
                "n": self.place.n,
                "anchors": self.place.anchors,
                "champion": self.champion,
                "shadow": self.shadow,
                "own": [self.n_own, self.own_decisions, self.own_brier],
                "bets": self.bets.state(),
                "most": min(self.most, 1e300),
                "own_bets": self.own_bets.state(),
                "own_most": min(self.own_most, 1e300),
                "monitor": self.monitor.state(),
                "shift": self.shift,
                "curve": self.curve.state(),
                "change": None if self.change is None else asdict(self.change),
            },
        }

    def versus(self, settings: DriftSection) -> dict[str, Any] | None:
        """Figures of champion against shadow, for whoever looks on."""
        if self.shadow in (None, self.champion):
            return None
        n = max(1, self.n_own)
        return {
            "champion": self.champion,
            "shadow": self.shadow,
            "samples": self.n_own,
            "accuracy_gain": -self.own_decisions / n,
            "brier_gain": -self.own_brier / n,
            "evidence": min(self.bets.wealth, 1e300),
            "rolled_back_at": limit(settings),
        }

    def _drift(self) -> float:
        """Largest statistic of a detector, and above 1 as long as nothing was published after an alarm."""
        statistic = max(self.monitor.statistic, float((self.shift or {}).get("statistic", 0.0)))
        open_ = self.change is not None and self.change.open
        return max(statistic, 1.0 + 1e-3) if open_ else min(statistic, 1.0)


def limit(settings: DriftSection) -> float:
    """Wealth at which a champion is rolled back."""
    return 1.0 / (1.0 - settings.rollback_confidence)


def change_in(kept: object) -> Change | None:
    """Read the last change from the fact."""
    inner = kept.get("state") if isinstance(kept, dict) else None
    found = inner.get("change") if isinstance(inner, dict) else None
    try:
        return Change(**found) if isinstance(found, dict) else None
    except TypeError:
        return None
