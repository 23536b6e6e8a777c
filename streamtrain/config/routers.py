"""`routers:` several routers in one file, each with sections of its own over those that all share."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from streamtrain.config.mistakes import Mistake
from streamtrain.config.sections import Config, LogSection, StatusSection
from streamtrain.config.text import Document, KeyPath

SHARED = ("status", "log")
"""Sections of the daemon as a whole."""
MAX_ROUTERS = 64
_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_OWN_DIRECTORIES = ("state", "models")


@dataclass(frozen=True, slots=True)
class Service:
    """What one daemon looks after.

    Attributes
    ----------
    routers : mapping of str to Config
        By name, in the order of the file; one whose file has no `routers` has no name ("").
    status : StatusSection
    log : LogSection
    """

    routers: Mapping[str, Config]
    status: StatusSection
    log: LogSection


@dataclass(frozen=True, slots=True)
class Part:
    """The document of one router: its own sections over the shared ones.

    Attributes
    ----------
    name : str
        "" for a file without `routers`.
    document : Document
        With the line of each key where it is written.
    prefix : str
        What its own keys are called by, such as "routers[1]."
    own : frozenset of key paths
        Keys that it gives itself.
    """

    name: str
    document: Document
    prefix: str = ""
    own: frozenset[KeyPath] = field(default_factory=frozenset)

    def shown(self, path: KeyPath) -> str:
        """Name a key as a person finds it in the file."""
        key = ".".join(path)
        return key if path not in self.own and path in self.document.lines else f"{self.prefix}{key}"


def split(document: Document) -> tuple[list[Part], list[Mistake]]:
    """Cut a document into one for each router.

    Parameters
    ----------
    document : Document

    Returns
    -------
    parts : list of Part
        The document itself where it has no `routers`.
    mistakes : list of Mistake
        In the list itself and in the names; what is in the sections is checked later.
    """
    root = document.value
    if not isinstance(root, dict) or "routers" not in root:
        return [Part("", document)], []
    shared = {name: section for name, section in root.items() if name != "routers"}
    given, line = root["routers"], document.lines.get(("routers",))
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_ROUTERS:
        expected = f"a list of 1 to {MAX_ROUTERS} routers, each {{name, logs, …}}"
        return [Part("", Document(shared, document.lines))], [Mistake("routers", given, expected, "", line)]
    parts, mistakes, names = [], [], set()
    for index, entry in enumerate(given):
        prefix = f"routers[{index}]"
        if not isinstance(entry, dict):
            expected = "a mapping with a name and sections"
            mistakes.append(Mistake(prefix, entry, expected, "write - name: NAME", line))
            continue
        name = entry.get("name")
        where = document.lines.get(("routers", str(index), "name"), line)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            expected = "a name of letters, digits, - and _, at most 64"
            mistakes.append(Mistake(f"{prefix}.name", name, expected, "" if name else "this key is required", where))
            name = f"router-{index}"
        elif name in names:
            mistakes.append(Mistake(f"{prefix}.name", name, "a name that no other router has", "", where))
        names.add(name)
        for section in SHARED:
            if section in entry:
                where = document.lines.get(("routers", str(index), section))
                hint = "it is the daemon's; write it beside `routers`"
                expected = "a section of a router"
                mistakes.append(Mistake(f"{prefix}.{section}", None, expected, hint, where))
        own = {key: value for key, value in entry.items() if key not in ("name", *SHARED)}
        parts.append(_part(name, index, own, shared, document))
    return parts, mistakes


def _part(name: str, index: int, own: dict[str, object], shared: dict[str, object], document: Document) -> Part:
    """Put a router's sections over the shared ones, key by key."""
    merged = dict(shared)
    for section, given in own.items():
        below = shared.get(section)
        merged[section] = {**below, **given} if isinstance(given, dict) and isinstance(below, dict) else given
    for section in _OWN_DIRECTORIES:
        merged[section] = _with_directory(merged.get(section), own.get(section), section, name)
    start = ("routers", str(index))
    theirs = {path[2:]: line for path, line in document.lines.items() if path[:2] == start and len(path) > 2}
    common = {path: line for path, line in document.lines.items() if path[0] != "routers"}
    replaced = {section for section, given in own.items() if not isinstance(given, dict)}
    lines = {path: line for path, line in common.items() if path[0] not in replaced} | theirs
    return Part(name, Document(merged, lines), f"routers[{index}].", frozenset(theirs))


def _with_directory(merged: object, own: object, section: str, name: str) -> object:
    """Give a router a directory of its own below the shared one, unless it says which."""
    if merged is None:
        merged = {}
    if not isinstance(merged, dict) or (isinstance(own, dict) and own.get("directory") is not None):
        return merged
    shared = merged.get("directory", section)
    return {**merged, "directory": f"{shared}/{name}"} if isinstance(shared, str) and shared else merged


def clashes(routers: Mapping[str, Config]) -> list[Mistake]:
    """Find what routers of one daemon can't share.

    Parameters
    ----------
    routers : mapping of str to Config

    Returns
    -------
    list of Mistake
    """
    found = []
    named = list(routers.items())
    for index, (name, config) in enumerate(named):
        prefix = f"routers[{index}]"
        places = {section: os.path.normpath(getattr(config, section).directory) for section in _OWN_DIRECTORIES}
        for other_index, (other, theirs) in enumerate(named):
            if other == name:
                continue
            their_logs = os.path.normpath(theirs.logs.directory)
            for section, place in places.items():
                key = f"{prefix}.{section}.directory"
                taken = {os.path.normpath(getattr(theirs, kind).directory) for kind in _OWN_DIRECTORIES}
                if place in taken and index > other_index:
                    found.append(Mistake(key, place, f"a directory that router {other} does not use"))
                if os.path.commonpath([their_logs, place]) == their_logs:
                    hint = "what is written there would be read as logs"
                    found.append(Mistake(key, place, f"a directory outside the logs of router {other}", hint))
            logs = os.path.normpath(config.logs.directory)
            if config.logs.after_ingest != "keep" and _overlap(logs, their_logs):
                hint = f"router {other} reads the same logs"
                key = f"{prefix}.logs.after_ingest"
                found.append(Mistake(key, config.logs.after_ingest, "keep", hint))
    return found


def _overlap(one: str, other: str) -> bool:
    return os.path.commonpath([one, other]) in (one, other)
