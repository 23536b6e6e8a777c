"""A published version made once more, from its manifest and the logs that are still there, and compared bit for bit.

Nothing of the state database is needed. The version holds the fingerprint of every sample it was trained on, in order;
its manifest says which stretches of which logs they came from, by content. Whatever the logs are called now, they are
read again, and the samples with these fingerprints are put into that order: the order of reading, duplicates, what had
left the window by then, and halves that were joined all play no part any more.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from streamtrain.aftermath import SINCE, after
from streamtrain.choice import LATELY
from streamtrain.config import Config, ConfigError, parse
from streamtrain.config.sections import SECTIONS
from streamtrain.dataset import scale
from streamtrain.dataset.exploration import explore
from streamtrain.dataset.fingerprint import fingerprints
from streamtrain.dataset.select import COLUMNS, concatenate, select
from streamtrain.dataset.tail import Place
from streamtrain.dataset.window import Window
from streamtrain.ingest.again import find, read_again
from streamtrain.ingest.halves import Half
from streamtrain.ingest.identity import NotReadableError
from streamtrain.ingest.join import Joiner
from streamtrain.ingest.labels import Labeller
from streamtrain.ingest.scan import scan
from streamtrain.ingest.tail import DamagedLogError
from streamtrain.intake import Cut, Intake, ingest_options
from streamtrain.lessons import Lessons, TeacherError
from streamtrain.making import FINE_TUNED, differences, make_candidate
from streamtrain.model.formats import F32_FILE, INT8_FILE, NORMALIZATION_FILE, TRAINING_FILE, WINDOW_FILE
from streamtrain.model.seal import MANIFEST_FILE, Manifest, VersionError, digest
from streamtrain.outlet import catalog
from streamtrain.publish.artifact import Champion, build, load_candidate
from streamtrain.publish.errors import PublishError
from streamtrain.reading import Source
from streamtrain.train.challengers import compete
from streamtrain.types import F32, U64, InputRange, Samples

COMPARED = (F32_FILE, INT8_FILE, TRAINING_FILE, NORMALIZATION_FILE)
"""Files whose digests must be those of the manifest."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One file: SHA-256 as the manifest has it, and of what was made now."""

    name: str
    recorded: str
    rebuilt: str

    @property
    def identical(self) -> bool:
        """Whether they are the same."""
        return self.recorded == self.rebuilt


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a replay.

    Attributes
    ----------
    version, origin : str
    parent : str or None
        What it was fine-tuned from.
    n_samples : int
        Of its window.
    files : tuple of Compared
        Empty where it could not be made.
    missing : tuple of str
        What it takes and is not there, each in a sentence.
    differences : tuple of str
        In what this environment is another than the one it was made in.
    """

    version: str
    origin: str
    parent: str | None
    n_samples: int
    files: tuple[Compared, ...]
    missing: tuple[str, ...]
    differences: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether every file came out bit for bit as it is."""
        return bool(self.files) and all(file.identical for file in self.files)

    def to_json(self) -> dict[str, object]:
        """Return all that as JSON values."""
        files = [
            {"name": one.name, "recorded": one.recorded, "rebuilt": one.rebuilt, "identical": one.identical}
            for one in self.files
        ]
        return {
            "version": self.version,
            "identical": self.identical,
            "origin": self.origin,
            "parent": self.parent,
            "samples": self.n_samples,
            "files": files,
            "missing": list(self.missing),
            "differences": list(self.differences),
        }


