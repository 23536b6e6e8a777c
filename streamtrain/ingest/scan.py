"""Which files are there: the truth, where events are only hints."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamtrain.ingest.identity import Look

INCLUDE: Final = ("*.jsonl*", "*.ndjson*", "*.json", "*.json.gz", "*.log*")
EXCLUDE: Final = (".*", "*.tmp", "*.part", "*~")
_DEEPEST: Final = 64  # directories within directories


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file in the directory."""

    path: str
    look: Look


@dataclass(frozen=True, slots=True)
class Listing:
    """What a scan found.

    Attributes
    ----------
    files : tuple of Found
        Sorted by time of modification, then name.
    refused : tuple of (str, str)
        Path and reason of directories that could not be listed, and of included names that are no regular files.
    complete : bool
        Every directory could be listed, so that a file that is not in `files` is really gone.
    """

    files: tuple[Found, ...]
    refused: tuple[tuple[str, str], ...]
    complete: bool


def scan(directory: Path, include: Sequence[str] = INCLUDE, exclude: Sequence[str] = EXCLUDE) -> Listing:
    """List a directory and those in it; nothing is opened, and links are not followed (but `directory` may be one).

    Parameters
    ----------
    directory : Path
    include, exclude : sequence of str
        Patterns of the shell. One without a slash is matched against the file's name, one with a slash against its path
        below `directory`. A directory whose name is excluded is not entered.

    Returns
    -------
    Listing
        Empty and not complete where the directory does not exist.
    """
    chosen = Chosen(include, exclude)
    files: list[Found] = []
    refused: list[tuple[str, str]] = []
    complete = True
    todo = [(str(directory), "", 0)]
    while todo:
        place, below, depth = todo.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    inside = f"{below}{entry.name}"
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            if chosen.excludes(inside):
                                continue
                            if depth < _DEEPEST:
                                todo.append((entry.path, f"{inside}/", depth + 1))
                            else:
                                refused.append((entry.path, f"more than {_DEEPEST} directories deep"))
                            continue
                        if not chosen.reads(inside):
                            continue
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        # Renamed or deleted since it was listed; the next scan sees it where it is then.
                        complete = False
                        continue
                    if stat.S_ISREG(status.st_mode):
                        files.append(Found(entry.path, Look.of(status)))
                    else:
                        refused.append((entry.path, "not a regular file"))
        except OSError as error:
            complete = False
            refused.append((place, error.strerror or "can't be listed"))
    files.sort(key=lambda file: (file.look.mtime_ns, file.path))
    return Listing(tuple(files), tuple(refused), complete)


class Chosen:
    """Which paths are to be read.

    Parameters
    ----------
    include, exclude : sequence of str
        As for `scan`.
    """

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        self._include = _Patterns(include)
        self._exclude = _Patterns(exclude)

    def reads(self, path: str) -> bool:
        """Tell whether a file is to be read, by its path below the directory."""
        return self._include.match(path) and not self._exclude.match(path)

    def excludes(self, path: str) -> bool:
        """Tell whether a directory is not to be entered, by its path below the directory."""
        return self._exclude.match(path)

    def would_find(self, path: str) -> bool:
        """Tell whether a scan would come upon a file, by its path below the directory."""
        parts = path.split("/")
        above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
        return self.reads(path) and not any(map(self.excludes, above))


class _Patterns:
    """Several shell patterns at once."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._name = _compile([pattern for pattern in patterns if "/" not in pattern])
        self._path = _compile([pattern.lstrip("/") for pattern in patterns if "/" in pattern])

    def match(self, path: str) -> bool:
        """Tell whether a path or its last part fits any of them."""
        by_name = self._name is not None and self._name.match(path.rpartition("/")[2])
        return bool(by_name or (self._path is not None and self._path.match(path)))


def _compile(patterns: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, patterns))) if patterns else None
