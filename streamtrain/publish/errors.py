"""What goes wrong while publishing, said with operation, path, cause and what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HINTS = {
    errno.ENOSPC: "free some space; nothing is lost, the next cycle tries again",
    errno.EDQUOT: "raise the quota or free some space; the next cycle tries again",
    errno.EROFS: "mount it writable, or set models.directory to another place",
    errno.EACCES: "let this user ({user}) write there, or set models.directory to another place",
    errno.EPERM: "let this user ({user}) write there, or set models.directory to another place",
    errno.EEXIST: "move the file that is in the way, or set models.directory to another place",
    errno.ENOTDIR: "move the file that is in the way, or set models.directory to another place",
    errno.EXDEV: "keep the whole models directory on one file system",
    errno.EIO: "check the disk",
}


class PublishError(Exception):
    """An operation on the models directory that failed. ``current`` points where it did before, unless it says so."""


class NoVersionError(PublishError):
    """A version was asked for that is not there: a mistake of the caller's, which leaves no receipt."""


@contextmanager
def saying(operation: str, path: Path) -> Iterator[None]:
    """Turn an `OSError` inside the ``with`` into a `PublishError` that a person can act on.

    Parameters
    ----------
    operation : str
        What was being done, e.g. "publish".
    path : Path
        Named if the error names no path itself.

    Raises
    ------
    PublishError
    """
    try:
        yield
    except OSError as error:
        where = path if error.filename is None else error.filename
        hint = _HINTS.get(error.errno or 0, "see the models directory's permissions and the disk").format(
            user=f"uid {os.getuid()}"
        )
        raise PublishError(f"{operation}: {where}: {error.strerror or error}; {hint}") from error