class _MissingError(Exception):
    """Something that a replay takes is not there."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


def replay(
    config: Config,
    version: str,
    places: Sequence[Path] = (),
    should_stop: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda what: None,
) -> Replayed | None:
    """Make a version again and compare.

    Parameters
    ----------
    config : Config
        Says where versions and logs are; how it was trained, the version itself says.
    version : str
    places : sequence of Path
        More directories to look for logs in.
    should_stop : callable
        Asked between epochs and while logs are read.
    tell : callable
        Told what is done now.

    Returns
    -------
    Replayed or None
        None where it was stopped.

    Raises
    ------
    VersionError, PublishError
        If there is no such version, or it is damaged itself.
    """
    known = catalog(config)
    directory = known.path(version)
    manifest = load_candidate(directory).manifest
    lineage = manifest.get("lineage")
    if isinstance(lineage, dict) and "window" not in lineage:
        return _of_a_backlog(version, manifest, lineage)
    told: dict[str, Any] = {
        "version": version,
        "origin": str(manifest.get("origin")),
        "parent": manifest.get("parent"),
        "n_samples": 0,
        "files": (),
        "missing": (),
        "differences": (),
    }
    if not isinstance(lineage, dict):
        return Replayed(**(told | {"missing": (_no_lineage(manifest),)}))
    told |= {"n_samples": lineage["window"]["samples"], "differences": tuple(differences(lineage["environment"]))}
    try:
        with tempfile.TemporaryDirectory(prefix="streamtrain-replay-") as scratch:
            recorded = _recorded_config(manifest, config, Path(scratch))
            missing: list[str] = []
            known_order = _order(directory, lineage, missing)
            order = None if known_order is None else known_order[0]
            champion = _parent(known.path, manifest, missing)
            _check_teacher(recorded, lineage, missing)
            tell("finding logs")
            samples = _samples(recorded, config, manifest, order, places, missing, should_stop, tell)
            if missing or samples is None or known_order is None:
                return None if should_stop() else Replayed(**(told | {"missing": tuple(missing)}))
            tell("training")
            window = Window(samples, known_order[1])
            made = _made(recorded, window, known_order[0], champion, manifest, should_stop)
    except _MissingError as error:
        return Replayed(**(told | {"missing": error.reasons}))
    if made is None:
        return None
    files = tuple(
        Compared(name, manifest["files"][name]["sha256"], str(digest(made[name])["sha256"])) for name in COMPARED
    )
    return Replayed(**(told | {"files": files}))


def _of_a_backlog(version: str, manifest: Manifest, lineage: Mapping[str, Any]) -> Replayed:
    """Say how a version of `streamtrain backfill` is made again: by that command, which takes its workers."""
    backlog = lineage.get("backfill") or {}
    parts = backlog.get("parts") or []
    files = list(dict.fromkeys(str(part.get("path")) for part in parts))
    reason = (
        f"it was made by `streamtrain backfill --part-bytes {backlog.get('part_bytes')}` of {len(files):,} files "
        f"({', '.join(files[:3])}{', …' if len(files) > 3 else ''}), all of which the manifest names with their "
        "checksums; the same command with the manifest's `config` and another --models makes the same bits again"
    )
    n_samples = sum(int(part.get("samples", 0)) for part in parts) - int(backlog.get("duplicates", 0))
    different = tuple(differences(lineage["environment"]))
    origin, parent = str(manifest.get("origin")), manifest.get("parent")
    return Replayed(version, origin, parent, n_samples, (), (reason,), different)


def _no_lineage(manifest: Manifest) -> str:
    if manifest.get("origin") == "imported":
        return "it was imported from a file of another trainer, and not trained here"
    return f"its manifest says nothing of its lineage ({manifest.get('written_by') or 'an older streamtrain'} wrote it)"


def _recorded_config(manifest: Manifest, config: Config, scratch: Path) -> Config:
    """Read the configuration that it was trained with; logs and versions are where they are now."""
    written = {name: section for name, section in manifest["config"].items() if name in SECTIONS}
    try:
        # JSON is YAML as long as no character is written in two halves.
        recorded = parse(json.dumps(written, ensure_ascii=False), scratch)
    except ConfigError as error:
        teacher = Path(str(manifest["config"]["training"]["teacher"]))
        if teacher.is_absolute() and not teacher.is_file():
            raise _MissingError(f"the teacher {teacher} that it was distilled from") from error
        raise _MissingError(f"a program that reads its configuration ({manifest['written_by']}): {error}") from error
    return replace(recorded, state=replace(recorded.state, directory=scratch), models=config.models)


def _order(directory: Path, lineage: Mapping[str, Any], missing: list[str]) -> tuple[U64, F32] | None:
    """Read the fingerprints of its samples, and the factors of those that are the reservoir."""
    try:
        data = (directory / WINDOW_FILE).read_bytes()
    except OSError as error:
        missing.append(f"{directory / WINDOW_FILE}, which says what its samples were: {error.strerror}")
        return None
    if hashlib.sha256(data).hexdigest() != lineage["window"]["sha256"]:
        missing.append(f"{directory / WINDOW_FILE} as it was: it was changed after it was written")
        return None
    n_samples = lineage["window"]["samples"]
    order = np.frombuffer(data, "<u8", n_samples).astype(np.uint64)
    return order, np.frombuffer(data, "<f4", offset=8 * n_samples).astype(np.float32)


def _parent(path: Callable[[str], Path], manifest: Manifest, missing: list[str]) -> Champion | None:
    """Load the version that it was fine-tuned from."""
    parent = manifest.get("parent")
    if parent is None:
        return None
    try:
        return load_candidate(path(parent))
    except (VersionError, PublishError, OSError) as error:
        missing.append(f"version {parent}, whose weights it was fine-tuned from: {error}")
        return None


def _check_teacher(config: Config, lineage: Mapping[str, Any], missing: list[str]) -> None:
    wanted, teacher = lineage.get("teacher_sha256"), Path(config.training.teacher)
    if wanted is not None and hashlib.sha256(teacher.read_bytes()).hexdigest() != wanted:
        missing.append(f"the teacher {teacher} as it was: it is another file by now")


def _samples(
    recorded: Config,
    config: Config,
    manifest: Manifest,
    order: U64 | None,
    places: Sequence[Path],
    missing: list[str],
    should_stop: Callable[[], bool],
    tell: Callable[[str], None],
) -> Samples | None:
    """Read its samples out of the logs again, in its order; what can't be had is said in `missing`."""
    schema, options = recorded.schema, ingest_options(recorded)
    sources = [_source(entry) for entry in manifest["lineage"]["sources"]]
    found = find(sources, _files(config, recorded, places), schema, options)
    reasons = [
        _lost(source, manifest["inputs"], found.reasons[source.key])
        for source in sources
        if source.key in found.reasons
    ]
    if order is None:
        missing.extend(reasons)
        return None
    wanted = np.sort(order)
    kept: list[Samples] = []
    halves: list[Half] = []

    def take(samples: Samples, more: tuple[Half, ...]) -> None:
        halves.extend(more)
        rows = np.isin(fingerprints(samples), wanted)
        if rows.any():
            kept.append(select(samples, rows))

    for source in sources:
        path = found.files.get(source.key)
        if path is None:
            continue
        tell(f"reading {path}")
        try:
            read_again(source, path, schema, options, take, should_stop)
        except (OSError, NotReadableError, DamagedLogError) as error:
            reasons.append(_lost(source, manifest["inputs"], str(error)))
        if should_stop():
            return None
    dim = len(schema.feature_names)
    if halves:
        take(Joiner(Labeller(schema), dim).pairs(halves), ())
    samples = concatenate(kept, dim)
    there = fingerprints(samples)
    first = np.argsort(there, kind="stable")
    place = np.searchsorted(there[first], order)
    place[place == len(there)] = 0
    n_lost = len(order) if not len(there) else int((there[first][place] != order).sum())
    if n_lost:
        missing.extend(reasons)
        missing.append(
            f"{n_lost:,} of the {len(order):,} samples of its window are in none of the logs that were found"
        )
        return None
    return _timed(select(samples, first[place]))


