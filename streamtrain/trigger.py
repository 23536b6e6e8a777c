"""When a training is due, and what had been read when the last one began."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from streamtrain.dataset.counts import Counts
from streamtrain.dataset.store import Store
from streamtrain.exam import Exam
from streamtrain.intake import LAST_LEARNED, Intake
from streamtrain.prequential import Prequential


@dataclass(frozen=True, slots=True)
class LastLearned:
    """Samples ever ingested, and the time, when the last training began."""

    n_ingested: int = 0
    time_s: float = 0.0


class Trigger:
    """Remembers the last training in the state database, and tells when the next is due.

    Parameters
    ----------
    intake : Intake
    prequential : Prequential
        Whose alarms ask for trainings too.
    clock : callable
        Seconds since the epoch.
    """

    def __init__(self, intake: Intake, prequential: Prequential, clock: Callable[[], float]) -> None:
        self._intake, self._prequential, self._clock = intake, prequential, clock

    def due(self, counts: Counts | None = None) -> bool:
        """Say whether there is enough new to train on: `min_new_samples`, or anything after `max_interval`.

        An alarm of drift asks for a training sooner (`Prequential.due`).

        Parameters
        ----------
        counts : Counts, optional
            Those of the store, if they are at hand.
        """
        trigger, last = self._intake.config.trigger, self._last_learned()
        counts = counts or self._intake.store.counts()
        n_new = counts.n_total_ingested - last.n_ingested
        if n_new <= 0:
            return False
        if self._clock() < last.time_s:  # the clock was set back
            self.remember(last.n_ingested)
        enough = n_new >= trigger.min_new_samples and counts.n_samples >= trigger.min_samples
        enough = enough or self._prequential.due(counts.n_total_ingested, last.n_ingested)
        return enough or self._clock() - last.time_s >= trigger.max_interval_s

    def remember(self, n_ingested: int, store: Store | None = None, exam: Exam | None = None) -> None:
        """Write down that a training that began after so many samples has come to its end.

        Parameters
        ----------
        n_ingested : int
            Samples ever ingested until then.
        store : Store, optional
            That they were counted in.
        exam : Exam, optional
            What was asked of its candidate.
        """
        if store is not None and store is not self._intake.store:
            return  # it was damaged and begun anew meanwhile, and so was its count
        if exam is not None:
            exam.remember(self._intake.store)
        self._intake.store.set(LAST_LEARNED, asdict(LastLearned(n_ingested, self._clock())))

    def _last_learned(self) -> LastLearned:
        kept = self._intake.store.get(LAST_LEARNED)
        if isinstance(kept, dict):
            return LastLearned(**kept)
        self.remember(0)
        return LastLearned(0, self._clock())
