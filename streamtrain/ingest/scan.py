"""Which files are there: the truth, where events are only hints."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from streamtrain.ingest.identity import Look

INCLUDE: Final = (
    *("*.jsonl*", "*.ndjson*", "*.json", "*.json.gz", "*.json.zst", "*.log*"),
    *("*.csv*", "*.tsv*", "*.db", "*.sqlite", "*.sqlite3", "*.parquet"),
)
EXCLUDE: Final = (".*", "*.tmp", "*.part", "*~")
_DEEPEST: Final = 64  # directories within directories


class Found(NamedTuple):
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
    lister = _Lister(Chosen(include, exclude))
    try:
        top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        lister.refuse(str(directory), error)
    else:
        lister.list(top, str(directory), "", 0)
    lister.files.sort(key=lambda file: (file.look.mtime_ns, file.path))
    return Listing(tuple(lister.files), tuple(lister.refused), lister.complete)


class _Lister:
    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen
        self.files: list[Found] = []
        self.refused: list[tuple[str, str]] = []
        self.complete = True

    def refuse(self, path: str, error: OSError) -> None:
        """Note what can't be listed, and that files may be missing for it."""
        self.complete = False
        self.refused.append((path, error.strerror or "can't be listed"))

    def list(self, directory: int, path: str, below: str, depth: int) -> None:
        """List an open directory, and close it.

        Each is opened from the one above it, so that no link put in its place meanwhile leads elsewhere.
        """
        inner: list[str] = []
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        inner.append(entry.name)
                    elif self._chosen.reads(below + entry.name):
                        self._add(entry, f"{path}/{entry.name}")
            for name in inner:
                if self._chosen.excludes(below + name):
                    continue
                if depth == _DEEPEST:
                    self.refused.append((f"{path}/{name}", f"more than {_DEEPEST} directories deep"))
                    continue
                try:
                    opened = os.open(
                        name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory
                    )
                except OSError as error:
                    self.refuse(f"{path}/{name}", error)
                else:
                    self.list(opened, f"{path}/{name}", f"{below}{name}/", depth + 1)
        except OSError as error:
            self.refuse(path, error)
        finally:
            os.close(directory)

    def _add(self, entry: os.DirEntry[str], path: str) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            # Renamed or deleted since it was listed; the next scan sees it where it is then.
            self.complete = False
            return
        if stat.S_ISREG(status.st_mode):
            self.files.append(Found(path, Look.of(status)))
        else:
            self.refused.append((path, "not a regular file"))


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
