"""The models directory: immutable versions, the link ``current`` as the only commit point, and the way back.

::

    models/
      current -> versions/v1763838000    replaced by one rename; readers follow it, nothing else
      versions/v1763838000/              complete and sealed before it gets this name; never changed
      receipts.jsonl                     what happened and why
      refused.json                       what the reports of the last refused candidates show
      pins.json                          versions that retention leaves alone
      banned.json                        weights that were rolled back for being worse, and are published no more
      .staging/                          candidates before the verdict, and versions on their way out
      .owner.lock  .write.lock           one trainer at a time; one change at a time
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from streamtrain.model.seal import MANIFEST_FILE, VersionError, read_sealed
from streamtrain.model.signature import SIGNATURE_FILE, PublicKey
from streamtrain.publish.artifact import finish, rfc3339
from streamtrain.publish.banned import Banned, served_digest
from streamtrain.publish.catalog import VersionInfo, number
from streamtrain.publish.change import Listener, nobody
from streamtrain.publish.durable import make_directory, move_directory, point_link, sync_directory, write_file
from streamtrain.publish.errors import NoVersionError, PublishError, saying
from streamtrain.publish.ledger import candidate_receipt
from streamtrain.publish.lock import LockedError
from streamtrain.publish.receipts import Receipt
from streamtrain.publish.retention import choose, remove
from streamtrain.publish.signing import Signer
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
    signer : Signer, optional
        Signs what is published.
    public_key : PublicKey, optional
        Who must have signed a version that is made current by a person; the signer's if None.
    on_change : callable
        Told of each change of ``current``, see `Listener`.

    Raises
    ------
    ValueError
        If `keep` is too small.
    """

    def __init__(
        self,
        models_dir: str | os.PathLike[str],
        *,
        keep: int = 10,
        clock: Callable[[], float] = time.time,
        signer: Signer | None = None,
        public_key: PublicKey | None = None,
        on_change: Listener = nobody,
    ) -> None:
        own_key = None if signer is None else signer.public_key
        super().__init__(models_dir, clock=clock, public_key=public_key or own_key, on_change=on_change)
        if keep < 2:
            raise ValueError(
                f"Registry: keep is {keep}; expected at least 2, the current version and one to go back to"
            )
        self._keep = keep
        self._signer = signer
        self._banned = Banned(self.models_dir / "banned.json")

    def publish(
        self,
        staged: Path,
        decision: Decision | None = None,
        report: Mapping[str, object] | None = None,
        details: Mapping[str, object] | None = None,
        protect: Collection[str] = (),
        router: Mapping[str, object] | None = None,
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
        router : mapping, optional
            What routers are advised to decide by; the manifest's ``router``.

        Returns
        -------
        str
            Name of the version.

        Raises
        ------
        VersionError
            If the staged bytes are no longer those that were written.
        PublishError
            If it could not be written, or its weights are banned. ``current`` points where it did, unless the message
            says otherwise.
        """
        failure = candidate_receipt(decision, None, None, details)
        with self._recording_failure(failure), self._publishing():
            failure["previous"] = previous = self.current()
            now = self._clock()
            version = self._next_version(now)
            banned = self.ban_of(staged)
            if banned is not None:
                self.discard(staged)
                raise PublishError(f"publish: {banned}")
            try:
                self._make_version(staged, version, now, previous, decision, report, router)
                self._point(version, "publish")
            except (PublishError, VersionError):
                self.discard(staged)
                failure["version"] = self._take_back(version)
                raise
            self._ledger.record_done(candidate_receipt(decision, version, previous, details))
            self._retire(protect)
        self._tell("publish", version, previous)
        return version

    def refuse(
        self,
        decision: Decision,
        staged: Path | None = None,
        details: Mapping[str, object] | None = None,
        event: Literal["candidate", "hearing"] = "candidate",
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
        event : str
            "hearing" for one that was refused before, and was heard again.

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
            receipt = candidate_receipt(decision, None, self.current(), details)
            self._ledger.record({**receipt, "event": event})

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

    def withdraw(self, version: str, reason: str, details: Mapping[str, object] | None = None) -> str:
        """Go back from the current version, which turned out to be worse, and never publish its weights again.

        The ban is written first: whatever happens between the two, what is worse cannot come back unseen.

        Parameters
        ----------
        version : str
            To make current instead.
        reason : str
            In a sentence, for the receipt and for whoever asks why the weights are banned.
        details : mapping, optional
            More keys for the receipt (JSON values).

        Returns
        -------
        str
            The version that is current now.

        Raises
        ------
        PublishError, VersionError
            As in `rollback`.
        """
        return self._change_current("rollback", version, {"automatic": True, "reason": reason, **(details or {})})

    def recall(self, bad: str, good: str) -> None:
        """Write the receipt of a `withdraw` that was done, and cut short before its receipt was written.

        Parameters
        ----------
        bad, good : str
            What was current before, and what is now. Nothing happens unless the weights of `bad` are banned and there
            is no receipt of it.

        Raises
        ------
        PublishError
            If it could not be written.
        """
        why = next((one for one in self._banned.read().values() if one.get("version") == bad), None)
        if why is None:
            return
        with self._changing("record a rollback"), saying("record a rollback", self.models_dir):
            receipts = self.receipts.read()
            if any(one.get("event") == "rollback" and one.get("previous") == bad for one in receipts):
                return
            receipt: Receipt = {"event": "rollback", "version": good, "previous": bad, "automatic": True}
            self._ledger.record({**receipt, "reason": why.get("reason"), "recovered": True})

    def ban_of(self, directory: Path) -> str | None:
        """Say why the weights of a staged candidate or a version are banned; None if they are not.

        Parameters
        ----------
        directory : Path

        Returns
        -------
        str or None

        Raises
        ------
        VersionError, PublishError, OSError
            If it does not verify, or what is banned can't be read.
        """
        banned = self._banned.read()
        if not banned:
            return None
        found = banned.get(served_digest(read_sealed(directory, only=())[0]) or "")
        if found is None:
            return None
        return (
            f"these are the very weights of {found.get('version')}, which was rolled back on {found.get('time')} and "
            f"is not published again: {found.get('reason')}"
        )

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
        self._change_pins("pin", version, lambda pins: pins | {self.path(version).name})

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

        def without(pins: frozenset[str]) -> frozenset[str]:
            if version not in pins:
                there = ", ".join(sorted(pins)) or "none"
                raise NoVersionError(f"unpin: {version!r} is not pinned; pinned are: {there}")
            return pins - {version}

        self._change_pins("unpin", version, without)

    @contextmanager
    def _publishing(self) -> Iterator[None]:
        self.acquire()
        with self._changing("publish"):
            yield

    def _make_version(
        self,
        staged: Path,
        version: str,
        now_s: float,
        previous: str | None,
        decision: Decision | None,
        report: Mapping[str, object] | None,
        router: Mapping[str, object] | None,
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
                router=router,
            )
            if self._signer is not None:
                finished[SIGNATURE_FILE] = self._signer.sign(finished[MANIFEST_FILE])
            for name, data in finished.items():
                write_file(staged / name, data)
            sync_directory(staged)
            make_directory(self.versions_dir)  # it may have been removed since the start
            move_directory(staged, self.versions_dir / version)

    def _take_back(self, version: str) -> str | None:
        """Remove a version that could not be made current; its name if it is still there after that."""
        try:
            if self.current() == version:
                return version
        except PublishError:
            # What nobody can tell not to be current stays.
            return version
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
            # A file system may say no and have done it all the same.
            if self.current() != version:
                raise
            _LOG.warning("%s of %s is done all the same: %s", operation, version, error)
        try:
            sync_directory(self.models_dir)
        except OSError as error:
            # Renamed but not flushed: every reader sees it, so it is done; only a power cut now could take it back.
            _LOG.warning("%s of %s is done but may not survive a power cut: %s", operation, version, error)

    def _change_current(
        self,
        event: Literal["rollback", "promote"],
        version: str | None,
        automatic: Mapping[str, object] | None = None,
    ) -> str:
        receipt: Receipt = {"event": event, "version": version, "previous": None, **(automatic or {})}
        if not self.models_dir.is_dir():
            raise NoVersionError(f"{event}: {self.models_dir} has no versions")
        with self._recording_failure(receipt), self._changing(event):
            if not self.names():
                raise NoVersionError(f"{event}: {self.models_dir} has no versions")
            receipt["previous"] = current = self.current()
            with saying(event, self.versions_dir):
                target = version or self._rollback_target(current)
                receipt["version"] = target
                self.verify(target)
            if automatic is not None and current is not None:
                self._ban(current, str(automatic["reason"]))
            self._point(target, event)
            self._ledger.record_done(receipt)
        self._tell(event, target, current)
        return target

    def _ban(self, version: str, reason: str) -> None:
        try:
            digest = served_digest(self.manifest(version))
        except VersionError:
            return  # damaged: there are no such weights to come back
        if digest is not None:
            self._banned.add(digest, {"version": version, "time": rfc3339(self._clock()), "reason": reason})

    def _rollback_target(self, current: str | None) -> str:
        there = ", ".join(self.names())
        if current is None:
            raise NoVersionError(f"rollback: {self.models_dir} has no current version; promote one of: {there}")
        target = self.version_before(current)
        if target is None:
            raise NoVersionError(
                f"rollback: there is no version before {current} in {self.models_dir}; there are: {there}"
            )
        return target

    def _change_pins(self, event: str, version: str, change: Callable[[frozenset[str]], frozenset[str]]) -> None:
        if not self.models_dir.is_dir():
            raise NoVersionError(f"{event}: {self.models_dir} has no versions")
        receipt: Receipt = {"event": event, "version": version}
        with self._recording_failure(receipt), self._changing(event):
            self._pins.write(change(self.pins()))
            self._ledger.record_done(receipt)

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
