"""Metrics for Prometheus, read off the state when somebody asks; names and units by Prometheus's conventions.

Counters come from the state database and from the
receipts, and so survive restarts; only how long stages take is counted in this process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.registry import Collector

from streamtrain import __version__
from streamtrain.ops.overview import Overview
from streamtrain.publish.durable import write_file

_LOG = logging.getLogger(__name__)

WRITE_INTERVAL_S = 15.0
_CLOSE_S = 1.0
BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
STATES = ("waiting", "reading", "compiling", "training", "judging", "publishing")
_OUTCOMES = ("published", "rejected", "skipped", "failed", "interrupted")
# Name, meaning, and where it is in the overview.
_COUNTERS = (
    ("lines", "Log lines read.", ("ingested", "lines")),
    ("samples", "Samples added to the dataset.", ("ingested", "samples")),
    ("duplicates", "Lines that were read before.", ("ingested", "duplicates")),
    ("quarantined_lines", "Lines that are no samples.", ("ingested", "quarantined")),
    ("unlabelled_outcomes", "Outcomes that no label can be made from.", ("ingested", "unlabelled")),
    ("expired_halves", "Halves of records given up.", ("ingested", "expired")),
)
_GAUGES = (
    ("window_samples", "Samples in the rolling window.", ("window", "samples")),
    ("pending", "Unfinished lines, and halves of records that wait for the other half.", ("ingested", "pending")),
    ("lost_bytes", "Bytes of logs that disappeared before they were read.", ("ingested", "lost_bytes")),
    ("lag_bytes", "Bytes of logs not read yet.", ("lag", "bytes")),
    ("lag_seconds", "Age of the oldest bytes not read yet.", ("lag", "seconds")),
    ("champion_accuracy_ratio", "Holdout accuracy of the current version.", ("current", "holdout_accuracy")),
    ("prequential_accuracy_ratio", "The champion's accuracy on samples as they come.", ("prequential", "accuracy")),
    ("drift", "The drift detectors' statistic; above 1 from an alarm to a publish.", ("prequential", "drift")),
    ("feature_shift", "Largest population stability index of a feature.", ("prequential", "psi")),
)


class Telemetry:
    """The metrics of a daemon, in a registry of its own.

    Parameters
    ----------
    overviews : callable
        Returns those of all routers.
    """

    def __init__(self, overviews: Callable[[], Sequence[Overview]]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Routers(overviews))
        ProcessCollector(registry=self._registry)
        self._stages = Histogram(
            "streamtrain_stage_duration_seconds",
            "How long stages take.",
            ("router", "stage"),
            registry=self._registry,
            buckets=BUCKETS_S,
        )

    def observe(self, router: str, stage: str, seconds: float) -> None:
        """Count that a stage took so long; an `Observer` of the board."""
        self._stages.labels(router, stage).observe(seconds)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """Write all metrics in the text format of Prometheus, or of OpenMetrics where that is accepted.

        Parameters
        ----------
        accept : str
            The request's header Accept.

        Returns
        -------
        body : bytes
        content_type : str
        """
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def write(self, file: Path) -> None:
        """Replace a textfile of node_exporter's by the metrics of now, whole or not at all; everybody may read it.

        Parameters
        ----------
        file : Path

        Raises
        ------
        OSError
        """
        write_file(file, generate_latest(self._registry), 0o644)


class Textfile:
    """Keeps a textfile up to date from a thread of its own.

    Parameters
    ----------
    telemetry : Telemetry
    file : Path
    interval_s : float
    """

    def __init__(self, telemetry: Telemetry, file: Path, interval_s: float = WRITE_INTERVAL_S) -> None:
        self.file = file
        self._telemetry, self._interval_s = telemetry, interval_s
        self._stopping = threading.Event()
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="textfile", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write it a last time, and stop; where that takes long, it is left behind."""
        self._stopping.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while True:
            stopping = self._stopping.is_set()
            try:
                self._telemetry.write(self.file)
                self._trouble = None
            except OSError as error:
                if str(error) != self._trouble:
                    _LOG.warning("status.textfile %s can't be written, trying on: %s", self.file, error)
                self._trouble = str(error)
            if stopping:
                return
            self._stopping.wait(self._interval_s)


