"""The local side of a pull: a models directory that follows a remote one, and what it followed last.

::

    models/
      pull.json                 the pointer accepted last; its being there keeps trainers out
      .staging/pull-<digest>/   one version on its way in, which stays through crashes; gone when it is in or given up
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from streamtrain.fleet.accepted import Accepted, read_accepted, write_accepted
from streamtrain.fleet.errors import RefusedError
from streamtrain.fleet.pointer import Pointer
from streamtrain.model.seal import MANIFEST_FILE, MANIFEST_LIMIT_BYTES, VersionError
from streamtrain.model.signature import PublicKey
from streamtrain.publish.catalog import read_whole
from streamtrain.publish.durable import make_directory, move_directory
from streamtrain.publish.errors import PublishError, saying
from streamtrain.publish.lock import Lock
from streamtrain.publish.receipts import Receipt
from streamtrain.publish.registry import Registry
from streamtrain.publish.retention import clean, remove
from streamtrain.publish.workspace import FOLLOWS_FILE
from streamtrain.router.load import load_version

_PREFIX = "pull-"


class Mirror(Registry):
    """A models directory that is only ever what a remote one was.

    Parameters
    ----------
    models_dir : path
        New, empty, or a mirror already.
    keep : int
        As in `Registry`.
    clock : callable
        Seconds since the epoch.
    public_key : PublicKey, optional
        Who must have signed what comes in.
    """

    def __init__(
        self,
        models_dir: str | os.PathLike[str],
        *,
        keep: int = 10,
        clock: Callable[[], float] = time.time,
        public_key: PublicKey | None = None,
    ) -> None:
        super().__init__(models_dir, keep=keep, clock=clock, public_key=public_key)
        self._owner = Lock(self.models_dir / ".owner.lock", "it is trained or pulled into already,")
        self._file = self.models_dir / FOLLOWS_FILE

    def accepted(self) -> Accepted | None:
        """Read what was accepted last.

        Returns
        -------
        Accepted or None
            None if nothing was yet.

        Raises
        ------
        PublishError
            If it is there and can't be read.
        """
        return read_accepted(self._file)

    def accept(self, accepted: Accepted) -> None:
        """Remember a pointer, before anything is changed: from here on, older ones are stale.

        Parameters
        ----------
        accepted : Accepted

        Raises
        ------
        PublishError
            If it can't be written.
        """
        with self._changing("pull"), saying("pull", self._file):
            write_accepted(self._file, accepted)

    def forget(self) -> None:
        """Take whatever comes next, however old it is.

        Raises
        ------
        PublishError
        """
        with self._changing("pull"), saying("pull", self._file):
            write_accepted(self._file, None)

    def holds(self, pointer: Pointer) -> bool:
        """Whether the version that is pointed to is here, and verifies to the last bit.

        Parameters
        ----------
        pointer : Pointer

        Returns
        -------
        bool
            False if it is not here, or damaged.

        Raises
        ------
        RefusedError
            If there is a sound version of this name with another content: routers would never notice the change.
        OSError
            If it could not be read just now.
        """
        directory = self.versions_dir / pointer.version
        if not directory.is_dir():
            return False
        try:
            load_version(directory, pointer.version, self.public_key)
        except VersionError:
            return False
        with (directory / MANIFEST_FILE).open("rb") as stream:
            here = hashlib.sha256(stream.read(MANIFEST_LIMIT_BYTES + 1)).hexdigest()
        if here != pointer.manifest_sha256:
            raise RefusedError(
                f"pull: {directory} is another {pointer.version} than the remote's (manifest {here[:12]}…, there "
                f"{pointer.manifest_sha256[:12]}…); versions never change: see which is the right one, or pull into a "
                "new directory"
            )
        return True

    def staged(self, pointer: Pointer) -> Path:
        """Make, or find again, the directory where a version is put together. Others that were begun are removed.

        Parameters
        ----------
        pointer : Pointer

        Returns
        -------
        Path

        Raises
        ------
        PublishError
            If it can't be made.
        """
        # Named by its content, so that parts of one manifest's files never meet those of another.
        outer = self._staging / f"{_PREFIX}{pointer.manifest_sha256[:32]}"
        with saying("pull", self._staging):
            self._remove_staged(but=outer.name)
            make_directory(outer / pointer.version)
        return outer / pointer.version

    def check(self, staged: Path, version: str) -> None:
        """Verify a complete version before anybody is pointed to it: all of its bytes, and as routers load it.

        Parameters
        ----------
        staged : Path
        version : str

        Raises
        ------
        VersionError
        OSError
            If it could not be read just now.
        """
        load_version(staged, version, self.public_key)
        read_whole(staged, version, self.public_key)

    def swap(self, pointer: Pointer, staged: Path | None = None) -> str | None:
        """Point ``current`` to a version that was verified.

        Parameters
        ----------
        pointer : Pointer
        staged : Path, optional
            Where it was put together, if it is not among the versions.

        Returns
        -------
        str or None
            What was current before.

        Raises
        ------
        PublishError
            If it could not be done; ``current`` points where it did, unless the message says otherwise.
        """
        version = pointer.version
        receipt: Receipt = {"event": "pull", "version": version, "previous": None, "serial": pointer.serial}
        receipt["manifest_sha256"] = pointer.manifest_sha256
        with self._recording_failure(receipt), self._changing("pull"):
            receipt["previous"] = previous = self.current()
            if staged is not None:
                with saying("pull", self.versions_dir):
                    make_directory(self.versions_dir)
                    target = self.versions_dir / version
                    if target.exists():
                        # Damaged: nobody can load it, so nobody misses it between the two renames.
                        remove(target, self._staging / f"retired-{version}")
                    move_directory(staged, target)
            if staged is not None or previous != version:
                self._remove_staged()
                self._point(version, "pull")
                self._ledger.record_done(receipt)
                self._retire(())
        return previous

    def _settle_in(self) -> list[tuple[str, str | None]]:
        if not self._file.exists():
            if self.names() or self.current() is not None or self.receipts.read(1):
                raise PublishError(
                    f"pull: {self.models_dir} is a trainer's (it has versions, or receipts, and no {FOLLOWS_FILE}); "
                    "pull into a new directory"
                )
            write_accepted(self._file, None)
        # What was begun stays; and there are no receipts to make up: a version without one was never pointed to.
        clean(self._staging, self.models_dir, lambda name: name.startswith(_PREFIX))
        return []

    def _remove_staged(self, but: str = "") -> None:
        for entry in self._staging.glob(f"{_PREFIX}*"):
            if entry.name != but:
                shutil.rmtree(entry, ignore_errors=True)
