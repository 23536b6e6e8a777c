"""Candidates that were refused because too little could be shown of them are heard again on what came after.

A holdout is a fifth of what comes, and after a change of the world few of its samples are from after that. A candidate
that has learned the new world may then be refused only because that can't be shown on so few, and so may the next one,
trained on more. Yet all that comes after a candidate was trained is new to it: also the four fifths that the *next*
training learns from. So what failed only to be better than a constant beyond chance (`judge.gate.may_be_heard_again`)
is kept, and heard again on every sample that came since, whenever a later candidate is refused.

This is prequential judging (Dawid 1984), of candidates as `streamtrain.prequential` does it of what serves:

- *New.* What was read after the training took its samples, without sessions that its window knew and without those that
  keep the promise of `router.max_error`. The version that serves was trained on none of it either: what was judged
  against another one is dropped. So is everything once the state database, the schema or the splits are others.
- *As much evidence.* Only when there are as many such samples as it was refused by: what failed on a holdout of
  thousands must not be asked again on some hundreds. So this is for young services, and for what comes after a change.
- *The whole gate*, with every rule. Uses of these samples count as those of the holdout do (`streamtrain.judge.reuse`),
  in a budget of their own.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from streamtrain.dataset.select import select
from streamtrain.exam import Exam
from streamtrain.ingest.golden import GoldenError
from streamtrain.intake import Cut, Intake
from streamtrain.judge.gate import may_be_heard_again
from streamtrain.judging import Judging, Verdict
from streamtrain.model.formats import WINDOW_FILE
from streamtrain.model.seal import MANIFEST_FILE, digest, read_sealed
from streamtrain.publish.artifact import rfc3339, to_json
from streamtrain.publish.registry import Registry, VersionError
from streamtrain.shelf import Kept, Shelf
from streamtrain.types import Decision

_LOG = logging.getLogger(__name__)

HEARING_USES: Final = "hearing_uses"
"""The fact under which the state database keeps how often each sample was used by hearings."""
ORIGIN: Final = "hearings_of"
"""The fact by which candidates are known to be of this database: a number drawn when the first is kept."""
FOLDER: Final = "hearings"


@dataclass(frozen=True, slots=True)
class Passed:
    """A candidate that passed when it was heard again: staged, to be published, and its exam to be remembered then."""

    staged: Path
    verdict: Verdict
    details: Mapping[str, object]


class Hearings:
    """Keeps refused candidates under one configuration, and hears them.

    Parameters
    ----------
    intake : Intake
        Of the configuration.
    registry : Registry
        Where the current version is, and candidates are staged.
    judging : Judging
    """

    def __init__(self, intake: Intake, registry: Registry, judging: Judging) -> None:
        self._intake, self._registry, self._judging = intake, registry, judging
        self._config = intake.config
        self._shelf = Shelf(self._config.state.directory / FOLDER)

    def keep(
        self,
        files: Mapping[str, bytes],
        decision: Decision,
        cut: Cut,
        champion: str | None,
        details: Mapping[str, object],
    ) -> None:
        """Keep a candidate that was just refused, if it may be heard again.

        Parameters
        ----------
        files : mapping of str to bytes
            From `artifact.build`.
        decision : Decision
            That refused it.
        cut : Cut
            What its training took of the dataset, whole.
        champion : str or None
            What served before it was judged.
        details : mapping
            Of its training, for the receipt.
        """
        if not self._config.gate.hear_again or not may_be_heard_again(decision):
            return
        store = self._intake.store
        if not isinstance(store.get(ORIGIN), str):
            store.set(ORIGIN, secrets.token_hex(16))
        n_judged = next(rule.figure for rule in decision.rules if rule.name == "min_holdout")
        parts = (cut.splits.train, cut.splits.validation, cut.splits.holdout, cut.splits.promise)
        sessions = [part.groups[part.groups != part.keys] for part in parts if part is not None]
        known = np.unique(np.concatenate(sessions)).astype("<u8")
        told = to_json(details)
        self._shelf.put(Kept(self._world(), cut.end, champion, cut.time_s, int(n_judged or 0), known, told), files)

    def hear(
        self,
        cut: Cut,
        should_stop: Callable[[], bool] = lambda: False,
        tell: Callable[[], None] = lambda: None,
    ) -> Passed | None:
        """Hear what is kept, the last one first, until one passes. Each that is refused again leaves a receipt.

        Parameters
        ----------
        cut : Cut
            What the training whose candidate was just refused took, and chose by.
        should_stop : callable
            Asked before each.
        tell : callable
            Called before each.

        Returns
        -------
        Passed or None
            None where none does.

        Raises
        ------
        PublishError
            If the models directory cannot be written or read.
        """
        waiting = self._waiting()
        if not waiting:
            return None
        read, places = self._intake.since([one.end for _, one in waiting])
        for (folder, one), rows in zip(waiting, places, strict=True):
            new = rows[~np.isin(read.groups[rows], one.sessions)]
            if (read.weights[new] > 0).sum() < max(one.n_judged, self._config.gate.min_holdout):
                continue
            if should_stop():
                return None
            tell()
            splits = replace(cut.splits, holdout=select(read, new), counted=None)
            try:
                exam = Exam.prepare(self._config, self._intake.store, read, HEARING_USES)
                passed = self._heard(folder, one, replace(cut, splits=splits), exam.of(splits.holdout))
            except GoldenError:
                return None  # nothing is published until it can be read; the training's own receipt says so
            except (VersionError, OSError) as error:
                _LOG.warning("a refused candidate can't be heard again: %s", error)
                if isinstance(error, VersionError):
                    self._shelf.remove(folder)
                continue
            if passed is not None:
                return passed
        return None

    def _heard(self, folder: Path, one: Kept, cut: Cut, exam: Exam) -> Passed | None:
        samples = cut.splits.holdout
        staged = self._staged(folder)
        if staged is None:
            return None
        with self._registry.holding(staged):
            verdict = self._judging.hear(staged, cut, exam)
        if verdict.decision.outcome == "skipped":  # too few of one label, or sessions: it is waited for
            self._registry.discard(staged)
            return None
        since = f"on {len(exam.keys):,} samples that came after its training at {rfc3339(one.trained_s)}"
        reason = f"Heard again {since}: {verdict.decision.reason}"
        decision = replace(verdict.decision, heard_since=float(samples.timestamps[0]), reason=reason)
        verdict = replace(verdict, decision=decision)
        if decision.outcome == "published":
            _LOG.info("a refused candidate passes, heard again %s", since)
            return Passed(staged, verdict, {**verdict.details, **one.details})
        self._registry.refuse(decision, staged, {"trained": rfc3339(one.trained_s)}, "hearing")
        verdict.exam.remember(self._intake.store)
        if not may_be_heard_again(decision):
            self._shelf.remove(folder)
        return None

    def _staged(self, folder: Path) -> Path | None:
        """Stage what was kept; None where it was rolled back under the same weights.

        Raises
        ------
        VersionError
            If it is damaged.
        """
        manifest, files = read_sealed(folder)
        # What is beside the files that a router reads: the seal itself, and what the samples were.
        try:
            for name in (MANIFEST_FILE, WINDOW_FILE):
                files[name] = (folder / name).read_bytes()
        except FileNotFoundError as error:
            raise VersionError(folder, f"{error.filename} is missing") from error
        if digest(files[WINDOW_FILE])["sha256"] != manifest["lineage"]["window"]["sha256"]:
            raise VersionError(folder, f"{WINDOW_FILE} is not what it was trained on")
        staged = self._registry.stage(files)
        with self._registry.holding(staged):
            if self._registry.ban_of(staged) is None:
                return staged
        self._registry.discard(staged)
        self._shelf.remove(folder)
        return None

    def _waiting(self) -> list[tuple[Path, Kept]]:
        """Those that were judged against what serves now, in this world, the last one first; others are removed."""
        current, world = self._registry.current(), self._world()
        waiting = []
        for folder in self._shelf.folders():
            try:
                one = self._shelf.read(folder)
            except OSError as error:
                _LOG.warning("a refused candidate can't be heard again: %s", error)
                continue
            if one is not None and self._config.gate.hear_again and (one.champion, one.world) == (current, world):
                waiting.append((folder, one))
            elif one is not None:
                self._shelf.remove(folder)
        return waiting

    def _world(self) -> str:
        """Digest of all that decides which samples a candidate may have been trained on."""
        config = self._config
        promised = config.router.max_error is not None
        origin = self._intake.store.get(ORIGIN)
        parts = [origin, config.schema.digest, config.dataset.holdout, config.dataset.seed, promised]
        return hashlib.sha256(json.dumps([*parts, config.model.sequence_length]).encode()).hexdigest()
