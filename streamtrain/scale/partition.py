"""What a worker does with its part of the inputs: read it, look at it, make arrays of it. Nothing here knows of Dask.

Each step is a function of values alone, so that it may be done again, anywhere, with the same outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtrain.config import Config
from streamtrain.dataset import scale, sequence
from streamtrain.dataset.compact import Compact, compact, restored
from streamtrain.dataset.scale import Moments
from streamtrain.dataset.select import concatenate, select
from streamtrain.dataset.split import HOLDOUT, PROMISE, VALIDATION, in_fraction
from streamtrain.dataset.weighting import reweighted
from streamtrain.ingest.apart import Apart, key_of, read_file, read_stretch
from streamtrain.ingest.halves import Half
from streamtrain.ingest.identity import NotReadableError
from streamtrain.ingest.join import Joiner
from streamtrain.ingest.labels import Labeller
from streamtrain.intake import held_out, judges, promise_share
from streamtrain.reading import Quarantined
from streamtrain.scale.files import InputReader, brought
from streamtrain.scale.inputs import Part
from streamtrain.train.fit import Split
from streamtrain.types import F32, U64, Arrays, Bools, Samples, Scaling

I32 = NDArray[np.int32]
LOOKED_AT = "looked at"
"""Salt of the hash that chooses which training samples stand for all of them."""


@dataclass(frozen=True, slots=True)
class Held:
    """Samples of a part, and halves of records whose other half may be in another."""

    index: int
    samples: Compact
    halves: tuple[Half, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a part that was read.

    Attributes
    ----------
    index : int
    source : int
        Key of its file's source.
    start, stop, checksum : int
        Which (decompressed) bytes, or rows, were read, and their CRC-32.
    n_lines, n_samples, n_quarantined, n_halves : int
    n_free, n_judging : int
        Samples that may be learned from, and those of the holdout.
    quarantined : tuple of Quarantined
        Examples.
    slice_names : mapping of int to str
    refused : str or None
        Why the whole file is left alone.
    """

    index: int
    source: int
    start: int
    stop: int
    checksum: int
    n_lines: int
    n_samples: int
    n_quarantined: int
    n_halves: int
    n_free: int
    n_judging: int
    quarantined: tuple[Quarantined, ...]
    slice_names: Mapping[int, str]
    refused: str | None = None


def read(part: Part, config: Config, options: Mapping[str, Any]) -> tuple[Held, Told]:
    """Read a part.

    Raises
    ------
    InputError
        If it can't be read just now, or was changed.
    """
    schema, limit = config.schema, {"max_line_bytes": config.logs.max_line_bytes}
    name = part.file.name
    try:
        if part.start is None or part.stop is None:
            table = None if config.logs.sqlite is None else config.logs.sqlite.table
            with brought(part.file, options) as path:
                apart = read_file(path, name, schema, part.time_s, **limit, sqlite_table=table)
        else:
            with InputReader(part.file, options) as reader:
                start, stop = (reader.line_start(at) for at in (part.start, part.stop))
                stream = reader.stretch(start, stop)
                apart = read_stretch(stream, start, name, schema, part.time_s, **limit)
    except NotReadableError as error:
        nothing = Told(part.index, key_of(name), 0, 0, 0, 0, 0, 0, 0, 0, 0, (), {}, str(error))
        return Held(part.index, compact(concatenate([], len(schema.feature_names)))), nothing
    return _held(part, config, apart)


def _held(part: Part, config: Config, apart: Apart) -> tuple[Held, Told]:
    batch = apart.batch
    samples, start = batch.samples, part.start or 0
    source = next(iter(batch.sources), None)
    groups = samples.groups
    told = Told(
        index=part.index,
        source=key_of(part.file.name) if source is None else source.key,
        start=min((one.start for one in batch.ranges), default=start),
        stop=start if source is None else source.offset,
        checksum=0 if source is None else source.checksum,
        n_lines=batch.n_lines,
        n_samples=len(samples.keys),
        n_quarantined=batch.n_quarantined,
        n_halves=len(apart.halves),
        n_free=int((~held_out(config, groups)).sum()),
        n_judging=int(judges(config, groups).sum()),
        quarantined=batch.quarantined,
        slice_names=batch.slice_names,
    )
    return Held(part.index, compact(samples), apart.halves), told


