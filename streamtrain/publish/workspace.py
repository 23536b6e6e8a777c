"""The writing side of a models directory before anything is published: who may write, and candidates being judged."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Literal, Self

from streamtrain.model.seal import VersionError
from streamtrain.model.signature import PublicKey
from streamtrain.publish.catalog import Catalog
from streamtrain.publish.change import Change, Listener, nobody
from streamtrain.publish.durable import make_directory, sync_directory, write_file
from streamtrain.publish.errors import NoVersionError, PublishError, saying
from streamtrain.publish.ledger import Ledger, candidate_receipt
from streamtrain.publish.lock import Lock, LockedError
from streamtrain.publish.retention import clean

_LOG = logging.getLogger(__name__)

FOLLOWS_FILE = "pull.json"
"""Lies in a directory that `streamtrain pull` keeps in step with a remote one, and no trainer publishes into."""

_WRITE_WAIT_S = 3.0  # changes take milliseconds, and a service that is told to stop has five seconds


class Workspace(Catalog):
    """Ownership of a models directory, and its staging area.

    The owner is the one trainer: two refuse each other. `stage` takes ownership when it is not held yet; `close` or the
    end of the process, however it ends, gives it back.

    Parameters
    ----------
    models_dir : path
        Created when first written to.
    clock : callable
        Seconds since the epoch.
    public_key : PublicKey, optional
        As in `Catalog`.
    on_change : callable
        Told of each change of ``current`` that this object made, and of one that a crash kept from being told.
    """

    def __init__(
        self,
        models_dir: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.time,
        public_key: PublicKey | None = None,
        on_change: Listener = nobody,
    ) -> None:
        super().__init__(models_dir, public_key=public_key)
        self._clock = clock
        self._on_change = on_change
        self._staging = self.models_dir / ".staging"
        self._owner = Lock(self.models_dir / ".owner.lock", "it is trained into already,")
        self._writer = Lock(self.models_dir / ".write.lock", "it is being changed")
        self._threads = RLock()
        self._ledger = Ledger(self, clock)

    def acquire(self) -> None:
        """Become the one trainer of this directory, and clean up what a crashed one left behind.

        Raises
        ------
        LockedError
            If another process trains into it.
        PublishError
            If the directory cannot be created or written, or follows a remote one.
        """
        if self._owner.held:
            return
        with saying("open the models directory", self.models_dir):
            make_directory(self.versions_dir)
            make_directory(self._staging)
            self._owner.acquire()
            try:
                with self._changing("open the models directory"):
                    untold = self._settle_in()
            except (OSError, PublishError):
                self._owner.release()
                raise
        for name, previous in untold:
            self._tell("publish", name, previous)

    def close(self) -> None:
        """Give ownership back."""
        self._owner.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stage(self, files: Mapping[str, bytes]) -> Path:
        """Write a candidate beside the versions, flushed to the disk, so that it can be loaded, scored and judged.

        Parameters
        ----------
        files : mapping of str to bytes
            From `artifact.build`.

        Returns
        -------
        Path
            A directory that the router's loader reads. Hand it to `publish`, `refuse` or `discard`.

        Raises
        ------
        LockedError
            If another process trains into this directory.
        PublishError
            If it could not be written; nothing is left behind.
        """
        failure = candidate_receipt(None, None, None, None)
        with self._recording_failure(failure), saying("stage a candidate", self._staging):
            self.acquire()
            directory = self._new_directory("candidate")
            try:
                for name, data in files.items():
                    write_file(directory / name, data)
                sync_directory(directory)
            except OSError:
                shutil.rmtree(directory, ignore_errors=True)
                raise
        return directory

    @contextmanager
    def holding(self, staged: Path) -> Iterator[None]:
        """Discard a staged candidate if anything inside the ``with`` fails; an interrupt too leaves nothing staged."""
        try:
            yield
        except BaseException:  # it goes on up
            self.discard(staged)
            raise

    def discard(self, staged: Path) -> None:
        """Remove a staged candidate.

        Parameters
        ----------
        staged : Path
        """
        # What cannot be removed now is removed when the directory is next opened.
        shutil.rmtree(staged, ignore_errors=True)

    def _settle_in(self) -> list[tuple[str, str | None]]:
        """Clean up, as the new owner; returns what a crash kept from being told, see `Ledger.recover`."""
        if (self.models_dir / FOLLOWS_FILE).exists():
            raise PublishError(
                f"open the models directory: {self.models_dir} follows a remote one ({FOLLOWS_FILE} says which); train "
                f"into another directory, or stop its pull and remove {FOLLOWS_FILE} to take it over"
            )
        clean(self._staging, self.models_dir)
        return self._ledger.recover()

    @contextmanager
    def _changing(self, operation: str) -> Iterator[None]:
        """Keep every other process, and thread, from changing the directory inside the ``with``."""
        with self._threads:
            with saying(operation, self.models_dir):
                self._writer.acquire(_WRITE_WAIT_S)
            try:
                yield
            finally:
                self._writer.release()

    @contextmanager
    def _recording_failure(self, receipt: dict[str, object]) -> Iterator[None]:
        """Leave a receipt if what is inside the ``with`` fails: now, or with the next one that can be written.

        `receipt` may still be completed inside. A lock that is held by another, and a version that is not there, are
        told to the caller alone.
        """
        try:
            yield
        except (LockedError, NoVersionError):
            raise
        except (PublishError, VersionError) as error:
            self._ledger.owe(receipt | {"outcome": "failed", "reason": str(error)})
            try:
                with self._changing("record a failure"), saying("record a failure", self.models_dir):
                    self._ledger.settle()
            except PublishError as again:
                _LOG.warning("the receipt of a failure could not be written and is kept for later: %s", again)
            raise

    def _tell(self, event: Literal["publish", "rollback", "promote"], version: str, previous: str | None) -> None:
        self._on_change(Change(event, version, previous, self.models_dir, self._clock()))

    def _new_directory(self, kind: str) -> Path:
        """Make an empty directory in the staging area with the permissions that the umask gives, unlike `mkdtemp`."""
        taken = {entry.name for entry in self._staging.iterdir()}
        name = next(name for name in (f"{kind}-{n}" for n in itertools.count()) if name not in taken)
        directory = self._staging / name
        directory.mkdir()
        return directory
