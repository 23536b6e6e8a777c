"""The models directory: immutable versions, the link ``current`` as the only commit point, and the way back.

::

    models/
      current -> versions/v1763838000    replaced by one rename; readers follow it, nothing else
      versions/v1763838000/              complete and sealed before it gets this name; never changed
      receipts.jsonl                     what happened and why
      pins.json                          versions that retention leaves alone
      .staging/                          candidates before the verdict, and versions on their way out
      .owner.lock  .write.lock           one trainer at a time; one change at a time
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from streamtrain.model.formats import METRICS_FILE
from streamtrain.model.seal import MANIFEST_FILE, VersionError, read_sealed
from streamtrain.publish.artifact import finish
from streamtrain.publish.catalog import VersionInfo, number
from streamtrain.publish.durable import make_directory, move_directory, point_link, sync_directory, write_file
from streamtrain.publish.errors import PublishError, saying
from streamtrain.publish.ledger import candidate_receipt
from streamtrain.publish.lock import LockedError
from streamtrain.publish.retention import choose, remove
from streamtrain.publish.workspace import Workspace
from streamtrain.types import Decision

__all__ = ["LockedError", "PublishError", "Registry", "VersionError", "VersionInfo"]

_LOG = logging.getLogger(__name__)


class Registry(Workspace):
    """Changes a models directory.

    Staging and publishing are the trainer's and need ownership (see `Workspace`). Rolling back, promoting and pinning
    are a person's and work beside a running trainer.

    Parameters
    ----------
    models_dir : path
        Created when first written to.
    keep : int
        How many versions to keep, at least 2; current, its previous, the newest and pinned ones are always kept.
    clock : callable
        Seconds since the epoch.

    Raises
    ------
    ValueError
        If `keep` is too small.
    """

    def __init__(
        self, models_dir: str | os.PathLike[str], *, keep: int = 10, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(models_dir, clock=clock)
        if keep < 2:
            raise ValueError(
                f"Registry: keep is {keep}; expected at least 2, the current version and one to go back to"
            )
        self._keep = keep

    def publish(
        self,
        staged: Path,
        decision: Decision | None = None,
        report: Mapping[str, object] | None = None,
        details: Mapping[str, object] | None = None,
        protect: Collection[str] = (),
    ) -> str:
        """Make a staged candidate the current version.

        Parameters
        ----------
        staged : Path
            From `stage`.
        decision : Decision, optional
            The gate's verdict; goes into the manifest and the receipt.
        report : mapping, optional
            Holdout report for ``metrics.json``.
        details : mapping, optional
            More keys for the receipt (JSON values).
        protect : collection of str
            Versions that retention must not remove this time, beside those it never does.

        Returns
        -------
        str
            Name of the version.

        Raises
        ------
        VersionError
            If the staged bytes are no longer those that were written.
        PublishError
            If it could not be written. ``current`` points where it did, unless the message says otherwise.
        """
        self.acquire()
        with self._changing("publish"):
            previous = self.current()
            now = self._clock()
            version = self._next_version(now)
            try:
                self._make_version(staged, version, now, previous, decision, report)
                self._point(version, "publish")
            except (PublishError, VersionError) as error:
                self.discard(staged)
                left = self._take_back(version)
                failure = {"outcome": "failed", "reason": str(error)}
                self._ledger.record_done(candidate_receipt(decision, left, previous, details) | failure)
                raise
            self._ledger.record_done(candidate_receipt(decision, version, previous, details))
            self._retire(protect)
        return version

    def refuse(
        self, decision: Decision, staged: Path | None = None, details: Mapping[str, object] | None = None
    ) -> None:
        """Record a candidate that was not published, and remove it.

        Parameters
        ----------
        decision : Decision
            With outcome "rejected" or "skipped".
        staged : Path, optional
            Nothing is staged where there were too few samples to train.
        details : mapping, optional
            More keys for the receipt (JSON values).

        Raises
        ------
        PublishError
            If the receipt could not be written.
        """
        if staged is not None:
            self.discard(staged)
        with saying("open the models directory", self.models_dir):
            make_directory(self.models_dir)
        with self._changing("record a refusal"), saying("record a refusal", self.models_dir):
            self._ledger.record(candidate_receipt(decision, None, self.current(), details))

    def rollback(self, version: str | None = None) -> str:
        """Make an earlier version current again.

        Parameters
        ----------
        version : str, optional
            None goes back to the version that the current one took over from; called again, one further.

        Returns
        -------
        str
            The version that is current now.

        Raises
        ------
        PublishError
            If there is no version to go back to, or the link could not be replaced.
        VersionError
            If the version does not verify: the current one stays.
        """
        return self._change_current("rollback", version)

    def promote(self, version: str) -> str:
        """Make any version current.

        Parameters
        ----------
        version : str

        Returns
        -------
        str
            The version.

        Raises
        ------
        PublishError, VersionError
            As in `rollback`.
        """
        return self._change_current("promote", version)

    def pin(self, version: str) -> None:
        """Keep a version for good.

        Parameters
        ----------
        version : str

        Raises
        ------
        PublishError
            If there is no such version, or the pin could not be written.
        """
        self.path(version)
        self._change_pins("pin", version, lambda pins: pins | {version})

    def unpin(self, version: str) -> None:
        """Let retention have a version again.

        Parameters
        ----------
        version : str

        Raises
        ------
        PublishError
            If it is not pinned, or that could not be written.
        """
        pins = self.pins()
        if version not in pins:
            raise PublishError(f"unpin: {version!r} is not pinned; pinned are: {', '.join(sorted(pins)) or 'none'}")
        self._change_pins("unpin", version, lambda pins: pins - {version})

    def _make_version(
        self,
        staged: Path,
        version: str,
        now_s: float,
        previous: str | None,
        decision: Decision | None,
        report: Mapping[str, object] | None,
    ) -> None:
        """Complete and seal a candidate under the name that it gets, then give it that name."""
        with saying("publish", staged):
            manifest, files = read_sealed(staged)
            finished = finish(
                files,
                manifest,
                version=version,
                timestamp_s=now_s,
                previous=previous,
                decision=decision,
                report=report,
            )
            for name in (METRICS_FILE, MANIFEST_FILE):
                write_file(staged / name, finished[name])
            sync_directory(staged)
            make_directory(self.versions_dir)  # it may have been removed since the start
            move_directory(staged, self.versions_dir / version)

    def _take_back(self, version: str) -> str | None:
        """Remove a version that could not be made current; its name if it is still there after that."""
        try:
            remove(self.versions_dir / version, self._staging / f"retired-{version}")
        except OSError:
            # Not there, in most cases; otherwise it is complete, does no harm, and retention gets it one day.
            return version if (self.versions_dir / version).exists() else None
        return None

    def _next_version(self, now_s: float) -> str:
        """Name after the clock, but always after every version there is: a clock set back must not reorder them."""
        names = self.names()
        return f"v{max(int(now_s), number(names[-1]) + 1 if names else 0)}"

    def _point(self, version: str, operation: str) -> None:
        try:
            with saying(operation, self._link):
                point_link(self._link, f"versions/{version}")
        except PublishError as error:
            if self.current() != version:
                raise
            # Renamed but not flushed: every reader sees it, so it is done; only a power cut now could take it back.
            _LOG.warning("%s of %s is done but may not survive a power cut: %s", operation, version, error)

    def _change_current(self, event: str, version: str | None) -> str:
        if not self.names():
            raise PublishError(f"{event}: {self.models_dir} has no versions")
        with self._changing(event):
            current = self.current()
            with saying(event, self.versions_dir):
                target = version or self._rollback_target(current)
                self.verify(target)
            self._point(target, event)
            self._ledger.record_done({"event": event, "version": target, "previous": current})
        return target

    def _rollback_target(self, current: str | None) -> str:
        there = ", ".join(self.names())
        if current is None:
            raise PublishError(f"rollback: {self.models_dir} has no current version; promote one of: {there}")
        target = self.version_before(current)
        if target is None:
            raise PublishError(
                f"rollback: there is no version before {current} in {self.models_dir}; there are: {there}"
            )
        return target

    def _change_pins(self, event: str, version: str, change: Callable[[frozenset[str]], frozenset[str]]) -> None:
        with self._changing(event):
            self._pins.write(change(self.pins()))
            self._ledger.record_done({"event": event, "version": version})

    def _retire(self, protect: Collection[str]) -> None:
        """Remove versions beyond `keep`. What cannot be removed stays until the next time: publishing went well."""
        try:
            current = self.current()
            protected = {*protect, *self.pins()}
            if current is not None:
                protected |= {current, self.version_before(current) or current}
            for name in choose(self.names(), self._keep, protected):
                remove(self.versions_dir / name, self._staging / f"retired-{name}")
        except (OSError, PublishError) as error:
            _LOG.warning("old versions could not be removed: %s", error)
