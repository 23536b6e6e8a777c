"""A backlog read and trained on by many workers; what comes of it is judged and published as by the daemon.

inputs → parts → read, joined, hash split → scaled arrays → rounds → INT8 candidate → gate → published version
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from streamtrain.config import Config
from streamtrain.cycle import Cycle
from streamtrain.dataset.exploration import explore
from streamtrain.dataset.select import empty
from streamtrain.dataset.tail import Place
from streamtrain.dataset.weighting import reweighted
from streamtrain.exam import Exam
from streamtrain.ingest.ingestor import IngestReport
from streamtrain.intake import Cut, Splits
from streamtrain.judging import Judging
from streamtrain.lessons import Lessons, TeacherError
from streamtrain.making import environment, make_candidate
from streamtrain.model.fold import rescale
from streamtrain.publish.artifact import Champion
from streamtrain.reading import Batch, Quarantined
from streamtrain.scale.cluster import Cluster, StoppedError
from streamtrain.scale.inputs import plan
from streamtrain.scale.loading import Inputs, Ready, Tell, make_ready, read
from streamtrain.scale.partition import arrays_of
from streamtrain.scale.rounds import Fitter
from streamtrain.train.challengers import Challenger, Recipe
from streamtrain.train.fit import TrainingDivergedError
from streamtrain.train.stages import through_stages
from streamtrain.types import Decision, EpochMetrics, InputRange

BACKFILL: Final = "backfill"
"""Under which a version's lineage keeps the parts that it was trained on."""
MOST_PARTS: Final = 40_000
"""So many fit into a manifest."""
_MOST_EXAMPLES: Final = 10_000


class TooManyPartsError(ValueError):
    """More parts than can be written down; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What became of a backlog.

    Attributes
    ----------
    decision : Decision
    report : IngestReport
        What was read, counted as the daemon does.
    n_files, n_parts : int
    n_bytes : int
        As they lie there.
    sizes : mapping of str to int
        Samples of each split.
    examples : tuple of Quarantined
    """

    decision: Decision
    report: IngestReport
    n_files: int
    n_parts: int
    n_bytes: int
    sizes: Mapping[str, int]
    examples: tuple[Quarantined, ...] = field(repr=False)


def backfill(
    cycle: Cycle,
    urls: Sequence[str],
    cluster: Cluster,
    options: Mapping[str, Any],
    part_bytes: int,
    time_s: float,
    should_stop: Callable[[], bool] = lambda: False,
    tell: Tell = lambda what, n_done, n_total: None,
) -> Backfilled:
    """Train on a backlog, and publish what passes the gate.

    Parameters
    ----------
    cycle : Cycle
        Opened for the configuration: its models directory, gate, and state, which gets what is quarantined.
    urls : sequence of str
        Files, patterns or folders, in the order in which of equal records the first counts.
    cluster : Cluster
    options : mapping
        For the file systems of the URLs; written down nowhere.
    part_bytes : int
        Of a plain file in one part.
    time_s : float
        Now: the time of lines that have none.
    should_stop : callable
    tell : callable

    Returns
    -------
    Backfilled

    Raises
    ------
    InputError, ClusterError, StoppedError, TeacherError, PublishError, VersionError, GoldenError
        Nothing is published then, and nothing is written.
    """
    config = cycle.config
    cycle.registry.acquire()
    teachers = _teachers(config)
    parts = plan(config, urls, options, part_bytes, time_s)
    if len(parts) > MOST_PARTS:
        raise TooManyPartsError(
            f"backfill: {len(parts):,} parts of {part_bytes:,} bytes; expected at most {MOST_PARTS:,}: make them "
            "larger (--part-bytes) or read fewer files at once"
        )
    inputs = read(cluster, config, parts, options, tell)
    quarantined = tuple(one for told in inputs.told for one in told.quarantined)[:_MOST_EXAMPLES]
    n_quarantined = sum(one.n_quarantined for one in inputs.told)
    if n_quarantined:
        batch = Batch(empty(len(config.schema.feature_names)), quarantined=quarantined)
        cycle.store.commit(replace(batch, n_lines=n_quarantined, n_quarantined=n_quarantined))
    ready = make_ready(cluster, config, inputs, tell, teachers=teachers)
    if ready is None:
        decision = Decision("skipped", None, "there is no sample to learn from: see what was quarantined, and `schema`")
        cycle.registry.refuse(decision, details={BACKFILL: _summary(inputs)})
    else:
        decision = _learn(cycle, inputs, ready, part_bytes, time_s, should_stop, tell, teachers=teachers)
    return _told(inputs, decision, {} if ready is None else ready.sizes, quarantined)


