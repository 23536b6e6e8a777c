"""Every new sample with a known outcome is answered by what serves, and by its shadow, before anybody trains on it.

Dawid 1984, "prequential" analysis: a forecaster is judged by the forecasts that it made. What comes of it: the
champion's accuracy over time; its automatic rollback where it is surely worse than its shadow; alarms where the world
has changed.

**The champion** is the current version. **The shadow** is the last version that proved itself: that was not behind the
shadow before it on at least `PROOF` samples of its own. It is not simply the version before, because trainings may
follow each other faster than anything can be shown: then a series of versions, each a little worse than the one before,
would never be noticed. Evidence is gathered against one shadow over all the versions that serve after it, because a
version that was fine-tuned from a bad one is no better for having a new name; but only a version that is itself behind
on `LEAST_OWN` samples, with evidence of `OWN_EVIDENCE` to 1 of its own, is rolled back. A version that a person makes
current is taken as it is: it is its own shadow, and nothing is rolled back until another is published.

**Exactly once.** What was seen, and how far, is one fact of the state database, written after each piece in one go. A
process that is killed between rolling back and writing finds another version current than the one in the fact, and
takes it as it would a person's choice (but for the receipt, which it then writes); killed before, it comes to the same
end from the same samples.

**Before anybody trains on it.** Whoever publishes calls `observe` first, with the lock held (`Prequential.settled`):
all that the new version was trained on has then been answered by the one before it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import RLock

import numpy as np

from streamtrain.aftermath import SINCE
from streamtrain.answers import answers
from streamtrain.dataset import tail
from streamtrain.dataset.select import concatenate, select
from streamtrain.dataset.store import Store
from streamtrain.dataset.tail import Piece
from streamtrain.intake import Intake
from streamtrain.judge.betting import Bets
from streamtrain.judge.drift import losses_of
from streamtrain.judge.served import ALARMS, Answers, advantages
from streamtrain.judge.shift import BLOCK, Reference, Shift
from streamtrain.model.seal import VersionError
from streamtrain.publish.errors import PublishError
from streamtrain.publish.registry import Registry
from streamtrain.router.load import load
from streamtrain.router.scorer import Model
from streamtrain.standing import FACT, Change, Standing, change_in, limit
from streamtrain.types import F64, Samples

_LOG = logging.getLogger(__name__)

PIECE = 4096
"""Samples that are answered, and remembered, at a time."""
PROOF = 500
LEAST_OWN = 100
OWN_EVIDENCE = 20.0
"""To 1, of a version's own: what those before it did is no proof against one that is better."""
RECENT = 200
"""Receipts that are looked through for who made a version current."""
GROWTH = 10
"""An alarm asks for trainings until there is so many times what is enough to judge by."""