class _Routers(Collector):
    def __init__(self, overviews: Callable[[], Sequence[Overview]]) -> None:
        self._overviews = overviews

    def describe(self) -> Iterable[Metric]:
        """Name nothing in advance: that would need the state."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield a family for each metric that is known of some router."""
        overviews = self._overviews()
        found = [({"router": one.watched.name} if one.watched.name else {}, one, one.now()) for one in overviews]
        yield InfoMetricFamily("streamtrain_build", "Version of the program.", {"version": __version__})
        for name, meaning, path in _COUNTERS:
            counter = CounterMetricFamily(f"streamtrain_{name}", meaning, labels=("router",))
            yield from _filled(counter, [(labels, _at(state, path)) for labels, _, state in found])
        for name, meaning, path in _GAUGES:
            gauge = GaugeMetricFamily(f"streamtrain_{name}", meaning, labels=("router",))
            yield from _filled(gauge, [(labels, _at(state, path)) for labels, _, state in found])
        names = [labels.get("router", "") for labels, _, _ in found]
        yield from _shadow(names, [state.get("prequential") for _, _, state in found])
        yield from _models(names, [state for _, _, state in found])
        yield from _flags(names, [state for _, _, state in found])


def _shadow(names: list[str], found: list[dict[str, Any] | None]) -> Iterable[Metric]:
    """Champion against shadow, where there is one."""
    gain = GaugeMetricFamily(
        "streamtrain_shadow_accuracy_gain_ratio",
        "Accuracy of the champion minus its shadow's, on samples as they come.",
        labels=("router",),
    )
    evidence = GaugeMetricFamily(
        "streamtrain_shadow_evidence_ratio",
        "Evidence that the champion is worse than its shadow, as a share of what rolls it back.",
        labels=("router",),
    )
    versus = [(name, one["versus"]) for name, one in zip(names, found, strict=True) if one and one["versus"]]
    for name, one in versus:
        gain.add_metric([name], one["accuracy_gain"])
        evidence.add_metric([name], one["evidence"] / one["rolled_back_at"])
    return (gain, evidence) if versus else ()


def _models(names: list[str], states: list[dict[str, Any]]) -> Iterable[Metric]:
    cycles = CounterMetricFamily(
        "streamtrain_cycles", "Candidates, by what became of them.", labels=("router", "outcome")
    )
    publishes = CounterMetricFamily("streamtrain_publishes", "Versions published.", labels=("router",))
    refusals = CounterMetricFamily(
        "streamtrain_refusals", "Candidates refused, by the rule that they failed.", labels=("router", "rule")
    )
    rollbacks = CounterMetricFamily(
        "streamtrain_rollbacks", "Versions that were gone back from, by whom.", labels=("router", "by")
    )
    champion = InfoMetricFamily("streamtrain_champion", "The current version.", labels=("router",))
    for name, state in zip(names, states, strict=True):
        outcomes = state["cycles"]["outcomes"]
        for outcome in dict.fromkeys((*_OUTCOMES, *outcomes)):
            cycles.add_metric([name, outcome], outcomes.get(outcome, 0))
        publishes.add_metric([name], outcomes.get("published", 0))
        for by in ("itself", "person"):
            rollbacks.add_metric([name, by], state["cycles"]["rollbacks"].get(by, 0))
        for rule, n in sorted(state["cycles"]["refusals"].items()):
            refusals.add_metric([name, rule], n)
        if state["current"] is not None:
            champion.add_metric([name], {"version": state["current"]["version"]})
    return (cycles, publishes, refusals, rollbacks, champion)


def _flags(names: list[str], states: list[dict[str, Any]]) -> Iterable[Metric]:
    age = GaugeMetricFamily("streamtrain_last_sample_age_seconds", "Age of the newest sample.", labels=("router",))
    doing = GaugeMetricFamily("streamtrain_state", "1 for what is being done.", labels=("router", "state"))
    healthy = GaugeMetricFamily("streamtrain_healthy", "1 where nothing needs attention.", labels=("router",))
    ready = GaugeMetricFamily(
        "streamtrain_ready", "1 once the logs were read once and the kernels are compiled.", labels=("router",)
    )
    taken = GaugeMetricFamily(
        "streamtrain_config_reload_successful", "0 while the configuration file is refused.", labels=("router",)
    )
    for name, state in zip(names, states, strict=True):
        if state["window"]["newest"] is not None:
            age.add_metric([name], max(0.0, state["time"] - state["window"]["newest"]))
        for word in STATES:
            doing.add_metric([name, word], float(state["doing"]["state"] == word))
        healthy.add_metric([name], float(state["health"] == "healthy"))
        ready.add_metric([name], float(state["doing"]["ready"]))
        taken.add_metric([name], float(state["refused_configuration"] is None))
    return (age, doing, healthy, ready, taken)


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, values: list[tuple[dict[str, str], float | None]]
) -> Iterable[Metric]:
    known = [(labels, value) for labels, value in values if value is not None]
    for labels, value in known:
        family.add_metric([labels.get("router", "")], value)
    if known:
        yield family


def _at(state: dict[str, Any], path: tuple[str, str]) -> float | None:
    part = state.get(path[0])
    value = part.get(path[1]) if isinstance(part, dict) else None
    return float(value) if isinstance(value, (int, float)) else None
