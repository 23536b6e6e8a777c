"""What becomes of a log that was read to its end: moved to an archive or deleted, once its samples are on the disk."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from streamtrain.ingest.identity import Look, NotReadableError, OpenLog
from streamtrain.ingest.lease import take_lease

_LOG = logging.getLogger(__name__)
_MOVING: Final = "moving"  # the fact under which a move is noted while it is under way
_SUFFIX: Final = ".deleting~"


class DisposalStore(Protocol):
    """What disposal asks of the state database."""

    def sync(self) -> None:
        """Make everything committed survive a power cut."""

    def get(self, key: str, default: object = None) -> object:
        """Look up a fact."""

    def set(self, key: str, value: object) -> None:
        """Remember a fact."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A file that was read to its end, as it was then."""

    path: str
    look: Look


class Disposal:
    """Move or delete logs.

    Nothing that a writer adds at the last moment is lost: where the system lets us (leases of Linux, for files of the
    same user), a file that someone has open for writing is left alone, and one that changes while it is moved is put
    back. A kill in between leaves the file under either name, and the next start puts it back or finds it moved.

    Parameters
    ----------
    store : DisposalStore
    directory : Path
        Of the logs.
    archive : Path or None
        Where they are moved to, under the same names below it; None deletes them.
    """

    def __init__(self, store: DisposalStore, directory: Path, archive: Path | None) -> None:
        self._store = store
        self._directory = directory
        self._archive = archive
        self._put_back()

    def dispose(self, finished: Iterable[Finished]) -> int:
        """Move or delete files, as far as they are still as they were when they were read.

        Parameters
        ----------
        finished : iterable of Finished
            Everything in them is committed.

        Returns
        -------
        int
            How many are gone now.

        Raises
        ------
        Exception
            Whatever the store raises. Files that can't be moved are left alone, with a warning in the log.
        """
        files = list(finished)
        if not files:
            return 0
        self._store.sync()
        n = 0
        for file in files:
            try:
                n += self._take(file)
            except FileNotFoundError:
                continue
            except (OSError, NotReadableError) as error:
                what = "deleted" if self._archive is None else "archived"
                _LOG.warning("%r was read and can't be %s, it is tried again later: %s", file.path, what, error)
        self._store.set(_MOVING, None)
        return n

    def _take(self, file: Finished) -> bool:
        with OpenLog(file.path) as log:
            # Where it can't be told who writes, only the time since its last change speaks for it.
            if log.look != file.look or take_lease(log.descriptor) is False:
                return False
            source = Path(file.path)
            if self._archive is None:
                target = source.with_name(f".{source.name[:200]}{_SUFFIX}")
            else:
                target = _free(self._archive / source.relative_to(self._directory))
                target.parent.mkdir(parents=True, exist_ok=True)
            self._store.set(_MOVING, {"from": os.fsencode(source).hex(), "to": os.fsencode(target).hex()})
            try:
                source.rename(target)
            except OSError as error:
                if error.errno != errno.EXDEV or self._archive is None:
                    raise
                return self._copy(log, source, target)
            if _changed(log):
                _LOG.info("%r was written to while it was moved; it is put back", file.path)
                _rename_free(target, source)
                return False
            if self._archive is None:
                target.unlink()
            else:
                _sync_directory(target.parent)
            _sync_directory(source.parent)
            return True

    def _copy(self, log: OpenLog, source: Path, target: Path) -> bool:
        """Move to another file system: the copy is whole and on the disk before the original goes."""
        part = target.with_name(f".{target.name[:200]}.part")
        with os.fdopen(os.dup(log.descriptor), "rb") as original, part.open("wb") as copy:
            original.seek(0)
            shutil.copyfileobj(original, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        if _changed(log):
            part.unlink()
            return False
        part.rename(target)
        _sync_directory(target.parent)
        if _changed(log):
            target.unlink()
            return False
        source.unlink()
        _sync_directory(source.parent)
        return True

    def _put_back(self) -> None:
        """End what a kill interrupted: a file that was about to be deleted is a log again."""
        moving = self._store.get(_MOVING)
        if not isinstance(moving, dict):
            return
        source, target = (Path(os.fsdecode(bytes.fromhex(moving[end]))) for end in ("from", "to"))
        try:
            if target.name.endswith(_SUFFIX) and target.exists():
                _rename_free(target, source)
        except OSError as error:
            # It was read, and every start tries again; nothing else waits for it.
            _LOG.warning("%r can't be put back from %r: %s", str(source), str(target), error)
            return
        self._store.set(_MOVING, None)


def _changed(log: OpenLog) -> bool:
    """Tell whether someone wrote to a file since it was opened here, or is about to."""
    status = os.fstat(log.descriptor)
    if (status.st_size, status.st_mtime_ns) != (log.look.size, log.look.mtime_ns):
        return True
    try:
        # Released by us and nobody else; anything but what was set means that a writer waits for it.
        fcntl.fcntl(log.descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EBUSY)
    return False


def _free(path: Path) -> Path:
    """Choose a name that is not taken yet."""
    number, chosen = 0, path
    while chosen.exists() or chosen.is_symlink():
        number += 1
        chosen = path.with_name(f"{path.name}.{number}")
    return chosen


def _rename_free(source: Path, target: Path) -> None:
    """Rename, beside whatever was made under that name meanwhile."""
    number, chosen = 0, target
    while chosen.exists() or chosen.is_symlink():
        number += 1
        chosen = target.with_name(f"{number}-{target.name}")  # the end of a name tells whether it is included
    source.rename(chosen)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
