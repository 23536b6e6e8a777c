"""What a staged candidate is judged by, from the bytes that would be served, and what is told of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from streamtrain.aftermath import MIN_VALIDATION, SINCE, after, worse_since
from streamtrain.answers import answers
from streamtrain.dataset.exploration import Exploration, with_one_route
from streamtrain.exam import Exam
from streamtrain.intake import Cut, Intake, Splits
from streamtrain.judge.evidence import Counts, Evidence, GateRules, class_counts
from streamtrain.judge.gate import judge, ready
from streamtrain.judge.metrics import log_losses, report
from streamtrain.judge.promise import Promise
from streamtrain.judge.reliability import DEFINITION, reliability
from streamtrain.portrait import portrait
from streamtrain.publish.errors import PublishError
from streamtrain.publish.registry import Registry, VersionError
from streamtrain.router.load import load
from streamtrain.router.scorer import Model
from streamtrain.threshold import chosen, threshold_for
from streamtrain.types import F64, Decision

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's decision about a candidate, and what stands beside it.

    Attributes
    ----------
    decision : Decision
    exam : Exam
        Of the holdout samples that judged it.
    promised : Promise or None
        The threshold that it would advise routers to decide by.
    details : mapping
        For the receipt.
    shown : mapping or None
        For the report and `metrics.json`; None where an answer is no number.
    """

    decision: Decision
    exam: Exam
    promised: Promise | None
    details: Mapping[str, object]
    shown: dict[str, object] | None


