"""Files with secrets: read once, never said, and refused where others could read them too."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from streamtrain.model.signature import KeyFileError

_LIMIT_BYTES = 64 * 1024


def read_secret(file: Path, what: str) -> bytes:
    """Read a secret file.

    Parameters
    ----------
    file : Path
        A regular file, or a link to one. Nobody but its owner may read it; its group may where root owns it, which is
        how service managers hand secrets over.
    what : str
        For messages, e.g. "signing key".

    Returns
    -------
    bytes

    Raises
    ------
    KeyFileError
        If it cannot be read, or others could read it. The content is in no message.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyFileError(f"read {what}: {file}: {error.strerror or error}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"read {what}: {file} is not a regular file")
        allowed = 0o740 if status.st_uid == 0 else 0o700
        if stat.S_IMODE(status.st_mode) & 0o777 & ~allowed:
            mode = stat.S_IMODE(status.st_mode)
            raise KeyFileError(f"read {what}: {file} has mode {mode:04o}: others could read or change it; chmod 600 it")
        data = os.read(descriptor, _LIMIT_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"read {what}: {file}: {error.strerror or error}") from error
    finally:
        os.close(descriptor)
    if len(data) > _LIMIT_BYTES:
        raise KeyFileError(f"read {what}: {file} is longer than {_LIMIT_BYTES} bytes; is it the right file?")
    return data