def keys_in(held: Held, bucket: int, n_buckets: int) -> tuple[int, U64]:
    """Take the keys of one bucket of many, in the order of the rows."""
    keys: U64 = held.samples.columns["keys"]
    return held.index, keys[_in_bucket(keys, bucket, n_buckets)]


@dataclass(frozen=True, slots=True)
class Again:
    """Rows of a part whose key came before: their places among those of a bucket."""

    bucket: int
    n_buckets: int
    places: I32


def repeated(parts: Sequence[tuple[int, U64]], bucket: int, n_buckets: int) -> dict[int, Again]:
    """Find what has a key that came before, in an earlier part or row.

    Parameters
    ----------
    parts : sequence of (int, uint64 (N,))
        From `keys_in`, in the order of the parts.
    bucket, n_buckets : int
        Which they are of.

    Returns
    -------
    dict of int to Again
        By part; of the first of equal keys nothing.
    """
    keys: U64 = np.concatenate([keys for _, keys in parts]) if parts else np.zeros(0, np.uint64)
    # Without places, which few or none have to be known of: sorting keys alone is many times faster.
    ordered = np.sort(keys)
    several = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(several):
        return {}
    of_several = np.flatnonzero(np.isin(keys, several))
    order = of_several[np.argsort(keys[of_several], kind="stable")]
    again = np.sort(order[1:][keys[order[1:]] == keys[order[:-1]]])
    found, start = {}, 0
    for index, some in parts:
        places = again[(again >= start) & (again < start + len(some))] - start
        if len(places):
            found[index] = Again(bucket, n_buckets, places.astype(np.int32))
        start += len(some)
    return found


def without(held: Held, repetitions: Sequence[Again]) -> Held:
    """Leave out rows of a part."""
    kept, keys = np.ones(held.samples.n, np.bool_), held.samples.columns["keys"]
    for again in repetitions:
        kept[np.flatnonzero(_in_bucket(keys, again.bucket, again.n_buckets))[again.places]] = False
    return replace(held, samples=compact(select(restored(held.samples), kept)))


def halves_in(held: Held, bucket: int, n_buckets: int) -> tuple[Half, ...]:
    """Take the halves of one bucket of many, by the key that joins them."""
    keys = np.array([half.key for half in held.halves], np.int64).view(np.uint64)
    return tuple(held.halves[row] for row in np.flatnonzero(_in_bucket(keys, bucket, n_buckets)))


@dataclass(frozen=True, slots=True)
class Joined:
    """What became of the halves of one bucket."""

    n_repeated: int
    n_unlabelled: int
    n_waiting: int
    n_samples: int
    n_free: int
    n_judging: int


def join(parts: Sequence[tuple[Half, ...]], index: int, config: Config) -> tuple[Held, Joined]:
    """Join the halves of one bucket, in the order of the parts; they become a part of their own."""
    dim = len(config.schema.feature_names)
    halves = [half for some in parts for half in some]
    joined = Joiner(Labeller(config.schema), dim).join(halves, lambda keys: {})
    groups = joined.samples.groups
    waiting = sum(one.waiting for one in joined.pending)
    free, judging = int((~held_out(config, groups)).sum()), int(judges(config, groups).sum())
    told = Joined(joined.n_repeated, joined.n_unlabelled, waiting, len(groups), free, judging)
    return Held(index, compact(joined.samples)), told


def sessions_in(held: Held, bucket: int, n_buckets: int) -> Compact:
    """Take the samples of the sessions of one bucket of many."""
    groups: U64 = held.samples.columns.get("groups", held.samples.columns["keys"])
    return compact(select(restored(held.samples), _in_bucket(groups, bucket, n_buckets)))


def regrouped(parts: Sequence[Compact], index: int, dim: int) -> Held:
    """Put whole sessions together, in the order of time."""
    samples = concatenate([restored(part) for part in parts], dim)
    return Held(index, compact(select(samples, np.argsort(samples.timestamps, kind="stable"))))


