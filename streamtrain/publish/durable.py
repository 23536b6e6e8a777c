"""The one recipe by which anything is written: beside its place, flushed to the disk, then renamed into place.

A rename is atomic for every reader, and it survives a power cut only after the directory was flushed too; data must be
on the disk before the name that leads to it. Every write of this package goes through here.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_file(file: Path, data: bytes, mode: int | None = None) -> None:
    """Write a file so that its name leads to the old content or to the whole new one, also after a power cut.

    The directory must be flushed by the caller (`sync_directory`), once for all files written into it.

    Parameters
    ----------
    file : Path
    data : bytes
    mode : int, optional
        Permissions of the file, whatever the umask; those that the umask leaves if None.

    Raises
    ------
    OSError
        If it could not be written; nothing is left behind but, after a crash, a file whose name starts with ``.new-``.
    """
    beside = file.with_name(f".new-{file.name}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        try:
            if mode is not None:
                os.fchmod(descriptor, mode)
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        beside.rename(file)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all of it: on a disk that is nearly full, a write may take only a part, and the next one says why."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def sync_directory(directory: Path) -> None:
    """Flush a directory: names created, renamed or removed in it survive a power cut from here on.

    Parameters
    ----------
    directory : Path

    Raises
    ------
    OSError
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Create a directory with its parents, each flushed into the one above. One that is there already is fine.

    Parameters
    ----------
    directory : Path

    Raises
    ------
    OSError
    """
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    sync_directory(directory.parent)


def move_directory(source: Path, target: Path) -> None:
    """Rename a directory whose content is flushed already, and flush the change of names.

    Parameters
    ----------
    source : Path
    target : Path
        Must not exist; on the same file system.

    Raises
    ------
    OSError
    """
    source.rename(target)
    sync_directory(target.parent)
    sync_directory(source.parent)


def point_link(link: Path, target: str) -> None:
    """Make a symbolic link point elsewhere by one rename, so that it exists at every moment.

    To flush it (`sync_directory`) is the caller's: if that fails, every reader follows the new one already.

    Parameters
    ----------
    link : Path
    target : str
        What the link holds, relative to its directory.

    Raises
    ------
    OSError
    """
    beside = link.with_name(f".new-{link.name}")
    # Left over from a crash: the caller holds the lock, so nobody else is using it.
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    try:
        beside.rename(link)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
