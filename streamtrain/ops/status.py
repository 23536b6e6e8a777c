"""What an operator asks first: is it reading, what is served, what was decided last and why. Read-only."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from streamtrain.config import Config
from streamtrain.dataset.errors import StoreError, StoreMissingError
from streamtrain.dataset.migration import MIGRATED
from streamtrain.dataset.rescue import REBUILT
from streamtrain.dataset.store import Store
from streamtrain.ingest.ingestor import Ingestor
from streamtrain.intake import ingest_options
from streamtrain.publish.catalog import Catalog
from streamtrain.publish.registry import PublishError, VersionError

REFUSED = "refused_configuration"
"""The fact under which the daemon notes in the store that it goes on under an earlier configuration, and why."""


PREQUENTIAL = "prequential"
"""The fact under which the state database keeps the champion's accuracy on samples as they come, once it is measured:
``{"accuracy": 0..1, "drift": number or null, "points": [[time, accuracy], …], "alarms": [[time, what], …], "versus":
{"champion", "shadow", "samples", "accuracy_gain", "brier_gain", "evidence", "rolled_back_at"} or null, "psi": [number
of each feature] or null}``, and what only its writer reads. "drift" is above 1 from an alarm to a publish."""


def collect(config: Config, now: float | None = None) -> dict[str, Any]:
    """Gather the state of a service from its database, its logs and its models directory.

    Parameters
    ----------
    config : Config
    now : float, optional
        Seconds since the epoch; the clock's if None.

    Returns
    -------
    dict
        JSON values: "window", "current", "last_decision", "last_change", "alarm", "exploration", "lag", "ingested",
        "versions", and "refused_configuration" where a running daemon could not use what the file was changed into.
    """
    moment = time.time() if now is None else now
    catalog = Catalog(config.models.directory)
    current = catalog.current()
    receipts = catalog.receipts.read(200)
    decisions = [one for one in receipts if one.get("event") == "candidate"]
    return {
        **_dataset(config, moment),
        "current": None if current is None else current_version(catalog, current),
        "last_decision": decisions[-1] if decisions else None,
        "last_change": _last_change(receipts),
        "exploration": next((one["exploration"] for one in reversed(decisions) if one.get("exploration")), None),
        "versions": len(catalog.names()),
    }


def _last_change(receipts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the last rollback or promotion that was done, if nothing was published since."""
    for one in receipts[::-1]:
        if one.get("event") in ("rollback", "promote") and one.get("outcome") is None:
            return one
        if one.get("outcome") == "published":
            return None
    return None


def open_alarm(fact: object) -> str | None:
    """Say what the last alarm of drift was, if nothing judged by what came after it was published since."""
    drift, alarms = (fact.get("drift"), fact.get("alarms")) if isinstance(fact, dict) else (None, None)
    if not isinstance(drift, float) or drift <= 1 or not isinstance(alarms, list) or not alarms:
        return None
    return str(alarms[-1][1])


def collect_all(configs: Mapping[str, Config], now: float | None = None) -> dict[str, dict[str, Any]]:
    """Gather the state of each router; {"error": why} of one of which nothing can be told, beside the others."""
    states: dict[str, dict[str, Any]] = {}
    for name, config in configs.items():
        try:
            states[name] = collect(config, now)
        except (StoreError, PublishError, OSError) as error:
            states[name] = {"error": str(error)}
    return states


def current_version(catalog: Catalog, name: str) -> dict[str, Any]:
    """Tell of a version what an operator asks first.

    Parameters
    ----------
    catalog : Catalog
    name : str
        May be damaged or gone: then "damage" says so.

    Returns
    -------
    dict
        JSON values: "version", "holdout_accuracy", "published", "parent", "damage".
    """
    try:
        manifest = catalog.manifest(name)
    except (PublishError, VersionError) as error:
        return {"version": name, "holdout_accuracy": None, "published": None, "parent": None, "damage": str(error)}
    return {
        "version": name,
        "holdout_accuracy": manifest.get("test_accuracy"),
        "published": manifest.get("timestamp"),
        "parent": manifest.get("parent"),
        "damage": None,
    }


def _dataset(config: Config, now: float) -> dict[str, Any]:
    try:
        store = Store(config.state.directory / "state.db", config.schema.digest, readonly=True)
    except StoreMissingError:
        return {"window": {"samples": 0}, "ingested": None, "lag": {"bytes": None, "seconds": None}}
    with store:
        return dataset(store, config, now)


def dataset(store: Store, config: Config, now: float) -> dict[str, Any]:
    """Tell what a store holds, what was ever read, and what was not read yet.

    Parameters
    ----------
    store : Store
    config : Config
    now : float
        Seconds since the epoch.

    Returns
    -------
    dict
        JSON values: "window", "ingested", "lag", "rebuilt", "migrated".

    Raises
    ------
    StoreError
    """
    counts = store.counts()
    behind_bytes, behind_s = Ingestor(store, config.schema, ingest_options(config), clock=lambda: now).lag()
    return {
        "window": {
            "samples": min(counts.n_samples, config.dataset.window),
            "oldest": counts.oldest,
            "newest": counts.newest,
        },
        "ingested": {
            "lines": counts.n_lines,
            "samples": counts.n_total_ingested,
            "duplicates": counts.n_duplicates,
            "quarantined": counts.n_quarantined,
            "waiting": counts.n_waiting,
            "pending": counts.n_waiting + counts.n_pending,
            "unlabelled": counts.n_unlabelled,
            "expired": counts.n_expired,
            "lost_bytes": counts.lost_bytes,
        },
        "lag": {"bytes": behind_bytes, "seconds": behind_s},
        "rebuilt": store.get(REBUILT),
        "migrated": store.get(MIGRATED),
        REFUSED: store.get(REFUSED),
        "alarm": open_alarm(store.get(PREQUENTIAL)),
    }