@dataclass(frozen=True, slots=True)
class Shares:
    """How much of the samples does what.

    Attributes
    ----------
    validation : float
        Of those that may be learned from, stop and choose.
    shown : mapping of str to float
        Of the holdout ("holdout", "promise"), of validation and of training ("train"), are looked at in one place.
    """

    validation: float
    shown: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be known of a part before its arrays are made.

    Attributes
    ----------
    sizes : mapping of str to int
        Samples of each split.
    moments : Moments
        Of its training features.
    shown : mapping of str to Compact
        Those samples of each split that are looked at in one place.
    """

    sizes: Mapping[str, int]
    moments: Moments
    shown: Mapping[str, Compact]


@dataclass(frozen=True, slots=True)
class Raw:
    """Arrays of a part whose features are not scaled yet. Whatever else is known of the samples is let go of."""

    index: int
    train: Arrays
    validation: Arrays


def look(held: Held, config: Config, shares: Shares, *, teachers: bool) -> tuple[Look, Raw]:
    """Look at a part, and lay out what is learned from and chosen by; with a teacher's logits, if asked for."""
    raw = restored(held.samples)
    samples = reweighted(raw, config.dataset.max_propensity_weight)
    masks = _masks(config, samples.groups, shares)
    training = masks["train"]
    seed, shown = config.dataset.seed, {}
    for name, share in shares.shown.items():
        fraction, salt = _fraction(config, name, share, shares.validation)
        chosen = masks[name] & in_fraction(samples.groups, fraction, seed, salt)
        # As logged: whoever looks corrects them, and says how much there was to correct.
        shown[name] = compact(select(raw, chosen))
    moments = scale.moments(samples.features[training], samples.weights[training])
    raw_arrays = Raw(
        held.index,
        _laid_out(select(samples, training), config, teachers=teachers),
        _laid_out(select(samples, masks["validation"]), config),
    )
    return Look({name: int(mask.sum()) for name, mask in masks.items()}, moments, shown), raw_arrays


def _fraction(config: Config, name: str, share: float, validation: float) -> tuple[float, str]:
    """Which hash chooses what is shown of a split: less of the same one, so that the rest of it is as it was."""
    holdout = config.dataset.holdout
    return {
        "holdout": (holdout * share, HOLDOUT),
        "promise": (promise_share(holdout) * share, PROMISE),
        "validation": (validation * share, VALIDATION),
        "train": (share, LOOKED_AT),
    }[name]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Arrays of a part, as the kernels take them; `weight` is that of its training samples."""

    index: int
    train: Split
    validation: Split
    weight: float


def prepare(raw: Raw, scaling: Scaling) -> Prepared:
    """Scale the arrays of a part."""
    weight = float(np.sum(raw.train.weights, dtype=np.float64))
    train, validation = (Split.of(_scaled(one, scaling)) for one in (raw.train, raw.validation))
    return Prepared(raw.index, train, validation, weight)


def arrays_of(samples: Samples, config: Config, scaling: Scaling) -> Arrays:
    """Lay samples out for the kernels, and scale them."""
    return _scaled(_laid_out(samples, config), scaling)


def _laid_out(samples: Samples, config: Config, *, teachers: bool = False) -> Arrays:
    index = sequence.layout(samples.groups, samples.timestamps, config.model.sequence_length)
    logged: F32 | None = samples.teachers if teachers else None
    return sequence.gather(index, samples.features, samples.labels, samples.weights, logged)


def _scaled(arrays: Arrays, scaling: Scaling) -> Arrays:
    """Scale features; what padding becomes plays no part, for its weight is 0 and nothing follows it in its row."""
    n, steps, dim = arrays.features.shape
    flat = scale.apply(arrays.features.reshape(n * steps, dim), scaling)
    return replace(arrays, features=flat.reshape(n, steps, dim))


def _masks(config: Config, groups: U64, shares: Shares) -> dict[str, Bools]:
    judging, held = judges(config, groups), held_out(config, groups)
    chosen = in_fraction(groups, shares.validation, config.dataset.seed, VALIDATION) & ~held
    masks = {"train": ~held & ~chosen, "validation": chosen, "holdout": judging}
    return masks if config.router.max_error is None else masks | {"promise": held & ~judging}


def _in_bucket(keys: U64, bucket: int, n_buckets: int) -> Bools:
    return np.asarray(keys % np.uint64(n_buckets) == np.uint64(bucket))
