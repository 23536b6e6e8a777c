"""From URLs to parts on workers that are ready to be trained on: read, joined, without repetitions, scaled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from streamtrain.config import Config
from streamtrain.dataset import scale
from streamtrain.dataset.compact import restored
from streamtrain.dataset.select import concatenate, select
from streamtrain.intake import overrides_of
from streamtrain.scale import partition
from streamtrain.scale.cluster import Cluster, Workers
from streamtrain.scale.inputs import Part
from streamtrain.scale.partition import Joined, Look, Shares, Told
from streamtrain.train.presets import TrainingConfig, resolve
from streamtrain.types import Samples, Scaling

Tell = Callable[[str, int, int], None]
"""Told what is done, how much of it is, and how much there is of it."""
SHOWN: Final = {"holdout": 200_000, "promise": 200_000, "validation": 100_000, "train": 100_000}
"""At most about so many samples of each split are looked at in one place: to judge, to calibrate, to describe."""
_BUCKET_BYTES: Final = 32 << 20  # of keys, in one worker's hands; sorting takes a few times as much
_KEY_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Inputs:
    """Parts that were read, on their workers.

    Attributes
    ----------
    held : list of futures
        Of `partition.Held`; parts of joined records, or of whole sessions, stand in for those read.
    parts : list of Part
    told : list of Told
        Of each of them.
    joined : list of Joined
        Of each bucket of records that come in two lines.
    n_repeated : int
        Samples left out because one with the same key came before.
    """

    held: list[Any]
    parts: list[Part]
    told: list[Told]
    joined: list[Joined]
    n_repeated: int

    @property
    def n_free(self) -> int:
        """Samples that may be learned from, before repetitions were left out."""
        return sum(one.n_free for one in self.told) + sum(one.n_free for one in self.joined)

    @property
    def n_judging(self) -> int:
        """Samples of the holdout, before repetitions were left out."""
        return sum(one.n_judging for one in self.told) + sum(one.n_judging for one in self.joined)


def read(cluster: Cluster, config: Config, parts: Sequence[Part], options: Mapping[str, Any], tell: Tell) -> Inputs:
    """Have every part read.

    Raises
    ------
    InputError
        If one could not be.
    """
    pairs = [cluster.submit(partition.read, part, config, options) for part in parts]
    held = [cluster.submit(_first, pair) for pair in pairs]
    noted = [cluster.submit(_second, pair) for pair in pairs]
    del pairs
    told: list[Told] = cluster.gathered(noted, lambda n: tell("reading", n, len(parts)))
    joined: list[Joined] = []
    if any(one.n_halves for one in told):
        held, joined = _joined(cluster, config, held, tell)
    n_repeated = 0
    # Without an identity of its own a line is known by its place, which is nobody else's.
    if config.schema.id is not None or config.schema.join is not None:
        tell("looking for repetitions", 0, 0)
        n_samples = sum(one.n_samples for one in told) + sum(one.n_samples for one in joined)
        held, n_repeated = _without_repetitions(cluster, held, n_samples)
    if config.model.sequence_length > 1:
        tell("putting sessions together", 0, 0)
        held = _by_session(cluster, config, held)
    return Inputs(held, list(parts), told, joined, n_repeated)


def _joined(cluster: Cluster, config: Config, held: list[Any], tell: Tell) -> tuple[list[Any], list[Joined]]:
    """Have halves joined, in as many buckets as there are parts; parts that had samples without that stay."""
    n = len(held)
    pairs = [
        cluster.submit(partition.join, [cluster.submit(partition.halves_in, one, b, n) for one in held], n + b, config)
        for b in range(n)
    ]
    whole, noted = ([cluster.submit(which, pair) for pair in pairs] for which in (_first, _second))
    return [*held, *whole], cluster.gathered(noted, lambda done: tell("joining", done, n))


def _without_repetitions(cluster: Cluster, held: list[Any], n_samples: int) -> tuple[list[Any], int]:
    n_buckets = max(1, -(-n_samples * _KEY_BYTES // _BUCKET_BYTES))
    at_once, rows = len(cluster.threads()), defaultdict(list)
    # A few buckets at a time: all of them together would be another copy of every key.
    for first in range(0, n_buckets, at_once):
        found = [
            cluster.submit(
                partition.repeated, [cluster.submit(partition.keys_in, one, b, n_buckets) for one in held], b, n_buckets
            )
            for b in range(first, min(first + at_once, n_buckets))
        ]
        for some in cluster.gathered(found):
            for index, again in some.items():
                rows[index].append(again)
    for index, repetitions in rows.items():  # a part stands where its index says
        held[index] = cluster.submit(partition.without, held[index], repetitions)
    return held, sum(len(again.places) for some in rows.values() for again in some)


def _by_session(cluster: Cluster, config: Config, held: list[Any]) -> list[Any]:
    n, dim = len(held), len(config.schema.feature_names)
    return [
        cluster.submit(partition.regrouped, [cluster.submit(partition.sessions_in, one, b, n) for one in held], b, dim)
        for b in range(n)
    ]


@dataclass(frozen=True, slots=True)
class Ready:
    """Arrays on their workers, and what is looked at here.

    Attributes
    ----------
    workers : Workers
    training : TrainingConfig
        For training from scratch on so many samples.
    scaling : Scaling
    shown : mapping of str to Samples
        Of each split, in the order of time, as logged.
    sizes : mapping of str to int
        Of each split.
    """

    workers: Workers
    training: TrainingConfig
    scaling: Scaling
    shown: Mapping[str, Samples]
    sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Looked:
    """What is known of all parts, and samples of each split that are looked at here.

    Attributes
    ----------
    training : TrainingConfig
        For training from scratch on so many samples.
    scaling : Scaling
    shown : mapping of str to Samples
        In the order of time, as logged.
    sizes : mapping of str to int
        Of each split.
    loads : list of float
        Of each part: samples to train on and to choose by.
    raw : list of futures
        Of `partition.Raw`.
    """

    training: TrainingConfig
    scaling: Scaling
    shown: Mapping[str, Samples]
    sizes: Mapping[str, int]
    loads: list[float]
    raw: list[Any]


def looked_at(
    cluster: Cluster, config: Config, inputs: Inputs, most: Mapping[str, int], tell: Tell, *, teachers: bool = False
) -> Looked | None:
    """Have every part looked at; None where no sample may be learned from.

    Parameters
    ----------
    cluster : Cluster
    config : Config
    inputs : Inputs
        Its parts are given up on the way: memory holds them once.
    most : mapping of str to int
        At most about so many samples of these splits are shown.
    tell : callable
    teachers : bool
        Whether with a teacher's logits, out of the logs.
    """
    training = resolve(config.training.preset, inputs.n_free, overrides_of(config))
    there = {
        "holdout": inputs.n_judging,
        "promise": inputs.n_judging,
        "validation": inputs.n_free * training.validation_split,
        "train": inputs.n_free * (1.0 - training.validation_split),
    }
    shares = Shares(
        training.validation_split, {name: min(1.0, n / there[name]) if there[name] else 1.0 for name, n in most.items()}
    )
    n_parts, pairs = len(inputs.held), []
    while inputs.held:
        pairs.append(cluster.submit(partition.look, inputs.held.pop(0), config, shares, teachers=teachers))
    noted, raw = ([cluster.submit(which, pair) for pair in pairs] for which in (_first, _second))
    del pairs
    looks: list[Look] = cluster.gathered(noted, lambda n: tell("measuring", n, n_parts))
    measured = [one.moments for one in looks if one.moments.total > 0.0]
    if not measured:
        return None
    dim = len(config.schema.feature_names)
    return Looked(
        training=training,
        scaling=scale.scaling_of(scale.merged(measured)),
        shown={name: _in_time(looks, name, dim) for name in most},
        sizes={name: sum(one.sizes[name] for one in looks) for name in looks[0].sizes},
        loads=[float(one.sizes["train"] + one.sizes["validation"]) for one in looks],
        raw=raw,
    )


def make_ready(cluster: Cluster, config: Config, inputs: Inputs, tell: Tell, *, teachers: bool) -> Ready | None:
    """Have the arrays made that are trained on; arguments and None as for `looked_at`."""
    most = {name: n for name, n in SHOWN.items() if name != "promise" or config.router.max_error is not None}
    looked = looked_at(cluster, config, inputs, most, tell, teachers=teachers)
    if looked is None:
        return None
    n_parts, prepared = len(looked.raw), []
    while looked.raw:
        prepared.append(cluster.submit(partition.prepare, looked.raw.pop(0), looked.scaling))
    # Waited for by something small: what it is of stays where it is.
    cluster.gathered([cluster.submit(_index, one) for one in prepared], lambda n: tell("scaling", n, n_parts))
    workers = Workers(cluster, prepared, looked.loads, validates=looked.sizes["validation"] > 0)
    return Ready(workers, looked.training, looked.scaling, looked.shown, looked.sizes)


def _in_time(looks: Sequence[Look], name: str, dim: int) -> Samples:
    samples = concatenate([restored(one.shown[name]) for one in looks if one.shown[name].n], dim)
    return select(samples, np.argsort(samples.timestamps, kind="stable"))


def _first(pair: tuple[Any, Any]) -> Any:
    return pair[0]


def _second(pair: tuple[Any, Any]) -> Any:
    return pair[1]


def _index(held: Any) -> int:
    return int(held.index)