def _learn(
    cycle: Cycle,
    inputs: Inputs,
    ready: Ready,
    part_bytes: int,
    time_s: float,
    should_stop: Callable[[], bool],
    tell: Tell,
    *,
    teachers: bool,
) -> Decision:
    config, intake = cycle.config, cycle.intake
    cut = _cut(config, inputs, ready, time_s)
    details: dict[str, object] = {"window": cut.splits.sizes, BACKFILL: _summary(inputs)}
    waiting = Judging(intake, cycle.registry).not_ready(cut.splits)
    if waiting is not None:
        cycle.registry.refuse(waiting, details=details)
        return waiting
    # Before anything is trained: nothing may be published where the golden cases can't be asked.
    exam = Exam.prepare(config, cycle.store, cut.splits.holdout)
    champion = cycle.champion()
    start = None if champion is None else rescale(champion.params, champion.scaling, ready.scaling)
    n_samples = ready.sizes["train"] + ready.sizes["validation"]
    taught = teachers and bool(np.isfinite(ready.shown["train"].teachers).any())
    recipes = Lessons(intake).recipes(start, ready.training, n_samples, taught)
    ranked = _compete(cycle, ready, recipes, should_stop, tell, teachers=teachers)
    details["challengers"] = [_row(one) for one in ranked]
    best = ranked[0]
    if best.fit is None:
        failed = Decision("rejected", None, f"every candidate diverged: {best.failure}")
        cycle.registry.refuse(failed, details=details)
        return failed
    tell("judging", 0, 0)
    lineage = _lineage(inputs, champion, ranked, part_bytes, time_s)
    validation = arrays_of(cut.splits.validation, config, ready.scaling)
    candidate = make_candidate(intake, best, validation, ready.scaling, champion, cut, None)
    decision, asked = cycle.submit(replace(candidate, lineage=lineage), details, cut, exam)
    if asked is not None:
        asked.remember(cycle.store)
    return decision


def _compete(
    cycle: Cycle,
    ready: Ready,
    recipes: Sequence[Recipe],
    should_stop: Callable[[], bool],
    tell: Tell,
    *,
    teachers: bool,
) -> list[Challenger]:
    """Train every recipe in rounds, side by side: while one is averaged here, workers are at another's."""
    config, shape = cycle.config, cycle.intake.shape()
    fitter = Fitter(ready.workers, shape, config.model.sequence_length, should_stop, distilled=teachers)
    most = sum(recipe.training.epochs for recipe in recipes)
    rows: list[EpochMetrics] = []

    def on_epoch(row: EpochMetrics) -> None:
        rows.append(row)
        tell("training", len(rows), most)

    def train(recipe: Recipe) -> Challenger:
        try:
            made = through_stages(fitter, recipe.start, recipe.training, recipe.seed, on_epoch)
        except TrainingDivergedError as error:
            return Challenger(recipe, None, float("inf"), str(error))
        loss = fitter.loss(made.params)
        return Challenger(recipe, made, float("nan") if loss is None else loss)

    with ThreadPoolExecutor(len(recipes), thread_name_prefix="rounds") as pool:
        made = list(pool.map(train, recipes))
    if should_stop():
        raise StoppedError("training was stopped before it ended; nothing was published")
    return sorted(made, key=lambda one: one.validation_loss)


