"""Halves of records → whole ones: decisions and outcomes that came together, and what goes on waiting.

Nothing is held here between two batches: what waits is in the database, and changes in the same transaction as the
offsets of the lines it came from. A kill therefore loses no half and joins none twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from streamtrain.ingest.halves import Decision, Half, Outcome
from streamtrain.ingest.hashing import mix
from streamtrain.ingest.labels import Labeller
from streamtrain.reading import Pending
from streamtrain.types import InputRange, Samples

_CLOCKS_APART_S: Final = 60.0  # an outcome's clock may be so much behind its decision's
_REMEMBERED: Final = 8  # joined lines of one key, by which their repetitions are known


class _Record(msgspec.Struct, array_like=True, gc=False):
    """What is known of one key: halves that wait, and the times of those that were joined last."""

    decision: Decision | None = None
    outcome: Outcome | None = None
    joined: list[tuple[float, float]] = []


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Record)


@dataclass(frozen=True, slots=True)
class Joined:
    """What became of the halves of a batch.

    Attributes
    ----------
    samples : Samples
    ranges : tuple of InputRange
        Lines, read in an earlier batch, that samples come from.
    pending : tuple of Pending
        New state of every key.
    n_repeated : int
        Halves read before, or replaced by a later one of the same key.
    n_unlabelled : int
        Outcomes that no label can be made from.
    """

    samples: Samples
    ranges: tuple[InputRange, ...]
    pending: tuple[Pending, ...]
    n_repeated: int
    n_unlabelled: int


class Joiner:
    """Join halves.

    Of several decisions of one key that wait, the latest by its own time stays, and of several outcomes too; they meet
    whichever comes first. What was joined is not joined again: a line of the same key, kind and time is a repetition.

    Parameters
    ----------
    labeller : Labeller
    dim : int
        Number of features D.
    """

    def __init__(self, labeller: Labeller, dim: int) -> None:
        self._labeller = labeller
        self._dim = dim

    def join(self, halves: Sequence[Half], pending: Callable[[Iterable[int]], Mapping[int, bytes]]) -> Joined:
        """Join the halves of one batch with each other and with those that wait.

        Parameters
        ----------
        halves : sequence of Half
            In the order of reading.
        pending : callable
            Gives what is kept of each of some keys, if anything.

        Returns
        -------
        Joined
        """
        kept = pending({half.key for half in halves})
        records = {key: _DECODER.decode(record) for key, record in kept.items()}
        here = {id(half.value) for half in halves}
        whole: list[tuple[int, Decision, float, int]] = []
        n_repeated = n_unlabelled = 0
        for half in halves:
            record = records.setdefault(half.key, _Record())
            n_repeated += _put(record, half.value)
            decision, outcome = record.decision, record.outcome
            if decision is None or outcome is None:
                continue
            if outcome.time_s < decision.time_s - _CLOCKS_APART_S:
                # It belongs to an earlier decision, which this one replaced or which was joined before.
                record.outcome = None
                n_repeated += 1
                continue
            record.outcome = None
            label = outcome.label
            if label is None:
                label = self._labeller.from_quality(outcome.quality, outcome.model or decision.model)
            if label is None:
                n_unlabelled += 1  # the decision goes on waiting: an outcome that says more may come
                continue
            record.decision = None
            record.joined = [*record.joined, (decision.time_s, outcome.time_s)][-_REMEMBERED:]
            whole.append((half.key, decision, label, decision.slice or outcome.slice))
        ranges = tuple(
            InputRange(f"{decision.source:016x}", "", decision.start, decision.end)
            for _, decision, _, _ in whole
            if id(decision) not in here
        )
        waiting = tuple(
            Pending(key, record.decision is not None or record.outcome is not None, _ENCODER.encode(record))
            for key, record in records.items()
        )
        return Joined(self._samples(whole), ranges, waiting, n_repeated, n_unlabelled)

    def pairs(self, halves: Sequence[Half]) -> Samples:
        """Put every decision together with every outcome of its key: whatever was joined once is among them.

        Parameters
        ----------
        halves : sequence of Half
            In any order.

        Returns
        -------
        Samples
        """
        decisions: dict[int, list[Decision]] = {}
        for half in halves:
            if isinstance(half.value, Decision):
                decisions.setdefault(half.key, []).append(half.value)
        whole: list[tuple[int, Decision, float, int]] = []
        for half in halves:
            outcome = half.value
            if isinstance(outcome, Decision):
                continue
            for decision in decisions.get(half.key, ()):
                label = outcome.label
                if label is None:
                    label = self._labeller.from_quality(outcome.quality, outcome.model or decision.model)
                if label is not None:
                    whole.append((half.key, decision, label, decision.slice or outcome.slice))
        return self._samples(whole)

    def _samples(self, whole: list[tuple[int, Decision, float, int]]) -> Samples:
        decisions = [decision for _, decision, _, _ in whole]
        times = np.array([decision.time_s for decision in decisions], np.float64)
        keys = np.array([key for key, _, _, _ in whole], np.int64).view(np.uint64)
        return Samples(
            features=np.frombuffer(b"".join(one.features for one in decisions), np.float32).reshape(-1, self._dim),
            labels=np.array([label for _, _, label, _ in whole], np.float32),
            timestamps=times,
            # A task may come again: the record is its decision at its time.
            keys=mix(keys ^ mix(times.view(np.uint64))),
            groups=np.array([one.group for one in decisions], np.uint64),
            weights=np.array([one.weight for one in decisions], np.float32),
            teachers=np.array([one.teacher for one in decisions], np.float32),
            propensities=np.array([one.propensity for one in decisions], np.float32),
            slices=np.array([slice_ for _, _, _, slice_ in whole], np.uint64),
        )


def _put(record: _Record, half: Decision | Outcome) -> bool:
    """Add a half to what is known of its key; True if that makes it, or the one that was there, superfluous."""
    there: Decision | Outcome | None
    if isinstance(half, Decision):
        there = record.decision
        known = any(half.time_s == decided for decided, _ in record.joined)
    else:
        there = record.outcome
        # Between a decision and the outcome it got: read twice, or an earlier one of the same decision.
        known = any(half.time_s == answered or decided <= half.time_s < answered for decided, answered in record.joined)
    if known or (there is not None and half.time_s <= there.time_s):
        return True
    if isinstance(half, Decision):
        record.decision = half
    else:
        record.outcome = half
    return there is not None
