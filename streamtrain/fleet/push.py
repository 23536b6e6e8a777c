"""The other direction: the current version to an object store, its files first, and last the one pointer to them.

Whatever ends it in the middle, the pointer names a version that is there as a whole. Pushed again, it writes what is
missing or differs, so that it may run after every publish, and now and then besides.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamtrain.fleet.errors import AbsentError, FleetError, RemoteError
from streamtrain.fleet.filesystem import FilesystemRemote
from streamtrain.fleet.pointer import POINTER_FILE, POINTER_LIMIT_BYTES, Pointer, PointerError, decode, encode
from streamtrain.fleet.remote import open_remote
from streamtrain.model.seal import MANIFEST_FILE, VersionError, digest, read_sealed, unseal
from streamtrain.model.signature import SIGNATURE_BYTES, SIGNATURE_FILE
from streamtrain.publish.artifact import rfc3339
from streamtrain.publish.catalog import Catalog, is_version, number
from streamtrain.publish.errors import NoVersionError, saying
from streamtrain.publish.lock import Lock

_LOG = logging.getLogger(__name__)

_TURN_WAIT_S = 60.0
_MOVES = 10


@dataclass(frozen=True, slots=True)
class Pushed:
    """What one push did.

    Attributes
    ----------
    result : "pushed" or "unchanged"
    version : str
    serial : int
    files : tuple of str
        Which had to be written, the pointer left out.
    removed : tuple of str
        Versions that the remote does not keep any more.
    """

    result: Literal["pushed", "unchanged"]
    version: str
    serial: int
    files: tuple[str, ...]
    removed: tuple[str, ...]


def push(
    models_dir: str | os.PathLike[str],
    url: str,
    *,
    keep: int = 10,
    timeout_s: float = 10.0,
    clock: Callable[[], float] = time.time,
) -> Pushed:
    """Copy the current version to a remote and point to it.

    Parameters
    ----------
    models_dir : path
        The trainer's.
    url : str
        Any that fsspec can write to.
    keep : int
        How many versions stay there, at least 2: those that were pointed to last.
    timeout_s : float
        As in `Remote`.
    clock : callable
        Seconds since the epoch.

    Returns
    -------
    Pushed

    Raises
    ------
    FleetError
        If the remote can't be written, or somebody else writes there.
    VersionError
        If the current version does not verify: it is not copied.
    PublishError
        If there is none, or another push takes too long.
    """
    if keep < 2:
        raise ValueError(f"push: keep is {keep}; expected at least 2, the current version and one to go back to")
    remote = open_remote(url, timeout_s)
    if not isinstance(remote, FilesystemRemote):
        raise FleetError(f"push: {remote.place} is read only; name the store itself, such as s3://bucket/models")
    catalog = Catalog(models_dir)
    if catalog.current() is None:
        raise NoVersionError(f"push: {models_dir} has no current version; nothing was published yet")
    lock = Lock(Path(models_dir) / ".push.lock", "it is being pushed")
    with saying("push", Path(models_dir)):
        # `current` is read in turn: otherwise the slower of two pushes could point back to what the faster one left.
        lock.acquire(_TURN_WAIT_S)
    try:
        return _push(catalog, remote, keep, clock)
    finally:
        lock.release()


def _push(catalog: Catalog, remote: FilesystemRemote, keep: int, clock: Callable[[], float]) -> Pushed:
    version, files = _current(catalog)
    signature = files.get(SIGNATURE_FILE)
    seal = digest(files[MANIFEST_FILE])
    old = _pointer_at(remote)
    written = []
    for name, data in files.items():
        path = f"versions/{version}/{name}"
        if _content(remote, path, len(data)) != data:
            remote.write(path, data)
            written.append(name)
    now = Pointer(
        # From the clock where there is none: should the remote ever be made anew, it goes on above what pullers know.
        serial=int(clock()) if old is None else old.serial + 1,
        version=version,
        manifest_size=len(files[MANIFEST_FILE]),
        manifest_sha256=str(seal["sha256"]),
        signature=None if signature is None else signature.hex(),
        recent=_recent(remote, version, () if old is None else old.recent, keep),
        time=rfc3339(clock()),
    )
    if old is not None and _what(old) == _what(now):
        return Pushed("unchanged", version, old.serial, tuple(written), _retire(remote, now.recent))
    remote.write(POINTER_FILE, encode(now))
    if _pointer_at(remote) != now:
        raise FleetError(f"push: {remote.place}/{POINTER_FILE} is not what was just written: who else pushes there?")
    return Pushed("pushed", version, now.serial, tuple(written), _retire(remote, now.recent))


def _current(catalog: Catalog) -> tuple[str, dict[str, bytes]]:
    """Name and files of the current version, the manifest last; `current` may move while it is read."""
    for _ in range(_MOVES):
        version = catalog.current()
        if version is None:
            break
        directory = catalog.versions_dir / version
        try:
            catalog.verify(version)
            manifest, files = read_sealed(directory)
            with saying("push", directory):
                raw = (directory / MANIFEST_FILE).read_bytes()
                signature = directory / SIGNATURE_FILE
                signed = signature.read_bytes()[: SIGNATURE_BYTES + 1] if signature.exists() else b""
            if unseal(raw) != manifest or len(signed) not in (0, SIGNATURE_BYTES):
                raise VersionError(directory, f"{MANIFEST_FILE} or {SIGNATURE_FILE} changed while it was read")
        except (VersionError, NoVersionError):
            if catalog.current() != version:
                continue
            raise
        return version, files | ({SIGNATURE_FILE: signed} if signed else {}) | {MANIFEST_FILE: raw}
    raise FleetError(f"push: {catalog.models_dir}: its current version could not be read, it moved all the time")


def _pointer_at(remote: FilesystemRemote) -> Pointer | None:
    try:
        fetched = remote.read(POINTER_FILE, POINTER_LIMIT_BYTES)
        return None if fetched is None else decode(fetched.data)
    except AbsentError:
        return None
    except PointerError as error:
        _LOG.warning("the pointer at %s is broken and is written anew: %s", remote.place, error)
        return None


def _content(remote: FilesystemRemote, path: str, size: int) -> bytes | None:
    """Read what is there already, if it can be what should be: writes that ended early are found by reading alone."""
    try:
        fetched = remote.read(path, size)
    except RemoteError:
        return None  # absent, longer, or not readable: writing it says what is wrong
    return None if fetched is None else fetched.data


def _recent(remote: FilesystemRemote, version: str, before: tuple[str, ...], keep: int) -> tuple[str, ...]:
    """Versions that stay: those pointed to last, and, as far as that leaves room, the newest others."""
    others = sorted(filter(is_version, remote.names("versions")), key=number, reverse=True)
    return tuple(dict.fromkeys((version, *before, *others)))[:keep]


def _retire(remote: FilesystemRemote, recent: tuple[str, ...]) -> tuple[str, ...]:
    removed = []
    try:
        for name in sorted(filter(is_version, remote.names("versions")), key=number):
            if name not in recent:
                remote.remove(f"versions/{name}")
                removed.append(name)
    except RemoteError as error:
        _LOG.warning("old versions could not be removed, the next push tries again: %s", error)
    return tuple(removed)


def _what(pointer: Pointer) -> tuple[str, str, str | None]:
    return pointer.version, pointer.manifest_sha256, pointer.signature
