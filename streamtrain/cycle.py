"""One pass of the flow, top to bottom: the only place where the stages meet.

log bytes → lines → records → samples → rolling window → scaled arrays → trained weights
          → INT8 candidate → gate → published version
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal

from streamtrain.aftermath import SINCE
from streamtrain.choice import LATELY, choose
from streamtrain.config import Config
from streamtrain.dataset import scale
from streamtrain.dataset.counts import Counts as StoreCounts
from streamtrain.dataset.store import Store
from streamtrain.exam import Exam, unread
from streamtrain.hearing import Hearings
from streamtrain.ingest.golden import GoldenError
from streamtrain.ingest.ingestor import IngestReport
from streamtrain.intake import Cut, Intake
from streamtrain.judging import Judging, Verdict
from streamtrain.lessons import Lessons, TeacherError
from streamtrain.making import lineage_of, make_candidate
from streamtrain.model.seal import NewerVersionError
from streamtrain.outlet import Outlet
from streamtrain.portrait import epochs_of, refused
from streamtrain.prequential import Prequential
from streamtrain.publish.artifact import Champion, build, load_candidate
from streamtrain.publish.refusals import keep_refused
from streamtrain.publish.registry import PublishError, VersionError
from streamtrain.threshold import advice
from streamtrain.train.challengers import Challenger, compete
from streamtrain.train.meter import Meter
from streamtrain.trigger import Trigger
from streamtrain.types import Candidate, Decision, EpochMetrics, Rule

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a cycle is doing now, for whoever looks on.

    Attributes
    ----------
    stage : str
        "ingest", "compile", "window", "train", "judge" or "publish".
    detail : str
        In words.
    n_values : int
        Numbers in the window (samples times features): how much there is to do until the next of these.
    task : str
        Which of several things side by side this is of: the challenger in training; "" for one alone.
    n_done, n_total : int
        Epochs of it done, and how many there can be; 0 and 0 in other stages.
    """

    stage: str
    detail: str = ""
    n_values: int = 0
    task: str = ""
    n_done: int = 0
    n_total: int = 0


