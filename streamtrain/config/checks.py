"""What must hold between the keys of a configuration."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from streamtrain.config.sections import TEACHERS, Config


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Keys that do not go together.

    Attributes
    ----------
    keys : tuple of str
        Dotted; the first one is to be changed.
    value : object
        Of the first key.
    expected, hint : str
        What would be right, and why.
    """

    keys: tuple[str, ...]
    value: object
    expected: str
    hint: str = ""


def cross_checks(config: Config) -> Iterator[Contradiction]:
    """Yield everything in a configuration that contradicts itself or cannot be done."""
    yield from _directories(config)
    yield from _schema(config)
    yield from _sizes(config)
    yield from _promise(config)
    yield from _address(config)
    yield from _publish(config)


def _directories(config: Config) -> Iterator[Contradiction]:
    logs = os.path.normpath(config.logs.directory)
    archive = config.logs.archive
    if archive is not None and os.path.commonpath([logs, os.path.normpath(archive)]) == logs:
        yield Contradiction(
            ("logs.archive", "logs.directory"),
            str(archive),
            "a directory outside logs.directory",
            "what is moved there would be found as a log again",
        )
    if archive is None and config.logs.after_ingest == "archive":
        yield Contradiction(
            ("logs.archive", "logs.after_ingest"), None, "a directory", "logs.after_ingest: archive moves files there"
        )
    for name, directory in (("state", config.state.directory), ("models", config.models.directory)):
        inside = os.path.normpath(directory)
        if os.path.commonpath([logs, inside]) == logs:
            # Receipts and metrics are JSON Lines too: read as logs, they would be quarantined for ever.
            yield Contradiction(
                (f"{name}.directory", "logs.directory"),
                str(directory),
                "a directory outside logs.directory",
                "what the daemon writes there would be read as logs",
            )
    if os.path.normpath(config.state.directory) == os.path.normpath(config.models.directory):
        yield Contradiction(
            ("models.directory", "state.directory"),
            str(config.models.directory),
            "another directory than state.directory",
            "routers read the one and must not see the other",
        )


def _schema(config: Config) -> Iterator[Contradiction]:
    schema = config.schema
    features = schema.features if isinstance(schema.features, tuple) else (schema.features.field,)
    for index, name in enumerate(features):
        if name in features[:index]:
            yield Contradiction(("schema.features",), list(features), "every feature once", f"{name} is listed twice")
    optional = ("session", "teacher", "weight", "propensity", "slice", "scores", "quality", "model")
    roles = ("label", "timestamp", "id", *optional)
    taken: dict[str, str] = {}
    for role in roles:
        field = getattr(schema, role)
        if field is None:
            continue
        if field in features:
            tells = role in ("label", "teacher", "scores", "quality")
            hint = "the model would read off the answer" if tells else "it is a feature already"
            yield Contradiction((f"schema.{role}", "schema.features"), field, "a field that is not a feature", hint)
        elif field in taken and {role, taken[field]} != {"id", "session"}:
            yield Contradiction(
                (f"schema.{role}", f"schema.{taken[field]}"), field, f"another field than schema.{taken[field]}"
            )
        taken.setdefault(field, role)
    if config.model.sequence_length > 1 and schema.session is None:
        yield Contradiction(
            ("model.sequence_length", "schema.session"),
            config.model.sequence_length,
            "1, or schema.session set",
            "without sessions there are no sequences",
        )
    if config.training.teacher == "column" and schema.teacher is None:
        yield Contradiction(
            ("training.teacher", "schema.teacher"),
            "column",
            "schema.teacher set, or another teacher",
            "without a column there is nothing to distil",
        )
    teacher = config.training.teacher
    if teacher not in TEACHERS and not Path(teacher).is_file():
        yield Contradiction(
            ("training.teacher",), teacher, f"{', '.join(TEACHERS)}, or a model file", "there is no such file"
        )
    if not schema.prices and (schema.scores or schema.quality):
        role = "scores" if schema.scores else "quality"
        yield Contradiction(
            ("schema.prices", f"schema.{role}"),
            None,
            f"the price of each model, as schema.{role} is set",
            "which model is the lightweight one, their prices tell",
        )
    if schema.prices and not (schema.scores or schema.quality):
        yield Contradiction(
            ("schema.prices", "schema.scores"),
            dict(schema.prices),
            "null, or schema.scores or schema.quality set",
            "without them the label is a field of its own, and prices change nothing",
        )
    if schema.quality is not None and (schema.join is None or schema.model is None):
        yield Contradiction(
            ("schema.quality", "schema.model", "schema.join"),
            schema.quality,
            "null, or schema.model and schema.join set",
            "the quality of an answer tells something where the model that gave it is known, in lines that are joined",
        )
    if schema.join is not None:
        halves = schema.join
        if halves.decision == halves.outcome:
            yield Contradiction(("schema.join.outcome",), halves.outcome, "another value than that of decisions")
        for role, field in (("key", halves.key), ("kind", halves.kind)):
            if field in features or field in {name for name in taken if taken[name] not in ("id", "session")}:
                yield Contradiction((f"schema.join.{role}", "schema"), field, "a field with no other meaning")
        if halves.key == halves.kind:
            yield Contradiction(("schema.join.kind",), halves.kind, "another field than schema.join.key")
    scales = config.router.input_scale
    if scales is not None and len(scales) != len(schema.feature_names):
        yield Contradiction(
            ("router.input_scale", "schema.features"),
            list(scales),
            f"one number per feature ({len(schema.feature_names)})",
            f"there are {len(scales)}",
        )


