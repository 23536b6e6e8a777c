"""Refused candidates that may be heard again: a folder of the state directory each, whole or not there."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from streamtrain.dataset.tail import Place
from streamtrain.publish.durable import make_directory, move_directory, sync_directory, write_file
from streamtrain.types import U64

_LOG = logging.getLogger(__name__)

ABOUT_FILE: Final = "hearing.json"
SESSIONS_FILE: Final = "sessions.u64"
MOST: Final = 6
"""Candidates that are kept: one older than the last six trainings has learned too little of what is now."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A refused candidate.

    Attributes
    ----------
    world : str
        Digest of what its samples were taken from, and cut by; samples of another one may be those it was trained on.
    end : Place
        Up to which it may have been trained on what was read.
    champion : str or None
        What served when it was judged.
    trained_s : float
        When its training took its samples, seconds since the epoch.
    n_judged : int
        Samples that it was refused by.
    sessions : uint64, (S,)
        Of more than one request, in the window that it was trained on.
    details : mapping
        Of its training, for the receipt.
    """

    world: str
    end: Place
    champion: str | None
    trained_s: float
    n_judged: int
    sessions: U64
    details: Mapping[str, object]


class Shelf:
    """The folder of them. One process writes it: the one that has the state directory.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, kept: Kept, files: Mapping[str, bytes]) -> None:
        """Keep a candidate, and no more than the last `MOST`. What can't be written is told, and does no harm.

        Parameters
        ----------
        kept : Kept
        files : mapping of str to bytes
            From `artifact.build`.
        """
        about = {
            "world": kept.world,
            "n": kept.end.n,
            "anchors": list(kept.end.anchors),
            "champion": kept.champion,
            "trained": kept.trained_s,
            "judged": kept.n_judged,
            "sessions": hashlib.sha256(kept.sessions.tobytes()).hexdigest(),
            "details": kept.details,
        }
        written = json.dumps({"about": about, "sha256": _digest(about)}).encode()
        target, beside = self._folder / f"{kept.end.n:012d}", self._folder / ".new"
        try:
            make_directory(self._folder)
            _remove(beside)
            _remove(target)
            beside.mkdir()
            for name, data in {**files, SESSIONS_FILE: kept.sessions.tobytes(), ABOUT_FILE: written}.items():
                write_file(beside / name, data)
            sync_directory(beside)
            move_directory(beside, target)
        except OSError as error:
            _LOG.warning("a refused candidate could not be kept to be heard again, in %s: %s", self._folder, error)
            return
        for folder in self.folders()[MOST:]:
            _remove(folder)

    def folders(self) -> list[Path]:
        """List them, the last one first."""
        try:
            return sorted((one for one in self._folder.iterdir() if one.name.isdigit() and one.is_dir()), reverse=True)
        except OSError:
            return []

    def read(self, folder: Path) -> Kept | None:
        """Read one; None where it is damaged: that is told, and it is removed.

        Raises
        ------
        OSError
            If it can't be read just now.
        """
        try:
            written: Any = json.loads((folder / ABOUT_FILE).read_bytes())
            about, sessions = written["about"], (folder / SESSIONS_FILE).read_bytes()
            if _digest(about) != written["sha256"] or hashlib.sha256(sessions).hexdigest() != about["sessions"]:
                raise ValueError("it is not what was written")
            return Kept(
                about["world"],
                Place(int(about["n"]), tuple(map(int, about["anchors"]))),
                about["champion"],
                float(about["trained"]),
                int(about["judged"]),
                np.frombuffer(sessions, "<u8").astype(np.uint64),
                dict(about["details"]),
            )
        except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError) as error:
            _LOG.warning("%s is no candidate that can be heard again, and is removed: %s", folder, error)
            self.remove(folder)
            return None

    def remove(self, folder: Path) -> None:
        """Remove one. What can't be removed now is told, and tried again."""
        _remove(folder)


def _digest(about: Mapping[str, object]) -> str:
    """Hash what JSON tells of it, whichever way it is written."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _remove(folder: Path) -> None:
    """Take its name away first: what is half removed must not be read."""
    try:
        if folder.is_dir():
            gone = folder.with_name(".gone")
            if gone.is_dir():
                shutil.rmtree(gone)
            folder.rename(gone)
            shutil.rmtree(gone)
    except OSError as error:
        _LOG.warning("%s could not be removed: %s", folder, error)