def _cut(config: Config, inputs: Inputs, ready: Ready, time_s: float) -> Cut:
    """Put together what is judged by: of very many samples some, chosen by their hash."""
    logged = [ready.shown[name] for name in ("train", "validation", "holdout")]
    largest = config.dataset.max_propensity_weight
    promise = ready.shown.get("promise")
    train, validation, holdout = (reweighted(one, largest) for one in logged)
    splits = Splits(
        train,
        validation,
        holdout,
        promise=None if promise is None else reweighted(promise, largest),
        counted=ready.sizes,
    )
    names = {hash_: name for told in inputs.told for hash_, name in told.slice_names.items()}
    ranges = tuple(
        InputRange(f"{told.source:016x}", part.file.name, told.start, told.stop)
        for part, told in zip(inputs.parts, inputs.told, strict=True)
        if told.n_samples or told.n_halves
    )
    return Cut(
        splits=splits,
        inputs=ranges,
        end=Place(sum(ready.sizes.values())),
        order=np.zeros(0, np.uint64),
        factors=np.zeros(0, np.float32),
        sources=(),
        time_s=time_s,
        exploration=explore([(one.weights, one.propensities) for one in logged], largest),
        slice_names=names,
    )


def _lineage(
    inputs: Inputs, champion: Champion | None, ranked: Sequence[Challenger], part_bytes: int, time_s: float
) -> dict[str, object]:
    """Write down what determined the training: the same inputs, cut in the same parts, give the same weights."""
    parts = [
        {
            "path": part.file.name,
            "size": part.file.size,
            "stamp": part.file.stamp,
            "bytes": None if part.start is None else [part.start, part.stop],
            "read": [told.start, told.stop],
            "crc32": told.checksum,
            "lines": told.n_lines,
            "samples": told.n_samples,
            "quarantined": told.n_quarantined,
        }
        for part, told in zip(inputs.parts, inputs.told, strict=True)
    ]
    return {
        BACKFILL: {"part_bytes": part_bytes, "duplicates": inputs.n_repeated, "parts": parts},
        "time": time_s,
        "champion": None if champion is None else champion.version,
        "challengers": [_row(one) for one in ranked],
        "environment": environment(),
    }


def _row(one: Challenger) -> dict[str, object]:
    loss = None if one.fit is None or not np.isfinite(one.validation_loss) else one.validation_loss
    return {
        "name": one.recipe.name,
        "validation_loss": loss,
        "epochs": 0 if one.fit is None else len(one.fit.epochs),
        "stopped": None if one.fit is None else one.fit.stopped,
        "failure": one.failure,
    }


def _teachers(config: Config) -> bool:
    """Whether there is a column to distil from.

    Raises
    ------
    TeacherError
        If distilling is asked for from anything else.
    """
    training, column = config.training, config.schema.teacher is not None
    if training.enable_distillation and (not column or training.teacher not in ("auto", "column")):
        raise TeacherError(
            f"training.teacher: {training.teacher!r} can't teach a backlog; expected a column of the logs "
            "(schema.teacher), or training.enable_distillation: false"
        )
    return column and training.enable_distillation is not False


def _summary(inputs: Inputs) -> dict[str, object]:
    return {
        "files": len({part.file.url for part in inputs.parts}),
        "parts": len(inputs.parts),
        "lines": sum(one.n_lines for one in inputs.told),
        "duplicates": _n_duplicates(inputs),
        "quarantined": sum(one.n_quarantined for one in inputs.told),
    }


def _n_duplicates(inputs: Inputs) -> int:
    return inputs.n_repeated + sum(one.n_repeated for one in inputs.joined)


def _told(
    inputs: Inputs, decision: Decision, sizes: Mapping[str, int], examples: tuple[Quarantined, ...]
) -> Backfilled:
    files = {part.file.url: part.file.size for part in inputs.parts}
    refused = {
        part.file.name: told.refused
        for part, told in zip(inputs.parts, inputs.told, strict=True)
        if told.refused is not None
    }
    n_samples = sum(one.n_samples for one in inputs.told) + sum(one.n_samples for one in inputs.joined)
    report = IngestReport(
        lines=sum(one.n_lines for one in inputs.told),
        samples=n_samples - inputs.n_repeated,
        duplicates=_n_duplicates(inputs),
        quarantined=sum(one.n_quarantined for one in inputs.told),
        pending=sum(one.n_waiting for one in inputs.joined),
        recognised=0,
        n_lost=0,
        lost_bytes=0,
        refused=tuple(refused.items()),
        unlabelled=sum(one.n_unlabelled for one in inputs.joined),
    )
    return Backfilled(decision, report, len(files), len(inputs.parts), sum(files.values()), sizes, examples)