class Judging:
    """Judges candidates under one configuration.

    Parameters
    ----------
    intake : Intake
        Of the configuration.
    registry : Registry
        Where the current version is.
    """

    def __init__(self, intake: Intake, registry: Registry) -> None:
        self._intake, self._registry, self._config = intake, registry, intake.config
        self._said: set[str] = set()

    def not_ready(self, splits: Splits) -> Decision | None:
        """Say what is missing to train and judge at all, if anything is."""
        return ready(_counts(splits), self._rules())

    def cut(self, whole: Cut, changed_s: float | None) -> tuple[Cut, float | None]:
        """Where the world has changed, what judges is what came after it.

        Parameters
        ----------
        whole : Cut
        changed_s : float or None
            When it did, as far as an alarm tells.

        Returns
        -------
        Cut
        float or None
            Timestamp from which on samples judge; None for all of them.
        """
        times = [] if changed_s is None else [changed_s]
        validation, serving = whole.splits.validation, self._serving(self._registry.current())
        if serving is not None and len(validation.labels) >= 2 * MIN_VALIDATION:
            labels = validation.labels.astype(np.float64)
            worse = worse_since(log_losses(labels, answers(serving, validation)), validation)
            times += [] if worse is None else [worse]
        for since in sorted(times, reverse=True):
            splits = self._after(whole.splits, since)
            if splits is not None:
                return replace(whole, splits=splits), since
        return whole, None

    def judge(self, staged: Path, cut: Cut, exam: Exam, since: float | None) -> Verdict:
        """Judge a staged version.

        Parameters
        ----------
        staged : Path
        cut : Cut
            The splits that it was trained and chosen by, and the holdout.
        exam : Exam
            Of that holdout.
        since : float or None
            Timestamp from which on samples judge.

        Returns
        -------
        Verdict

        Raises
        ------
        PublishError, VersionError, OSError
            If it can't be loaded as routers load it.
        """
        served, current = load(staged), self._registry.current()
        serving = self._serving(current)
        splits, since = self._turned(served, serving, cut.splits, since)
        cut, exam = replace(cut, splits=splits), exam.of(splits.holdout)
        return self._verdict(served, current, serving, cut, exam, since)

    def hear(self, staged: Path, cut: Cut, exam: Exam) -> Verdict:
        """Judge a staged candidate that was refused before on what came after it: the holdout of `cut`.

        Parameters and errors are those of `judge`.
        """
        current, since = self._registry.current(), float(cut.splits.holdout.timestamps[0])
        return self._verdict(load(staged), current, self._serving(current), cut, exam, since)

    def _verdict(
        self, served: Model, current: str | None, serving: Model | None, cut: Cut, exam: Exam, since: float | None
    ) -> Verdict:
        splits, holdout = cut.splits, cut.splits.holdout
        probabilities = answers(served, holdout)
        promised = threshold_for(self._config, splits, partial(answers, served))
        known = self._evidence(cut, probabilities, since)
        if serving is not None:
            known = replace(known, current=answers(serving, holdout))
        evidence = exam.ask(
            replace(known, current_version=current), served, serving, None if promised is None else promised.threshold
        )
        details: dict[str, object] = {"window": splits.sizes, SINCE: since, "promise": promised}
        details["exploration"] = self._explored(cut.exploration, evidence, serving)
        return Verdict(judge(evidence, self._rules()), exam, promised, details, self._shown(served, cut, evidence))

    def _turned(
        self, served: Model, serving: Model | None, splits: Splits, since: float | None
    ) -> tuple[Splits, float | None]:
        """Cut the holdout to when the candidate became the better one, if it visibly did; say since when that is."""
        validation = splits.validation
        answered = answers(served, validation)
        if serving is None or not np.isfinite(answered).all():
            return splits, since
        labels = validation.labels.astype(np.float64)
        losses = log_losses(labels, answers(serving, validation)) - log_losses(labels, answered)
        turned = worse_since(losses, validation)
        later = None if turned is None else self._after(splits, turned)
        return (splits, since) if later is None else (replace(splits, holdout=later.holdout, counted=None), turned)

    def _after(self, splits: Splits, since: float) -> Splits | None:
        return after(splits, since, self._config.gate.min_holdout, self._config.model.sequence_length)

    def _evidence(self, cut: Cut, probabilities: F64, since: float | None) -> Evidence:
        """Put together what the gate looks at, without the current version's part."""
        splits = cut.splits
        weights = np.concatenate((splits.train.weights, splits.validation.weights))
        labels = np.concatenate((splits.train.labels, splits.validation.labels))
        times = np.concatenate((splits.train.timestamps, splits.validation.timestamps))
        counted = weights * (times >= (-np.inf if since is None else since))
        return Evidence(
            labels=splits.holdout.labels,
            probabilities=probabilities,
            train_base_rate=float(np.average(labels, weights=counted if counted.any() else weights)),
            n_train_per_class=class_counts(labels, weights),
            weights=splits.holdout.weights,
            groups=splits.holdout.groups,
            recent_accuracies=self._recent_accuracies(),
            features=splits.holdout.features,
            slices=None if self._config.schema.slice is None else splits.holdout.slices,
            slice_names=cut.slice_names,
        )

    def _serving(self, version: str | None) -> Model | None:
        """Load the current version; None where none can answer: it is damaged, or made for other features."""
        if version is None:
            return None
        try:
            model = load(self._registry.path(version))
        except (PublishError, VersionError, OSError) as error:
            _LOG.warning("the current version can't be compared with: %s", error)
            return None
        return model if model.features == self._config.schema.feature_names else None

    def _explored(self, found: Exploration, evidence: Evidence, serving: Model | None) -> Exploration:
        """Say, once, what the log does not tell of requests that were not tried."""
        if evidence.current is not None and serving is not None:
            found = with_one_route(found, *chosen(serving, np.asarray(evidence.current, np.float64)))
        if found.status not in self._said:
            self._said.add(found.status)
            _LOG.log(logging.WARNING if found.warning else logging.INFO, "exploration: %s", found.text)
        return found

    def _shown(self, served: Model, cut: Cut, evidence: Evidence) -> dict[str, object] | None:
        """Take what the report shows from the bytes that were judged; None where an answer is no number."""
        answered, current = np.asarray(evidence.probabilities, np.float64), evidence.current
        if not np.isfinite(answered).all():
            return None
        now, holdout = None if current is None else np.asarray(current, np.float64), cut.splits.holdout
        figures = portrait(served, holdout, answered, now, cut.slice_names, self._config.dataset.seed)
        judged = (holdout.labels, answered, holdout.weights)
        shown = report(*judged).to_json() | {"figures": figures}
        return shown | {"ece_of": DEFINITION, "reliability": reliability(*judged)}

    def _recent_accuracies(self) -> tuple[float, ...]:
        recent = self._registry.receipts.read(20)
        found = (receipt.get("holdout_accuracy") for receipt in recent if receipt.get("event") == "candidate")
        return tuple(float(accuracy) for accuracy in found if isinstance(accuracy, float))

    def _rules(self) -> GateRules:
        trigger, gate = self._config.trigger, self._config.gate
        return GateRules(
            min_samples=trigger.min_samples,
            min_per_class=trigger.min_per_class,
            min_holdout=gate.min_holdout,
            min_accuracy=gate.min_accuracy,
            bound=gate.bound,
            beat_baseline=gate.beat_baseline,
            min_auc=gate.min_auc,
            versus_current=gate.versus_current,
            confidence=gate.confidence,
            slice_min_samples=gate.slice_min_samples,
            max_powerful_rise=gate.max_powerful_rise,
        )


def _counts(splits: Splits) -> Counts:
    first, second = (class_counts(part.labels, part.weights) for part in (splits.train, splits.validation))
    return Counts(
        train=(first[0] + second[0], first[1] + second[1]),
        holdout=class_counts(splits.holdout.labels, splits.holdout.weights),
        holdout_sessions=len(np.unique(splits.holdout.groups)),
    )
