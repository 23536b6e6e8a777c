"""``banned.json``: the weights of versions that turned out to be worse than what they replaced; never published again.

By the digest of the weights that are served, not by the version's name: a training that comes to the same weights again
makes another version of the same model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamtrain.model.formats import INT8_FILE
from streamtrain.model.seal import Manifest
from streamtrain.publish.durable import sync_directory, write_file
from streamtrain.publish.errors import PublishError, saying


class Banned:
    """The banned models of one models directory.

    Parameters
    ----------
    file : Path
        Missing as long as nothing was banned.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> dict[str, dict[str, Any]]:
        """SHA-256 of the served weights → "version", "time" and "reason".

        Returns
        -------
        dict

        Raises
        ------
        PublishError
            If the file is there but cannot be read: a ban must not be lost silently.
        """
        with saying("read what is banned", self._file):
            try:
                text = self._file.read_bytes()
            except FileNotFoundError:
                return {}
        try:
            found = json.loads(text)
        except ValueError as error:
            raise PublishError(
                f"read what is banned: {self._file} is not JSON ({error}); delete it, and nothing is"
            ) from error
        if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
            raise PublishError(f"read what is banned: {self._file} is not a mapping; delete it, and nothing is")
        return found

    def add(self, digest: str, why: Mapping[str, object]) -> None:
        """Ban a model. Only for the holder of the write lock.

        Parameters
        ----------
        digest : str
        why : mapping
            JSON values.

        Raises
        ------
        PublishError
            If it could not be written.
        """
        found = self.read() | {digest: dict(why)}
        with saying("ban a version", self._file):
            write_file(self._file, json.dumps(found, indent=2, allow_nan=False).encode() + b"\n")
            sync_directory(self._file.parent)


def served_digest(manifest: Manifest) -> str | None:
    """SHA-256 of the weights that a version serves; None where its manifest does not name them."""
    files = manifest.get("files")
    entry = files.get(INT8_FILE) if isinstance(files, dict) else None
    digest = entry.get("sha256") if isinstance(entry, dict) else None
    return digest if isinstance(digest, str) else None