class Cycle:
    """The stages, opened for one configuration.

    Parameters
    ----------
    config : Config
    clock : callable
        Seconds since the epoch.
    on_progress : callable
        Called at each stage, after each batch of lines and after each epoch (from training threads too).

    Raises
    ------
    StoreError
        If the state database cannot be opened.
    KeyFileError
        If the signing key or the secret of a webhook cannot be used.
    """

    def __init__(
        self,
        config: Config,
        clock: Callable[[], float] = time.time,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.config = config
        self._clock = clock
        self._say = on_progress
        self._n_values = 0
        outlet = Outlet(config, clock)
        self.registry, self.announcer = outlet.registry, outlet.announcer
        self.intake = Intake(config, clock)
        self._lessons = Lessons(self.intake)
        self._prequential = Prequential(self.intake, self.registry)
        self._judging = Judging(self.intake, self.registry)
        self._trigger = Trigger(self.intake, self._prequential, clock)
        self._hearings = Hearings(self.intake, self.registry, self._judging)

    @property
    def store(self) -> Store:
        """The state database, which changes when it turns out to be damaged."""
        return self.intake.store

    def close(self, grace_s: float | None = None) -> None:
        """Give the database and the models directory back, and stop telling of changes (within so many seconds)."""
        self.intake.close()
        self.registry.close()
        self.announcer.close(grace_s)

    def __enter__(self) -> Cycle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ingest(self, should_stop: Callable[[], bool] = lambda: False) -> IngestReport:
        """Read what the logs have to give into the dataset, and let what serves answer it."""
        report = self.intake.ingest(should_stop, lambda: self._say(Progress("ingest")))
        self._prequential.observe(should_stop)
        return report

    def due(self, counts: StoreCounts | None = None) -> bool:
        """Say whether a training is due (`Trigger.due`); `counts` are those of the store, if they are at hand."""
        return self._trigger.due(counts)

    def warm(self, should_stop: Callable[[], bool] = lambda: False) -> int:
        """Compile every kernel that training under this configuration may call; return how many there are.

        `should_stop` is asked before each.
        """
        self._say(Progress("compile"))
        return self._lessons.warm(should_stop, lambda n: self._say(Progress("compile", f"{n} kernels ready")))

    def learn(
        self,
        should_stop: Callable[[], bool] = lambda: False,
        workers: int | None = None,
        meter: Meter | None = None,
    ) -> Decision:
        """Train on the window, judge the best candidate, publish or refuse it, and leave a receipt.

        Logs may be read by another thread meanwhile: what is trained on is taken out of the dataset at the start.

        Parameters
        ----------
        should_stop : callable
            Asked between epochs, and from training threads.
        workers : int, optional
            Threads to train on; the processors that this process may use if None.
        meter : Meter, optional
            Told of progress within epochs.

        Raises
        ------
        PublishError, VersionError, OSError
            If the models directory cannot be written or read, or its current version is a newer program's. The samples
            are kept; the next call tries again.
        TeacherError
            If the teacher that the configuration names can't teach. The samples are kept, and a receipt says why.
        Interrupted
            If `should_stop` said so before there was a candidate to judge.
        """
        held = sum(chunk.n for chunk in self.store.chunks())
        self._n_values = min(held, self.config.dataset.window) * len(self.config.schema.feature_names)
        self._tell("window")
        self._prequential.observe(should_stop)
        store, change = self.store, self._prequential.change()
        whole = self.intake.cut()
        cut, since = self._judging.cut(whole, None if change is None else change.time_s)
        splits, ingested = cut.splits, (cut.end.n, store)
        waiting = self._judging.not_ready(splits)
        if waiting is not None:
            self.registry.refuse(waiting, details={"window": splits.sizes})
            self._trigger.remember(*ingested)
            return waiting

        try:
            exam = Exam.prepare(self.config, store, whole.splits.holdout).of(splits.holdout)
        except GoldenError as error:
            unreadable = self._refuse(unread(error), None, {"window": splits.sizes})
            self._trigger.remember(*ingested)
            return unreadable
        self.registry.acquire()
        scaling = scale.fit(splits.train.features, splits.train.weights)
        champion = self.champion()
        self._tell("train")
        try:
            lesson = self._lessons.prepare(splits, scaling, champion, should_stop, meter, since)
        except TeacherError as error:
            self.registry.refuse(Decision("rejected", None, str(error)), details={"window": splits.sizes})
            raise
        arrays = (lesson.train, lesson.validation)
        on_epoch = partial(self._on_epoch, {one.name: one.training.epochs for one in lesson.recipes})
        shape = self.intake.shape()
        made = compete(lesson.recipes, shape, *arrays, should_stop, on_epoch, workers, meter, lesson.lately)
        if should_stop():
            raise Interrupted("training was stopped before it ended; its samples are kept for the next")
        choice = choose(made, lesson, shape, meter)
        ranked = choice.ranked
        best = ranked[0]
        if best.fit is None:
            failed = Decision("rejected", None, f"every candidate diverged: {best.failure}")
            self.registry.refuse(failed, details={"window": splits.sizes, "challengers": _table(ranked)})
            self._trigger.remember(*ingested)
            return failed

        self._tell("judge", best.recipe.name)
        lineage = lineage_of(self.config, cut, champion, _table(ranked)) | {SINCE: since, LATELY: choice.lately}
        candidate = make_candidate(self.intake, best, choice.validation, scaling, champion, cut, lineage)
        details: dict[str, object] = {"window": splits.sizes, "challengers": _table(ranked)}
        details |= {"origin": candidate.origin, "won_by": _lead(ranked), SINCE: since, LATELY: choice.lately}
        serving = self.registry.current()
        decision, asked = self.submit(candidate, details, cut, exam, since)
        if decision.outcome == "rejected":
            about = details | {"calibration": candidate.calibration}
            self._hearings.keep(build(candidate), decision, whole, serving, about)
        self._trigger.remember(*ingested, asked)
        heard = self._heard_again(cut, should_stop) if decision.outcome == "rejected" else None
        return heard or decision

    def submit(
        self, candidate: Candidate, details: Mapping[str, object], cut: Cut, exam: Exam, since: float | None = None
    ) -> tuple[Decision, Exam | None]:
        """Stage a candidate, judge it, publish or refuse it, and leave a receipt.

        Parameters
        ----------
        candidate : Candidate
        details : mapping
            More keys for the receipt (JSON values).
        cut : Cut
            What it was trained and chosen by, and what judges.
        exam : Exam
            Of the holdout.
        since : float, optional
            Timestamp from which on samples judge.

        Returns
        -------
        Decision
        Exam or None
            What was asked of it, to be remembered; None where it was not judged.

        Raises
        ------
        PublishError, VersionError, OSError
            As in `learn`.
        """
        details = {**details, "calibration": candidate.calibration}
        staged = self.registry.stage(build(candidate))
        with self.registry.holding(staged):
            return self._decide(candidate, staged, details, cut, exam, since)

    def _decide(
        self,
        candidate: Candidate,
        staged: Path,
        details: Mapping[str, object],
        cut: Cut,
        exam: Exam,
        since: float | None,
    ) -> tuple[Decision, Exam | None]:
        """Publish or refuse what is staged; also what was asked of it, or None where it was not judged."""
        banned = self.registry.ban_of(staged)
        if banned is not None:
            return self._refuse(_refused("not_rolled_back", banned), staged, details), None
        champion_then = self.registry.current()
        verdict = self._judging.judge(staged, cut, exam, since)
        decision, details = verdict.decision, {**details, **verdict.details}
        self._tell("publish", decision.outcome)
        if decision.outcome != "published":
            about = refused(self._clock(), candidate, decision, epochs_of(candidate.epochs), verdict.shown)
            self._refuse(decision, staged, details)
            keep_refused(self.registry.models_dir, about)
            return decision, verdict.exam
        return self._publish(staged, verdict, details, champion_then), verdict.exam

    def _heard_again(self, cut: Cut, should_stop: Callable[[], bool]) -> Decision | None:
        """Publish the first of the refused candidates that passes on what came after it; None where none does."""
        champion_then = self.registry.current()
        passed = self._hearings.hear(cut, should_stop, lambda: self._tell("judge", "a refused candidate, again"))
        if passed is None:
            return None
        with self.registry.holding(passed.staged):
            decision = self._publish(passed.staged, passed.verdict, passed.details, champion_then, "hearing")
        passed.verdict.exam.remember(self.store)
        return decision if decision.outcome == "published" else None

    def _publish(
        self,
        staged: Path,
        verdict: Verdict,
        details: Mapping[str, object],
        champion_then: str | None,
        event: Literal["candidate", "hearing"] = "candidate",
    ) -> Decision:
        """Publish what passed, unless something else serves by now than what it was judged against."""
        with self._prequential.settled():
            if self.registry.current() != champion_then:
                late = _refused("same_champion", f"{champion_then}, which it was judged against, serves no more")
                self.registry.refuse(late, staged, details, event)
                return late
            shadows, router = self._prequential.protected(), advice(verdict.promised)
            shown = verdict.shown or {}
            version = self.registry.publish(staged, verdict.decision, shown, details, shadows, router=router)
        return replace(verdict.decision, version=version)

    def _refuse(self, decision: Decision, staged: Path | None, details: Mapping[str, object]) -> Decision:
        self.registry.refuse(decision, staged, details)
        return decision

    def champion(self) -> Champion | None:
        """Return the current version, if training can go on from it: same features, same shape, undamaged.

        Raises
        ------
        NewerVersionError
        """
        current = self.registry.current()
        if current is None:
            return None
        try:
            champion = load_candidate(self.registry.path(current), self.registry.public_key)
        except NewerVersionError:
            # A newer program serves here. What can't be compared with it is not published over it.
            raise
        except (PublishError, VersionError, OSError) as error:
            _LOG.warning("training can't go on from the current version: %s", error)
            return None
        same_shape = champion.config == self.intake.shape()
        return champion if same_shape and champion.features == self.config.schema.feature_names else None

    def _on_epoch(self, n_epochs: Mapping[str, int], name: str, metrics: EpochMetrics) -> None:
        detail = f"{name}, epoch {metrics.epoch + 1}, validation loss {metrics.val_loss:.4f}"
        self._tell("train", detail, name, metrics.epoch + 1, n_epochs.get(name, 0))

    def _tell(self, stage: str, detail: str = "", task: str = "", n_done: int = 0, n_total: int = 0) -> None:
        self._say(Progress(stage, detail, self._n_values, task, n_done, n_total))


class Interrupted(Exception):  # noqa: N818 - not a fault
    """A cycle was asked to stop before it came to a decision."""


def _refused(rule: str, text: str) -> Decision:
    """Decide against a candidate by a rule outside the gate."""
    sentence = text[0].upper() + text[1:]
    return Decision("rejected", None, sentence, rules=(Rule(rule, False, None, None, text),))


def _lead(ranked: list[Challenger]) -> float | None:
    """Return the validation loss of the second best minus the best's: by how much it won."""
    trained = [one.validation_loss for one in ranked if one.fit is not None]
    return trained[1] - trained[0] if len(trained) > 1 else None


def _table(ranked: list[Challenger]) -> list[dict[str, object]]:
    return [
        {
            "name": one.recipe.name,
            "validation_loss": one.validation_loss,
            "epochs": 0 if one.fit is None else len(one.fit.epochs),
            "failure": one.failure,
        }
        for one in ranked
    ]
