"""A configuration file → sections, with every mistake collected on the way."""

from __future__ import annotations

import difflib
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from streamtrain.config.checks import cross_checks
from streamtrain.config.keys import Key, KeyValueError, as_dict, convert, keys_of, mapping_type
from streamtrain.config.mistakes import ConfigError, Mistake, printable
from streamtrain.config.routers import Part, Service, clashes, split
from streamtrain.config.sections import (
    SECTIONS,
    TEACHERS,
    Config,
    JoinFields,
    SchemaSection,
    VectorFeatures,
)
from streamtrain.config.text import KeyPath, TextError, read_text
from streamtrain.ingest.schema import TRAJECTORY, Join, Schema, VectorField

_MAX_FILE_BYTES = 1024 * 1024
_READY_MADE = {"trajectory": TRAJECTORY}

S = TypeVar("S")


def load(path: Path, router: str | None = None) -> Config:
    """Read a configuration file for one router.

    Parameters
    ----------
    path : Path
    router : str, optional
        Name of one of the file's `routers`; not needed where there is only one.

    Returns
    -------
    Config
        Relative paths in it start at the file's directory.

    Raises
    ------
    ConfigError
        With every mistake; also when the file cannot be read, or has no such router.
    """
    return _chosen(load_service(path), router, path.absolute())