class Prequential:
    """Keeps the fact up to date.

    Parameters
    ----------
    intake : Intake
    registry : Registry
    """

    def __init__(self, intake: Intake, registry: Registry) -> None:
        self._intake, self._registry = intake, registry
        self._config = intake.config
        self._guard = RLock()
        self._models: dict[str, tuple[Model, Reference | None]] = {}
        self._trouble = ""
        # Nobody else writes the fact: what is known of it need not be read again while nothing happens.
        self._seen: tuple[Store, int, str | None] | None = None
        self._known: tuple[Store, Change | None] | None = None

    @contextmanager
    def settled(self) -> Iterator[None]:
        """Hold off everything else that answers or rolls back, after all there is was answered."""
        with self._guard:
            self.observe()
            if not self.observe():
                raise PublishError("publish: what was read could not all be answered by what serves; trying again")
            yield

    def observe(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Answer what was read since the last time, and draw the consequences.

        Returns
        -------
        bool
            Whether all of it was answered.

        Raises
        ------
        StoreError
        """
        with self._guard:
            store = self._intake.store
            try:
                current = self._registry.current()
            except PublishError as error:
                self._tell_once(f"new samples can't be answered by what serves: {error}")
                return False
            seen = (store, store.n_total_ingested, current)
            if seen == self._seen:
                return True
            state = self._known_from(store)
            if state is None:
                state = Standing.fresh(self._config.drift, tail.end(store))
                self._write(state)
            if current != state.champion:
                self._succeed(state, current)
                self._write(state)
            while not should_stop():
                steps = self._config.model.sequence_length
                piece = tail.after(store, state.place, PIECE, tail.CONTEXT if steps > 1 else 0)
                if piece is None:
                    self._seen = seen if state.champion == current else None
                    return True
                reason = self._take_in(state, piece)
                state.place = piece.end
                if reason is not None and not self._roll_back(state, reason):
                    return False  # nothing is written: the same samples lead to the same end once it can be done
                self._settle(state)
                self._write(state)
            return False

    def protected(self) -> tuple[str, ...]:
        """Versions that retention must leave alone: the shadow is still needed."""
        state = self._known_from(self._intake.store)
        return () if state is None else tuple(name for name in (state.shadow, state.champion) if name is not None)

    def change(self) -> Change | None:
        """When the world last changed; None if it is not known to have."""
        store = self._intake.store
        if self._known is None or self._known[0] is not store:
            self._known = (store, change_in(store.get(FACT)))
        return self._known[1]

    def due(self, n_total: int, n_last: int) -> bool:
        """Say whether an alarm asks for a training now.

        At once when there is enough after the change to judge by, and again each time it has grown by a quarter,
        until it is `GROWTH` times as much.

        Parameters
        ----------
        n_total : int
            Samples ever ingested.
        n_last : int
            And when the last training began.
        """
        change = self.change()
        if change is None:
            return False
        enough = self.enough
        n, before = n_total - change.n, n_last - change.n
        if n < enough or before > GROWTH * enough:
            return False
        return before < enough or n >= 1.25 * before

    @property
    def enough(self) -> int:
        """Samples after a change that a version can be judged by."""
        trigger, gate = self._config.trigger, self._config.gate
        return max(trigger.min_samples, int(1.1 * gate.min_holdout / self._config.dataset.holdout) + 1)

    # What follows works on one state, with the lock held.

    def _known_from(self, store: Store) -> Standing | None:
        return Standing.of(store.get(FACT), self._config.drift, self._config.schema.digest)

    def _write(self, state: Standing) -> None:
        store = self._intake.store
        store.set(FACT, state.fact(self._config.drift, self._config.schema.digest))
        self._known = (store, state.change)

    def _succeed(self, state: Standing, current: str | None) -> None:
        """Take note that another version is current than before."""
        before, shadow = state.champion, state.shadow
        published = current is not None and before is not None and self._follows(current, before)
        if published and current is not None and before is not None:
            proved = before == shadow or shadow is None
            proved = proved or (state.n_own >= PROOF and state.own_decisions <= 0 and state.own_brier <= 0)
            state.shadow = before if proved or not self._there(shadow) else shadow
            change = state.change
            if change is not None and change.open and self._judged_since(current) >= change.time_s:
                state.change = replace(change, open=False)
        else:
            state.shadow = current
            if before is not None and current is not None:
                try:
                    self._registry.recall(before, current)
                except PublishError as error:
                    self._tell_once(f"the receipt of a rollback could not be written: {error}")
        # After a rollback the shadow is the same, but what led to it was spent by it.
        if state.shadow != shadow or not published:
            state.bets, state.most = Bets(), 1.0
        state.own_bets, state.own_most = Bets(), 1.0
        state.champion = current
        state.n_own, state.own_decisions, state.own_brier = 0, 0.0, 0.0

    def _follows(self, current: str, before: str) -> bool:
        """Tell whether a version was published over another, and not chosen by a person."""
        try:
            previous = self._registry.manifest(current).get("previous")
            recent = self._registry.receipts.read(RECENT)
        except (PublishError, VersionError, OSError):
            return False
        moved = [one for one in recent if one.get("event") in ("promote", "rollback") or one.get("version") == current]
        chosen = bool(moved) and moved[-1].get("event") != "candidate" and moved[-1].get("version") == current
        return previous == before and not chosen

    def _judged_since(self, version: str) -> float:
        """Time from which on samples judged a version; that of no sample where it was judged by all."""
        try:
            manifest = self._registry.manifest(version)
        except (PublishError, VersionError, OSError):
            return -np.inf
        gate, lineage = manifest.get("gate"), manifest.get("lineage")
        since = gate.get("heard_since") if isinstance(gate, dict) else None
        if since is None:
            since = lineage.get(SINCE) if isinstance(lineage, dict) else None
        return float(since) if isinstance(since, (int, float)) else -np.inf

    def _there(self, version: str | None) -> bool:
        try:
            return version is not None and version in self._registry.names()
        except PublishError:
            return True

    def _model(self, version: str) -> tuple[Model, Reference | None] | None:
        """Load a version, and what its training samples looked like; None where it can't answer these samples."""
        features = self._config.schema.feature_names
        found = self._models.get(version)
        if found is None:
            try:
                path = self._registry.path(version)
                manifest = self._registry.manifest(version)
                found = (load(path), Reference.from_json(manifest.get("reference"), len(features)))
            except (PublishError, VersionError, OSError) as error:
                self._tell_once(f"{version} can't answer new samples: {error}")
                return None
            self._models = {name: one for name, one in self._models.items() if name != version}
            while len(self._models) > 1:
                del self._models[next(iter(self._models))]
            self._models[version] = found
        return found if found[0].features == features else None

    def _take_in(self, state: Standing, piece: Piece) -> str | None:
        """Let a piece be answered and add up what comes of it; why the champion is to be rolled back, if it is."""
        if state.champion is None:
            return None
        champion = self._model(state.champion)
        if champion is None:
            return None
        paired = state.shadow not in (None, state.champion)
        shadow = self._model(state.shadow) if paired and state.shadow is not None else None
        samples = piece.samples
        counted = samples.weights > 0
        given = Answers(
            samples.labels[counted],
            samples.timestamps[counted],
            self._answers(champion[0], piece)[counted],
            None if shadow is None else self._answers(shadow[0], piece)[counted],
            None if np.array_equal(samples.groups, samples.keys) else samples.groups[counted],
        )
        right = given.right
        state.curve.add(right, given.timestamps)
        if self._config.drift.detect:
            self._watch(state, piece, select(samples, counted), given, champion[1])
        if given.shadow is None:
            return None
        decisions, brier = advantages(given)
        state.n_own += len(decisions)
        state.own_decisions += float(decisions.sum())
        state.own_brier = float(np.concatenate(([state.own_brier], brier)).cumsum()[-1])
        state.most = max(state.most, float(state.bets.add(decisions, brier, given.sessions).max(initial=1.0)))
        own = float(state.own_bets.add(decisions, brier, given.sessions).max(initial=1.0))
        state.own_most = max(state.own_most, own)
        return self._worse(state)

    def _answers(self, model: Model, piece: Piece) -> F64:
        samples = piece.samples
        if model.sequence_length == 1:
            return answers(model, samples)
        mine = np.isin(piece.context.groups, samples.groups)
        whole: Samples = concatenate([select(piece.context, mine), samples], samples.features.shape[1])
        return answers(model, whole)[int(mine.sum()) :]

    def _worse(self, state: Standing) -> str | None:
        """Say why the champion is to be rolled back, if it is."""
        behind = state.own_decisions >= 0 and state.own_brier >= 0 and state.own_most >= OWN_EVIDENCE
        if (
            not self._config.drift.rollback
            or state.most < limit(self._config.drift)
            or state.n_own < LEAST_OWN
            or not behind
        ):
            return None
        n = state.n_own
        return (
            f"on {n:,} samples that neither was trained on, {state.champion} is worse than {state.shadow}, the last "
            f"version that proved itself: accuracy {100 * state.own_decisions / n:.2f} points lower, Brier score "
            f"{state.own_brier / n:.4f} higher; evidence of {state.most:.3g} to 1, over {state.bets.n:,} samples since "
            f"{state.shadow}, which a version that is no worse reaches in at most "
            f"{100 * (1 - self._config.drift.rollback_confidence):.3g} of 100 cases, however long it is watched"
        )

    def _roll_back(self, state: Standing, reason: str) -> bool:
        """Go back to the shadow, or do without it where it is spoilt; False where it can't be done now."""
        bad, good = state.champion, state.shadow
        if bad is None or good is None:
            return False
        details = {"figures": state.versus(self._config.drift), "samples": state.bets.n}
        try:
            self._registry.withdraw(good, reason[0].upper() + reason[1:], details)
        except VersionError as error:
            self._tell_once(f"{bad} is worse than {good}, which can't be gone back to: {error}")
            state.shadow, state.bets, state.most = bad, Bets(), 1.0
            return True
        except (PublishError, OSError) as error:
            self._tell_once(f"{bad} is worse than {good} and could not be rolled back, trying again: {error}")
            return False
        _LOG.warning("rolled back from %s to %s: %s", bad, good, reason)
        state.alarms = [*state.alarms, [state.curve.state()[-1], f"rolled back from {bad} to {good}"]][-ALARMS:]
        self._succeed(state, good)
        return True

    def _watch(
        self, state: Standing, piece: Piece, samples: Samples, given: Answers, reference: Reference | None
    ) -> None:
        """Let the detectors see a piece."""
        losses = losses_of(given.labels, given.champion)
        found = [(one.at, one.ago, one.text) for one in state.monitor.add(1.0 - given.right, losses)]
        found += self._shifts(state, samples, reference)
        for at, ago, text in sorted(found):
            n_found = piece.end.n - (len(samples.labels) - 1 - at)
            noticed = float(given.timestamps[at])
            state.alarms = [*state.alarms, [noticed, text]][-ALARMS:]
            _LOG.warning("drift: %s; %s samples came after the change", text, ago)
            before = state.change
            if before is not None and before.open and n_found - ago - before.n < self.enough:
                continue  # a slow change is found again and again: what came after its beginning is waited for
            time_s = tail.time_at(self._intake.store, n_found - ago)
            state.change = Change(n_found - ago, noticed if time_s is None else time_s, n_found, text)

    def _settle(self, state: Standing) -> None:
        """Let an alarm be over after so many samples that nothing better than what serves is to be expected."""
        change = state.change
        if change is not None and change.open and state.place.n - change.n > GROWTH * self.enough:
            state.change = replace(change, open=False)

    def _shifts(self, state: Standing, samples: Samples, reference: Reference | None) -> list[tuple[int, int, str]]:
        threshold = self._config.drift.psi
        if reference is None or threshold <= 0:
            return []
        shift = Shift(reference, threshold, state.champion or "")
        if state.shift is not None:
            shift.resume(state.shift)
        found, start = [], 0
        while start < len(samples.labels):
            stop = min(len(samples.labels), start + shift.room)
            if shift.add(samples.features[start:stop], samples.groups[start:stop]):
                worst = int(np.argmax(shift.psi))
                name = self._config.schema.feature_names[worst]
                text = f"PSI: {name} is distributed otherwise than in training ({shift.psi[worst]:.2f})"
                found.append((stop - 1, BLOCK, text))
            start = stop
        state.shift = shift.state()
        return found

    def _tell_once(self, text: str) -> None:
        if text != self._trouble:
            _LOG.warning("%s", text)
        self._trouble = text
