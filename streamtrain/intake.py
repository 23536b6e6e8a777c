"""The first half of the flow, from log bytes to the cut window. Never loads the compiler: reading logs starts fast."""

from __future__ import annotations

import glob
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrain.config import Config
from streamtrain.dataset import reservoir, tail
from streamtrain.dataset.errors import StoreDamagedError
from streamtrain.dataset.exploration import Exploration, explore
from streamtrain.dataset.fingerprint import fingerprints
from streamtrain.dataset.rescue import open_store, rebuild
from streamtrain.dataset.select import empty, select
from streamtrain.dataset.split import HOLDOUT, PROMISE, VALIDATION, in_fraction
from streamtrain.dataset.store import Store
from streamtrain.dataset.tail import Place
from streamtrain.dataset.weighting import reweighted
from streamtrain.dataset.window import Window, take
from streamtrain.ingest.disposal import Disposal
from streamtrain.ingest.ingestor import IngestOptions, Ingestor, IngestReport
from streamtrain.ingest.retry import RetryReport
from streamtrain.reading import Source
from streamtrain.train.presets import TrainingConfig, resolve
from streamtrain.types import F32, U64, Bools, FastGRNNConfig, InputRange, Samples

SUMMARY = ("lines", "samples", "duplicates", "quarantined", "pending")
"""What is told of an `IngestReport` in JSON."""
LAST_LEARNED = "last_learned"
"""The fact that says how many samples had ever been ingested, and when, when the last training began."""