def _timed(samples: Samples) -> Samples:
    """Let a sample without a time of its own have that of the one before: the order is what matters."""
    times = np.maximum.accumulate(samples.timestamps)
    return Samples(**{name: times if name == "timestamps" else getattr(samples, name) for name in COLUMNS})


def _source(entry: Mapping[str, Any]) -> Source:
    return Source(
        key=int(entry["source"], 16),
        path=entry["path"],
        head_hash=bytes.fromhex(entry["head_hash"]),
        head_bytes=entry["head_bytes"],
        offset=entry["offset"],
        tail_hash=bytes.fromhex(entry["tail_hash"]),
        tail_bytes=entry["tail_bytes"],
        checksum=entry["checksum"],
    )


def _lost(source: Source, inputs: Sequence[Mapping[str, Any]], reason: str) -> str:
    key = f"{source.key:016x}"
    ranges = [InputRange(**part) for part in inputs if part["source"] == key]
    stretches = ", ".join(f"{part.start:,} to {part.end:,}" for part in ranges)
    return f"bytes {stretches} of {source.path}: {reason}"


def _files(config: Config, recorded: Config, places: Sequence[Path]) -> Iterator[str]:
    """List where logs may be: as configured now and then, in the archive, and wherever else the caller says."""
    directories = [*places, config.logs.directory, config.logs.archive, recorded.logs.directory, recorded.logs.archive]
    for directory in dict.fromkeys(one for one in directories if one is not None):
        for section in (config.logs, recorded.logs):
            for file in scan(directory, section.include, section.exclude).files:
                yield os.fspath(file.path)


def _made(
    config: Config,
    window: Window,
    order: U64,
    champion: Champion | None,
    manifest: Manifest,
    should_stop: Callable[[], bool],
) -> dict[str, bytes] | None:
    """Train once more, as a cycle does."""
    with Intake(config) as intake:
        splits, since = intake.split(window), manifest["lineage"].get(SINCE)
        if since is not None and not splits.holdout.timestamps.all():
            raise _MissingError(
                "the times of its samples: it was chosen and judged by what came after a change of the world, and "
                "lines without a time don't tell again when they were read"
            )
        if since is not None:
            steps = config.model.sequence_length
            splits = after(splits, since, config.gate.min_holdout, steps) or splits
        scaling = scale.fit(splits.train.features, splits.train.weights)
        try:
            serving = manifest["lineage"].get("champion") is not None
            lesson = Lessons(intake).prepare(splits, scaling, champion, should_stop, since=since, serving=serving)
        except TeacherError as error:
            raise _MissingError(str(error)) from error
        origin = manifest["origin"]
        recipes = [recipe for recipe in lesson.recipes if recipe.name == origin]
        if not recipes:
            more = " without its parent" if champion is None and origin.startswith(FINE_TUNED) else ""
            raise _MissingError(f"a recipe {origin!r}, which this program does not have{more}")
        (best,) = compete(recipes, intake.shape(), lesson.train, lesson.validation, should_stop, lately=lesson.lately)
        if should_stop():
            return None
        if best.fit is None:
            raise _MissingError(f"an end to its training: it diverges here ({best.failure})")
        cut = Cut(splits, (), Place(), order, window.factors, (), 0.0, explore([], 1.0))
        lately = lesson.lately if manifest["lineage"].get(LATELY) else None
        made = build(make_candidate(intake, best, lately or lesson.validation, scaling, champion, cut, None))
    return {name: data for name, data in made.items() if name != MANIFEST_FILE}
