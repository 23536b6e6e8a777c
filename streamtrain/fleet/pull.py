"""One pull: the pointer, what it points to if that is not here, all of it verified, and only then the swap.

The order is what keeps it safe. Nothing is written among the versions before all of it verified; the pointer is
remembered before ``current`` is replaced, so that a crash between the two can't let an older pointer in; what is left
half done by a crash, the next pull completes from what was remembered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamtrain.fleet.accepted import Accepted
from streamtrain.fleet.download import download
from streamtrain.fleet.errors import RefusedError
from streamtrain.fleet.mirror import Mirror
from streamtrain.fleet.pointer import POINTER_FILE, POINTER_LIMIT_BYTES, Pointer, PointerError, decode
from streamtrain.fleet.remote import Remote, open_remote
from streamtrain.model.seal import VersionError
from streamtrain.publish.errors import saying

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one pull did.

    Attributes
    ----------
    result : "pulled", "switched", "unchanged" or "stale"
        Downloaded; made current from what was kept; nothing to do; the remote showed an older pointer than it did.
    version : str
        What is current.
    previous : str or None
        What was before.
    serial : int
        Of the pointer that is followed.
    requests, bytes : int
        What was asked of the remote, and bytes of bodies that came.
    """

    result: Literal["pulled", "switched", "unchanged", "stale"]
    version: str
    previous: str | None
    serial: int
    requests: int
    bytes: int


class Puller:
    """Keeps a mirror in step with a remote.

    Parameters
    ----------
    url : str
        Of the remote models directory, see `open_remote`.
    mirror : Mirror
    timeout_s : float
        For a connection, and between two bytes.
    should_stop : callable
        Ends a download between two pieces.

    Raises
    ------
    FleetError
        If the URL can't be used here.
    """

    def __init__(
        self, url: str, mirror: Mirror, timeout_s: float = 10.0, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._remote: Remote = open_remote(url, timeout_s)
        self._mirror = mirror
        self._should_stop = should_stop
        # Whole and not taken: not downloaded again and again while it stays the one that is pointed to.
        self._refused: dict[tuple[str, str | None], str] = {}

    @property
    def place(self) -> str:
        """The URL as messages may show it."""
        return self._remote.place

    def once(self) -> Outcome:
        """Get in step, once.

        Returns
        -------
        Outcome

        Raises
        ------
        RemoteError
            If the remote does not give what it should: worth another try. What came is kept.
        RefusedError
            If what it gives is not taken.
        StoppedError
            If it was to stop.
        PublishError
            If the directory can't be written, or is not a mirror.
        """
        self._mirror.acquire()
        asked, came = self._remote.n_requests, self._remote.n_bytes
        accepted = self._mirror.accepted()
        pointer, validator, is_stale = self._offered(accepted)
        previous = self._mirror.current()
        is_new = accepted is None or pointer.serial > accepted.pointer.serial
        with saying("pull", self._mirror.models_dir):
            staged = None if self._mirror.holds(pointer) else self._fetch(pointer)
        seen = Accepted(pointer, self.place, validator)
        if not is_stale and seen != accepted:
            self._mirror.accept(seen)
        result: Literal["pulled", "switched", "unchanged", "stale"] = "stale" if is_stale else "unchanged"
        if staged is not None or previous != pointer.version:
            self._mirror.swap(pointer, staged)
            result = "switched" if staged is None else "pulled"
            if not is_new:
                _LOG.warning("%s was not as it was left and is put right: %s", self._mirror.models_dir, pointer.version)
        n_requests, n_bytes = self._remote.n_requests - asked, self._remote.n_bytes - came
        return Outcome(result, pointer.version, previous, pointer.serial, n_requests, n_bytes)

    def close(self) -> None:
        """Let go of the connection."""
        self._remote.close()

    def _offered(self, accepted: Accepted | None) -> tuple[Pointer, str | None, bool]:
        """Return the pointer to follow, its validator, and whether the remote showed an older one."""
        is_same_place = accepted is not None and accepted.source == self.place
        known = accepted.validator if accepted is not None and is_same_place else None
        fetched = self._remote.read(POINTER_FILE, POINTER_LIMIT_BYTES, known)
        if fetched is None:
            if accepted is None:  # pragma: no cover - no condition was sent, so it cannot be
                raise PointerError(f"read {self.place}/{POINTER_FILE}: unchanged from nothing")
            return accepted.pointer, known, False
        try:
            offered = decode(fetched.data)
        except PointerError as error:
            raise PointerError(f"read {self.place}/{POINTER_FILE}: {error}") from error
        if accepted is None or offered.serial > accepted.pointer.serial:
            return offered, fetched.validator, False
        if offered.serial < accepted.pointer.serial:
            _LOG.warning(
                "%s shows serial %d, which is older than %d: ignored; if the remote was made anew, pull with --forget",
                *(self.place, offered.serial, accepted.pointer.serial),
            )
            return accepted.pointer, None, True
        if offered != accepted.pointer:
            raise RefusedError(
                f"pull: {self.place} shows two pointers with the serial {offered.serial}, of {offered.version} and of "
                f"{accepted.pointer.version}: do two trainers push there? The first stays; the next push ends it"
            )
        return offered, fetched.validator, False

    def _fetch(self, pointer: Pointer) -> Path:
        """Put a version together beside the others, and verify it; returns where."""
        if (known := (pointer.manifest_sha256, pointer.signature)) in self._refused:
            raise RefusedError(self._refused[known])
        staged = self._mirror.staged(pointer)
        try:
            download(self._remote, pointer, staged, self._mirror.public_key, self._should_stop)
            self._mirror.check(staged, pointer.version)
        except (VersionError, RefusedError) as error:
            reason = error.reason if isinstance(error, VersionError) else str(error)
            why = f"pull: {pointer.version} of {self.place} is refused, what is current stays: {reason}"
            self._refused = {known: why}
            self._mirror.discard(staged.parent)
            raise RefusedError(why) from error
        return staged