@dataclass(frozen=True, slots=True)
class Splits:
    """The rolling window, cut: `train` and `validation` are learned from, `holdout` only judges.

    The first `n_reservoir` samples of `train` are a reservoir of older ones, none of them newer than any other sample.
    `promise`, as large as the holdout where `router.max_error` is set, does not even judge: it is for the router's
    threshold alone. `counted` says how many samples each split has, where these are only some of them.
    """

    train: Samples
    validation: Samples
    holdout: Samples
    n_reservoir: int = 0
    promise: Samples | None = None
    counted: Mapping[str, int] | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Number of samples of each split, by name."""
        if self.counted is not None:
            return dict(self.counted)
        sizes = {
            "train": len(self.train.labels),
            "validation": len(self.validation.labels),
            "holdout": len(self.holdout.labels),
        }
        return sizes if self.promise is None else sizes | {"promise": len(self.promise.labels)}


@dataclass(frozen=True, slots=True)
class Cut:
    """What a training takes from the dataset, as of one moment.

    Attributes
    ----------
    splits : Splits
    inputs : tuple of InputRange
        Which bytes of which files the samples came from.
    end : Place
        Behind the last sample read until then.
    order : uint64, (N,)
        Fingerprint of each sample of the window, in its order.
    factors : float32, (R,)
        What the weights of the first R were multiplied by, which are the reservoir.
    sources : tuple of Source
        What the logs are known by that `inputs` are ranges of.
    time_s : float
        When it was taken.
    exploration : Exploration
        What the window's propensities say.
    slice_names : mapping of int to str
        Of the samples' slices, as the logs have them: to be escaped wherever they are shown.
    """

    splits: Splits
    inputs: tuple[InputRange, ...]
    end: Place
    order: U64
    factors: F32
    sources: tuple[Source, ...]
    time_s: float
    exploration: Exploration
    slice_names: Mapping[int, str] = field(default_factory=dict)


class Intake:
    """The dataset and what fills it, opened for one configuration.

    Parameters
    ----------
    config : Config
    clock : callable
        Seconds since the epoch.

    Raises
    ------
    StoreError
        If the state database cannot be opened.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self._clock = clock
        config.state.directory.mkdir(parents=True, exist_ok=True)
        self._path = config.state.directory / "state.db"
        dataset = config.dataset
        size = reservoir.size_of(dataset.window, dataset.reservoir)
        self._by_session = config.model.sequence_length > 1
        self._bounds: dict[str, Any] = {
            "max_samples": dataset.window,
            "reservoir": size,
            "by_session": self._by_session,
        }
        self._use(open_store(self._path, config.schema.digest, **self._bounds, clock=clock))

    def _use(self, store: Store) -> None:
        config, clock = self.config, self._clock
        self.store = store
        self._ingestor = Ingestor(self.store, config.schema, ingest_options(config), clock=clock)
        logs = config.logs
        self._disposal = (
            None
            if logs.after_ingest == "keep"
            else Disposal(self.store, logs.directory, logs.archive if logs.after_ingest == "archive" else None)
        )

    def close(self) -> None:
        """Give the database back."""
        self.store.close()

    def __enter__(self) -> Intake:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ingest(
        self, should_stop: Callable[[], bool] = lambda: False, on_batch: Callable[[], None] = lambda: None
    ) -> IngestReport:
        """Read what the logs have to give into the dataset.

        A database that turns out to be damaged is set aside; what the logs that are still there have to give is then
        read into a new one. Its samples are gone until then, published models are not touched.
        """
        try:
            return self._ingest(should_stop, on_batch)
        except StoreDamagedError as damage:
            self.store.close()
            self._use(rebuild(self._path, self.config.schema.digest, damage, **self._bounds, clock=self._clock))
        return self._ingest(should_stop, on_batch)

    def _ingest(self, should_stop: Callable[[], bool], on_batch: Callable[[], None]) -> IngestReport:
        report = self._ingestor.run(should_stop, on_batch)
        if self._disposal is not None and not should_stop():
            self._disposal.dispose(self._ingestor.finished())
        return report

    def lag(self) -> int:
        """Bytes of logs that are there and not read yet."""
        return self._ingestor.lag()[0]

    def ingest_files(self, files: Sequence[Path], on_file: Callable[[Path], None] = lambda file: None) -> IngestReport:
        """Read these files and no others; the report is of all of them. `on_file` is told of each that was read."""
        reports = []
        for file in files:
            name = glob.escape(file.name)
            options = replace(ingest_options(self.config), directory=file.parent, include=(f"/{name}",), exclude=())
            one = Ingestor(self.store, self.config.schema, replace(options, idle_timeout_s=0.0), clock=self._clock)
            reports.append(one.run())
            on_file(file)
        total = {name: sum(getattr(one, name) for one in reports) for name in SUMMARY}
        wanted = {str(file) for file in files}
        # Of the folders that the files lie in, nothing else was asked for.
        refused = tuple(left for one in reports for left in one.refused if left[0] in wanted)
        return replace(reports[-1], refused=refused, **total)

    def retry(self, on_lines: Callable[[int], None] = lambda n_tried: None) -> RetryReport:
        """Decode quarantined lines again, and ingest those that now work. `on_lines` is told how many were tried."""
        return self._ingestor.retry(on_lines)

    def cut(self) -> Cut:
        """Take out of the dataset all that a training needs, while logs may be read on beside it.

        By a connection of its own and in one read transaction: neither waits for the other, and the samples, the bytes
        they came from and the count of what was ingested belong to the same moment.

        Raises
        ------
        StoreError
        """
        with Store(self._path, self.config.schema.digest, readonly=True) as store, store.snapshot():
            now, inputs = self._clock(), store.input_ranges()
            taken, keys = self.window(store, now), {part.source for part in inputs}
            sources = tuple(source for source in store.sources() if f"{source.key:016x}" in keys)
            end, names = tail.end(store), store.slice_names()
        return Cut(
            splits=self.split(taken),
            inputs=inputs,
            end=end,
            order=fingerprints(taken.samples),
            factors=taken.factors,
            sources=sources,
            time_s=now,
            exploration=explore(
                [(taken.samples.weights, taken.samples.propensities)], self.config.dataset.max_propensity_weight
            ),
            slice_names=names,
        )

    def since(self, places: Sequence[Place]) -> tuple[Samples, list[NDArray[np.int64]]]:
        """Take what was read after each of several places as what can judge a model trained on what is before it.

        Without what `router.max_error` is kept by.

        Parameters
        ----------
        places : sequence of Place
            The latest first.

        Returns
        -------
        Samples
            What was read after the last of them, weighted.
        list of int64
            For each of them, which of these samples may judge, in the order of time: at most as many as a window has,
            the last ones read. None after a later place that is not known any more.

        Raises
        ------
        StoreError
        """
        dataset = self.config.dataset
        with Store(self._path, self.config.schema.digest, readonly=True) as store:
            piece = tail.after(store, places[-1], 2**62)
        if piece is None:
            return empty(len(self.config.schema.feature_names)), [np.empty(0, np.int64) for _ in places]
        samples = reweighted(piece.samples, dataset.max_propensity_weight)
        judging = judges(self.config, samples.groups) | ~held_out(self.config, samples.groups)
        judging[: max(0, len(judging) - dataset.window)] = False
        order = np.argsort(samples.timestamps, kind="stable")
        taken = []
        for place in places:
            before = np.flatnonzero(np.isin(samples.keys, np.array(place.anchors, np.uint64)))
            first = 0 if place == places[-1] else int(before[-1]) + 1 if len(before) else len(order)
            taken.append(order[judging[order] & (order >= first)])
        return samples, taken

    def splits(self, store: Store | None = None) -> Splits:
        """Cut the rolling window by stable hashes of its sessions."""
        return self.split(self.window(store or self.store, self._clock()))

    def window(self, store: Store, now: float) -> Window:
        """Take the rolling window out of a store, as it was logged.

        The reservoir is drawn from sessions that are learned from, for one that judged is never trained on.
        """
        dataset = self.config.dataset
        bounds = (dataset.window, dataset.reservoir, dataset.max_age_s, now)
        return take(store, *bounds, by_session=self._by_session, eligible=lambda groups: ~held_out(self.config, groups))

    def split(self, taken: Window) -> Splits:
        """Weight a window against selection bias, and cut it.

        The reservoir is learned from only. What is judged, and chosen by, is what requests are like now: old samples
        would speak for a mix of requests, and perhaps for a model behind the route, that are gone.
        """
        dataset = self.config.dataset
        samples = reweighted(taken.weighted(), dataset.max_propensity_weight)
        judging, held = judges(self.config, samples.groups), held_out(self.config, samples.groups)
        old = np.arange(len(held)) < taken.n_reservoir
        share = self.training_config(int((~held).sum())).validation_split
        chosen = in_fraction(samples.groups, share, dataset.seed, VALIDATION)
        stopping = chosen & ~old
        # A session that is chosen by is not learned from too, where its beginning is old.
        astride = chosen & old & np.isin(samples.groups, samples.groups[stopping])
        return Splits(
            select(samples, ~held & ~stopping & ~astride),
            select(samples, ~held & stopping),
            select(samples, judging),
            taken.n_reservoir - int(astride.sum()),
            None if self.config.router.max_error is None else select(samples, held & ~judging),
        )

    def training_config(self, n_samples: int) -> TrainingConfig:
        """Choose the settings for training from scratch on `n_samples` samples: the preset's, overridden."""
        return resolve(self.config.training.preset, n_samples, self.overrides())

    def shape(self) -> FastGRNNConfig:
        """Return the model's shape."""
        return shape_of(self.config)

    def overrides(self) -> dict[str, Any]:
        """Return what the configuration sets of the training's settings."""
        return overrides_of(self.config)