def _sizes(config: Config) -> Iterator[Contradiction]:
    window, holdout = config.dataset.window, config.dataset.holdout
    if config.trigger.min_samples > window:
        yield Contradiction(
            ("trigger.min_samples", "dataset.window"),
            config.trigger.min_samples,
            f"at most dataset.window ({window})",
            "the window never holds as many, so nothing would ever be trained",
        )
    if 2 * config.trigger.min_per_class > window * (1 - holdout):
        yield Contradiction(
            ("trigger.min_per_class", "dataset.window", "dataset.holdout"),
            config.trigger.min_per_class,
            f"at most half of the training samples of the window ({int(window * (1 - holdout)) // 2})",
            "the window never holds as many of each, so nothing would ever be trained",
        )
    recent = window - int(window * config.dataset.reservoir)
    if config.gate.min_holdout > recent * holdout:
        yield Contradiction(
            ("gate.min_holdout", "dataset.window", "dataset.reservoir", "dataset.holdout"),
            config.gate.min_holdout,
            f"at most the recent part of dataset.window times dataset.holdout ({int(recent * holdout)})",
            "the holdout never gets as large, so nothing would ever be published",
        )
    golden = config.gate.golden
    if golden is not None and not _is_file(golden):
        yield Contradiction(("gate.golden",), str(golden), "a file of golden cases, or null", "there is no such file")


def _promise(config: Config) -> Iterator[Contradiction]:
    most = config.router.max_error
    if most is None:
        return
    holdout = config.dataset.holdout
    n_promise = int(config.dataset.window * min(holdout, 0.5 * (1.0 - holdout)))
    needed = math.ceil(math.log(1 - config.gate.confidence) / math.log1p(-most))
    if needed > n_promise:
        yield Contradiction(
            ("router.max_error", "dataset.window", "dataset.holdout"),
            most,
            f"a rate that {n_promise} samples, as large as the holdout, can show",
            f"that takes {needed} routed samples without one mistake",
        )


def _address(config: Config) -> Iterator[Contradiction]:
    listen = config.status.listen
    if listen is not None and not listen.startswith("unix:") and int(listen.rpartition(":")[2]) > 65535:
        yield Contradiction(("status.listen",), listen, "a port in 0..65535")


def _publish(config: Config) -> Iterator[Contradiction]:
    for hook in config.publish.hooks:
        if "/" in hook[0] and not hook[0].startswith("/"):
            yield Contradiction(
                ("publish.hooks",),
                [list(words) for words in config.publish.hooks],
                "programs by absolute path, or by a name to find on PATH",
                f"{hook[0]} is relative to nowhere",
            )
        if any("\0" in word for word in hook):
            yield Contradiction(("publish.hooks",), None, "words without NUL characters")
    for webhook in config.publish.webhooks:
        if (webhook.secret_file is None) == (webhook.secret_env is None):
            yield Contradiction(
                ("publish.webhooks",),
                None,
                "either secret_file or secret_env for each",
                "what is sent is always signed",
            )
        if not _is_address(webhook.url):
            yield Contradiction(("publish.webhooks",), None, "addresses http://HOST… or https://HOST…")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
