"""``pins.json``: the versions that retention leaves alone."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from streamtrain.publish.durable import sync_directory, write_file
from streamtrain.publish.errors import PublishError, saying


class Pins:
    """The pinned versions of one models directory.

    Parameters
    ----------
    file : Path
        Missing as long as nothing was pinned.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> frozenset[str]:
        """Names of the pinned versions.

        Returns
        -------
        frozenset of str

        Raises
        ------
        PublishError
            If the file is there but cannot be read: a pin must not be lost silently.
        """
        with saying("read pins", self._file):
            try:
                text = self._file.read_bytes()
            except FileNotFoundError:
                return frozenset()
        try:
            names = json.loads(text)
        except ValueError as error:
            raise PublishError(f"read pins: {self._file} is not JSON ({error}); delete it and pin again") from error
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise PublishError(f"read pins: {self._file} is not a list of versions; delete it and pin again")
        return frozenset(names)

    def write(self, names: Collection[str]) -> None:
        """Replace the pins. Only for the holder of the write lock.

        Parameters
        ----------
        names : collection of str

        Raises
        ------
        PublishError
            If they could not be written; the old ones stay.
        """
        with saying("write pins", self._file):
            write_file(self._file, json.dumps(sorted(names)).encode() + b"\n")
            sync_directory(self._file.parent)