def shape_of(config: Config) -> FastGRNNConfig:
    """Return a model's shape: features of the schema, the rest of the section `model`."""
    model = config.model
    return FastGRNNConfig(len(config.schema.feature_names), model.hidden_dim, 1, model.nu, model.zeta, model.rank)


def overrides_of(config: Config) -> dict[str, Any]:
    """Return what a configuration sets of the training's settings."""
    given = {key: value for key, value in asdict(config.training).items() if value is not None}
    if given.get("early_stopping_patience") == 0:
        given["early_stopping_patience"] = 10**9  # the configuration's word for never
    return given


def judges(config: Config, groups: U64) -> Bools:
    """Which sessions the holdout consists of."""
    return in_fraction(groups, config.dataset.holdout, config.dataset.seed, HOLDOUT)


def held_out(config: Config, groups: U64) -> Bools:
    """Which sessions are not learned from: those, and those that the router's threshold is found by."""
    held, dataset = judges(config, groups), config.dataset
    if config.router.max_error is not None:
        held |= in_fraction(groups, promise_share(dataset.holdout), dataset.seed, PROMISE)
    return held


def promise_share(holdout: float) -> float:
    """Share of the sessions outside the holdout that is set aside for `router.max_error`: as many, at most half."""
    return min(0.5, holdout / (1.0 - holdout))


def ingest_options(config: Config) -> IngestOptions:
    """Return what the section `logs` asks of ingestion."""
    logs = config.logs
    return IngestOptions(
        directory=logs.directory,
        include=logs.include,
        exclude=logs.exclude,
        max_line_bytes=logs.max_line_bytes,
        idle_timeout_s=logs.idle_timeout_s,
        json_only=logs.format == "jsonl",
        sqlite_table=None if logs.sqlite is None else logs.sqlite.table,
    )