def load_service(path: Path) -> Service:
    """Read a configuration file for all its routers.

    Raises
    ------
    ConfigError
        With every mistake; also when the file cannot be read.
    """
    path = path.absolute()
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        problem = error.strerror or str(error)
        raise ConfigError(path, [Mistake("the file", None, "a configuration that can be read", problem)]) from error
    if len(data) > _MAX_FILE_BYTES:
        raise ConfigError(path, [Mistake("the file", None, "at most 1 MiB", "is this a configuration?")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(path, [Mistake("the file", None, "UTF-8 text", "save it as UTF-8", line)]) from error
    return parse_service(text, path.parent, path)


def parse(text: str, base_dir: Path, path: Path | None = None) -> Config:
    """Read the configuration of the only router from YAML text.

    Parameters
    ----------
    text : str
    base_dir : Path
        Where relative paths start.
    path : Path, optional
        The file that the text came from, for messages.

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        With every mistake.
    """
    return _chosen(parse_service(text, base_dir, path), None, path)


def parse_service(text: str, base_dir: Path, path: Path | None = None) -> Service:
    """Read the configuration of all routers from YAML text; parameters and errors as in `parse`."""
    try:
        document = read_text(text)
    except TextError as error:
        mistake = Mistake(error.key or "the file", None, "plain YAML", f"{error.problem}: {error.hint}", error.line)
        raise ConfigError(path, [mistake]) from error
    parts, mistakes = split(document)
    routers = {}
    for part in parts:
        routers[part.name], found = _read(part, base_dir.absolute())
        mistakes.extend(found)
    if len(parts) > 1 and not mistakes:
        mistakes.extend(clashes(routers))
    if mistakes:
        # What is wrong in a section for all routers is wrong once.
        raise ConfigError(path, list({str(mistake): mistake for mistake in mistakes}.values()))
    first = next(iter(routers.values()))
    return Service(routers, first.status, first.log)


def _read(part: Part, base_dir: Path) -> tuple[Config, list[Mistake]]:
    reader = _Reader(part, base_dir)
    config = _rooted(reader.config(), base_dir)
    # A rule about two keys says nothing useful while one of them is wrong by itself.
    wrong = [mistake.key for mistake in reader.mistakes]
    for found in cross_checks(config):
        keys = [part.shown(tuple(key.split("."))) for key in found.keys]
        if not any(f"{key}.".startswith(f"{mistaken}.") for key in keys for mistaken in wrong):
            line = reader.line(*found.keys)
            reader.mistakes.append(Mistake(keys[0], found.value, found.expected, found.hint, line))
    return config, reader.mistakes


def _chosen(service: Service, router: str | None, path: Path | None) -> Config:
    there = [name for name in service.routers if name]
    if router is None and len(service.routers) == 1:
        return next(iter(service.routers.values()))
    if router is None:
        hint = f"choose one by --router NAME: {', '.join(there)}"
        raise ConfigError(path, [Mistake("routers", None, "one router", hint)])
    if router not in there:
        hint = f"there are {', '.join(there)}" if there else "the file has no `routers`; leave --router out"
        raise ConfigError(path, [Mistake("--router", router, "the name of one of `routers`", hint)])
    return service.routers[router]


def _rooted(config: Config, base_dir: Path) -> Config:
    """Let the paths of a teacher and of secrets start at the file's directory, as every other path does."""
    webhooks = tuple(
        msgspec.structs.replace(one, secret_file=str(base_dir / one.secret_file)) if one.secret_file else one
        for one in config.publish.webhooks
    )
    config = replace(config, publish=replace(config.publish, webhooks=webhooks))
    teacher = config.training.teacher
    if teacher in TEACHERS:
        return config
    return replace(config, training=replace(config.training, teacher=str(base_dir / teacher)))


def to_dict(config: Config) -> dict[str, object]:
    """Return a configuration as JSON values under its YAML keys.

    Parsing them again gives an equal configuration. Durations and sizes are texts such as "10m" and "1MiB".
    """
    return {
        name: as_dict(_schema_section(config.schema) if name == "schema" else getattr(config, name))
        for name in SECTIONS
    }


class _Reader:
    """Turns a document into sections; what does not fit is noted and read as its default."""

    def __init__(self, part: Part, base_dir: Path) -> None:
        self.mistakes: list[Mistake] = []
        # Stands for a required value that is missing, so that reading can go on to the next mistake.
        self._placeholder = base_dir
        self._part = part
        self._document = part.document
        self._base_dir = base_dir

    def line(self, *keys: str) -> int | None:
        """Return the line of the first of these keys that the file has."""
        lines = (self._document.lines.get(tuple(key.split("."))) for key in keys)
        return next((line for line in lines if line is not None), None)

    def config(self) -> Config:
        """Read the whole document."""
        root = self._document.value if self._document.value is not None else {}
        if not isinstance(root, dict):
            self.mistakes.append(Mistake("the file", root, f"sections ({', '.join(SECTIONS)})"))
            root = {}
        self._refuse_unknown(root, list(SECTIONS), ())
        named = root.get("schema")
        ready = _READY_MADE.get(named) if isinstance(named, str) else None
        if ready is not None:
            root = {name: given for name, given in root.items() if name != "schema"}
        sections = {name: self._section(cls, root.get(name), (name,)) for name, cls in SECTIONS.items()}
        written = _schema(sections.pop("schema"))
        return Config(**sections, schema=written if ready is None else ready)

    def _section(self, cls: type[S], given: object, path: KeyPath) -> S:
        keys = keys_of(cls)
        if given is None:
            given = {}
        if not isinstance(given, dict):
            ready = "" if path != ("schema",) else f", or {' or '.join(_READY_MADE)}"
            self._note(path, given, f"a section with the keys {', '.join(keys)}{ready}")
            given = {}
        self._refuse_unknown(given, list(keys), path)
        values = {
            key.attribute: self._value(key, given[name], (*path, name)) for name, key in keys.items() if name in given
        }
        for name, key in keys.items():
            if key.required and key.attribute not in values:
                self._note((*path, name), None, key.expected, "this key is required")
                values[key.attribute] = self._placeholder
            elif key.attribute not in values:
                values[key.attribute] = self._rooted(key.default)
        return cls(**values)

    def _value(self, key: Key, given: object, path: KeyPath) -> object:
        mapping = mapping_type(key)
        if mapping is not None and isinstance(given, dict):
            before = len(self.mistakes)
            value: object = self._section(mapping, given, path)
            return value if len(self.mistakes) == before else key.default
        try:
            return self._rooted(convert(key, given))
        except KeyValueError as error:
            self._note(path, given, key.expected, str(error))
            return self._placeholder if key.required else self._rooted(key.default)

    def _rooted(self, value: object) -> object:
        return self._base_dir / value if isinstance(value, Path) else value

    def _note(self, path: KeyPath, value: object, expected: str, hint: str = "") -> None:
        self.mistakes.append(Mistake(self._part.shown(path), value, expected, hint, self._document.lines.get(path)))

    def _refuse_unknown(self, given: dict[str, object], known: list[str], path: KeyPath) -> None:
        for name in given:
            if name in known:
                continue
            near = difflib.get_close_matches(name, known, n=1)
            homes = [section for section, cls in SECTIONS.items() if name in keys_of(cls)]
            if near:
                hint = f"did you mean {near[0]}?"
            elif homes:
                hint = f"{printable(name)} belongs in {' or '.join(homes)}"
            else:
                hint = ""
            what = "one of" if path else "one of the sections"
            self._note((*path, name), None, f"{what} {', '.join(known)}", hint)


def _schema(section: SchemaSection) -> Schema:
    values: dict[str, Any] = {field.name: getattr(section, field.name) for field in fields(section)}
    if isinstance(section.features, VectorFeatures):
        values["features"] = VectorField(field=section.features.field, dim=section.features.dim)
    values["prices"] = tuple(sorted((section.prices or {}).items()))
    if section.join is not None:
        values["join"] = Join(**asdict(section.join))
    return Schema(**values)


def _schema_section(schema: Schema) -> SchemaSection:
    values: dict[str, Any] = {field.name: getattr(schema, field.name) for field in fields(SchemaSection)}
    if isinstance(schema.features, VectorField):
        values["features"] = VectorFeatures(field=schema.features.field, dim=schema.features.dim)
    values["prices"] = dict(schema.prices) or None
    if schema.join is not None:
        values["join"] = JoinFields(**asdict(schema.join))
    return SchemaSection(**values)
