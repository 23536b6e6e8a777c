"""All that the status page shows of one router, gathered with every source of it allowed to fail. Read-only."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from streamtrain import __version__
from streamtrain.config import Config
from streamtrain.dataset.errors import StoreError, StoreMissingError
from streamtrain.dataset.store import Store
from streamtrain.intake import LAST_LEARNED
from streamtrain.model.signature import KeyFileError
from streamtrain.ops.board import Activity, Board
from streamtrain.ops.status import PREQUENTIAL, current_version, dataset, open_alarm
from streamtrain.ops.tally import ReceiptCounter, Tally
from streamtrain.outlet import public_key
from streamtrain.publish.artifact import to_json
from streamtrain.publish.catalog import Catalog
from streamtrain.publish.errors import PublishError
from streamtrain.reading import Quarantined

_LEARNING = {
    "compile": "compiling",
    "window": "training",
    "train": "training",
    "judge": "judging",
    "publish": "publishing",
}
_VERSUS = ("samples", "accuracy_gain", "brier_gain", "evidence", "rolled_back_at")
_HISTORY = 200
_QUARANTINED = 1000
_FRESH_S = 1.0
_SHARE = 20


@dataclass(frozen=True, slots=True)
class Watched:
    """One router of the daemon: its configuration, and the board that the daemon writes.

    Attributes
    ----------
    name : str
        Empty where there is only one.
    config : Config
    board : Board
    """

    name: str
    config: Config
    board: Board


class Overview:
    """Gathers, at most once a second and by one thread at a time, however many look on.

    Parameters
    ----------
    watched : Watched
    clock, monotonic : callable
        Seconds since the epoch; seconds of a clock that is never set back.
    """

    def __init__(
        self,
        watched: Watched,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.watched = watched
        self._clock, self._monotonic = clock, monotonic
        self._guard = threading.Lock()
        self._kept: dict[str, Any] | None = None
        self._fresh_until = 0.0
        models = watched.config.models.directory
        self._counter = ReceiptCounter(models / "receipts.jsonl")
        self._key_trouble: str | None = None
        key = None
        try:
            key = public_key(watched.config)
        except KeyFileError as error:
            self._key_trouble = str(error)
        self.catalog = Catalog(models, public_key=key)

    def now(self) -> dict[str, Any]:
        """Return the state as JSON values; not to be changed. See docs/operating.md for its keys.

        What is shown is at most a second old, or as old as twenty times what gathering it takes.
        """
        with self._guard:
            started = self._monotonic()
            if self._kept is None or started >= self._fresh_until:
                self._kept = to_json(self._gather())
                ended = self._monotonic()
                self._fresh_until = ended + max(_FRESH_S, _SHARE * (ended - started))
            return self._kept

    def quarantine(self) -> list[tuple[str, list[Quarantined]]]:
        """Group the latest quarantined lines by reason, the commonest first.

        Raises
        ------
        StoreError
            If the state database cannot be read.
        """
        groups: dict[str, list[Quarantined]] = {}
        try:
            with self._store() as store:
                for row in store.quarantine(_QUARANTINED):
                    groups.setdefault(row.reason, []).append(row)
        except StoreMissingError:
            return []
        return sorted(groups.items(), key=lambda group: -len(group[1]))

    def _store(self) -> Store:
        config = self.watched.config
        return Store(config.state.directory / "state.db", config.schema.digest, readonly=True)

    def _gather(self) -> dict[str, Any]:
        now, board = self._clock(), self.watched.board
        daemon = board.daemon
        concerns: list[str] = []
        if self._key_trouble is not None:
            concerns.append(self._key_trouble)
        doing = self._doing(now, concerns)
        state = self._state(now, concerns)
        models = self._models(concerns)
        if daemon.refused is not None:
            concerns.append(f"the configuration file is refused and the one from before stays: {daemon.refused[1]}")
        if daemon.stalled:
            concerns.append(f"no progress: {', '.join(daemon.stalled)}")
        prequential = state[PREQUENTIAL]
        alarm = open_alarm(prequential)
        if alarm is not None:
            concerns.append(f"the world has changed and nothing better was published since: {alarm}")
        return {
            "time": now,
            "program": __version__,
            "router": self.watched.name or None,
            "started": daemon.started,
            "ready": daemon.ready,
            "alive": not daemon.stalled,
            "health": "attention" if concerns else "healthy",
            "concerns": concerns,
            "doing": doing,
            **state,
            **models,
            "refused_configuration": None if daemon.refused is None else daemon.refused[1],
        }

    def _doing(self, now: float, concerns: list[str]) -> dict[str, Any]:
        """Tell in one word what is done: learning, where there is any, else reading, else waiting."""
        desk = self.watched.board.desk(self.watched.name)
        activity = Activity() if desk is None else desk.activity
        if desk is None:
            concerns.append("nobody works for this router: see the log")
        if activity.trouble:
            concerns.append(activity.trouble)
        learning = _LEARNING.get(activity.training)
        state = learning or ("reading" if activity.reading == "reading" else "waiting")
        since = activity.training_since if learning else activity.reading_since
        challenges = () if desk is None or activity.training != "train" else desk.challenges
        return {
            "state": state,
            "reading": activity.reading == "reading",
            "detail": activity.detail if learning else "",
            "since": since or None,
            "seconds": max(0.0, now - since) if since else None,
            "queued": activity.queued,
            "ready": activity.ready,
            "epochs": {"done": sum(one.n_done for one in challenges), "most": sum(one.n_most for one in challenges)},
            "challengers": [asdict(one) for one in challenges],
        }

    def _state(self, now: float, concerns: list[str]) -> dict[str, Any]:
        config = self.watched.config
        found: dict[str, Any] = {
            "window": {"samples": None, "oldest": None, "newest": None},
            "ingested": None,
            "lag": {"bytes": None, "seconds": None},
            "rebuilt": None,
            "alarm": None,
            "next": None,
            "quarantine": [],
            PREQUENTIAL: None,
        }
        try:
            with self._store() as store:
                found |= dataset(store, config, now)
                total = found["ingested"]["samples"]
                found["next"] = _next(store.get(LAST_LEARNED), total, found["window"]["samples"], config, now)
                found["quarantine"] = _reasons(store.quarantine(_QUARANTINED))
                found[PREQUENTIAL] = _prequential(store.get(PREQUENTIAL))
        except StoreMissingError:
            found["window"]["samples"] = 0
        except (StoreError, OSError) as error:
            concerns.append(f"the state database could not be read: {error}")
        rebuilt = found["rebuilt"]
        if isinstance(rebuilt, dict):
            concerns.append(
                f"the state database was damaged; it is kept as {rebuilt.get('aside')}, and the dataset was built "
                "again from the logs that were still there"
            )
        return found

    def _models(self, concerns: list[str]) -> dict[str, Any]:
        catalog = self.catalog
        found: dict[str, Any] = {"current": None, "last_decision": None, "published": [], "history": []}
        tally = Tally()
        try:
            current = catalog.current()
            found["current"] = None if current is None else current_version(catalog, current)
            versions = [asdict(one) | {"path": str(one.path)} for one in catalog.versions()]
            found["published"] = versions[::-1]
            candidates = [one for one in catalog.receipts.read(_HISTORY) if one.get("event") == "candidate"]
            found["last_decision"] = candidates[-1] if candidates else None
            found["history"] = [_point(one) for one in candidates]
            tally = self._counter.count()
        except (PublishError, OSError) as error:
            concerns.append(f"the models directory could not be read: {error}")
        current = found["current"]
        if current is not None and current["damage"] is not None:
            concerns.append(f"the current version is damaged: {current['damage']}")
        outcomes = tally.outcomes
        found["cycles"] = {
            "total": sum(outcomes.values()),
            "outcomes": outcomes,
            "refusals": tally.refusals,
            "rollbacks": tally.rollbacks,
        }
        return found


def _next(last: object, n_total: int, n_window: int, config: Config, now: float) -> dict[str, Any] | None:
    """Tell how far it is to the next training."""
    trigger = config.trigger
    if not isinstance(last, dict):
        return None
    seen, time_s = last.get("n_ingested"), last.get("time_s")
    if not isinstance(seen, int) or not isinstance(time_s, (int, float)):
        return None
    return {
        "new_samples": max(0, n_total - seen),
        "wanted": trigger.min_new_samples,
        "window": n_window,
        "window_wanted": trigger.min_samples,
        "at_latest_s": max(0.0, time_s + trigger.max_interval_s - now),
    }


def _prequential(kept: object) -> dict[str, Any] | None:
    """Take what is kept of the accuracy on new samples, as far as it is what it should be."""
    if not isinstance(kept, dict) or _number(kept.get("accuracy")) is None:
        return None
    points, alarms = kept.get("points"), kept.get("alarms")
    return {
        "accuracy": _number(kept["accuracy"]),
        "drift": _number(kept.get("drift")),
        "points": [
            [float(one[0]), float(one[1])]
            for one in (points if isinstance(points, list) else [])
            if isinstance(one, list) and len(one) == 2 and None not in map(_number, one)
        ],
        "alarms": [
            [float(one[0]), str(one[1])]
            for one in (alarms if isinstance(alarms, list) else [])
            if isinstance(one, list) and len(one) == 2 and _number(one[0]) is not None
        ],
        "versus": _versus(kept.get("versus")),
        "psi": _most(kept.get("psi")),
    }


def _versus(kept: object) -> dict[str, Any] | None:
    """Take the figures of champion against shadow, as far as they are what they should be."""
    if not isinstance(kept, dict) or any(_number(kept.get(name)) is None for name in _VERSUS):
        return None
    names = {name: str(kept.get(name)) for name in ("champion", "shadow")}
    return names | {name: _number(kept[name]) for name in _VERSUS}


def _most(kept: object) -> float | None:
    """Take the largest of some numbers."""
    numbers = [_number(one) for one in kept] if isinstance(kept, list) else []
    return max((one for one in numbers if one is not None), default=None)


def _reasons(rows: list[Quarantined]) -> list[dict[str, Any]]:
    return [{"reason": reason, "lines": n} for reason, n in Counter(row.reason for row in rows).most_common(50)]


def _point(receipt: dict[str, Any]) -> dict[str, Any]:
    rules = receipt.get("rules")
    floors = [
        rule.get("bound")
        for rule in (rules if isinstance(rules, list) else [])
        if isinstance(rule, dict) and rule.get("name") == "min_accuracy"
    ]
    return {
        "time": receipt.get("time"),
        "outcome": str(receipt.get("outcome")),
        "version": receipt.get("version"),
        "accuracy": _number(receipt.get("holdout_accuracy")),
        "floor": _number(floors[0]) if floors else None,
    }


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
