"""Which file is this? Opening a log without ever waiting for it, and telling it from every other file."""

from __future__ import annotations

import ctypes
import functools
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NamedTuple, Self

from streamtrain.ingest.hashing import digest

EDGE_BYTES: Final = 1024  # how much of a file's head, and of what lies before the offset, is hashed

_POSITIVE: Final = (1 << 63) - 1  # the database holds signed 64-bit numbers
_AT_EMPTY_PATH: Final = 0x1000
_STATX_BTIME: Final = 0x800
_STATX_BYTES: Final = 256
_BIRTH: Final = struct.Struct("=qI")
_BIRTH_AT: Final = 80


class NotReadableError(Exception):
    """A path that is no regular file, or that this user may not read; the message says which."""


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Which file: an inode number alone is given out again at once when its file is deleted.

    Attributes
    ----------
    device, inode : int
    birth_ns : int
        When the file was made, in nanoseconds since the epoch; 0 where the file system doesn't say.
    """

    device: int
    inode: int
    birth_ns: int


class Look(NamedTuple):
    """What `stat` says of a file: as long as it is the same, so is the content.

    A tuple, because a scan makes one for every file there is.

    Attributes
    ----------
    device, inode : int
    size : int
    mtime_ns, ctime_ns : int
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Look:
        """Take it from a stat result."""
        return Look(
            status.st_dev & _POSITIVE,
            status.st_ino & _POSITIVE,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )


class OpenLog:
    """A regular file, open for reading.

    Parameters
    ----------
    path : str

    Attributes
    ----------
    path : str
    descriptor : int
    look : Look
        As it was when it was opened.
    identity : FileIdentity

    Raises
    ------
    FileNotFoundError
        If it is gone.
    NotReadableError
        If it is anything but a regular file (a FIFO is not waited for, a link not followed), or may not be read.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY)
        except FileNotFoundError:
            raise
        except OSError as error:
            # ELOOP: a symbolic link; ENXIO: a socket; EACCES, EPERM: not for us; EMFILE, EIO: worth saying as it is.
            raise NotReadableError(f"open {path!r}: {error.strerror}") from error
        try:
            status = os.fstat(self.descriptor)
        except OSError as error:
            os.close(self.descriptor)
            raise NotReadableError(f"open {path!r}: {error.strerror}") from error
        if not stat.S_ISREG(status.st_mode):
            os.close(self.descriptor)
            raise NotReadableError(f"open {path!r}: not a regular file")
        self.look = Look.of(status)
        self.identity = FileIdentity(self.look.device, self.look.inode, _birth_ns(self.descriptor))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)

    def read_at(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes at an offset; fewer only at the end of the file.

        Raises
        ------
        NotReadableError
            On an input error.
        """
        pieces = bytearray()
        try:
            while len(pieces) < size:
                piece = os.pread(self.descriptor, size - len(pieces), offset + len(pieces))
                if not piece:
                    break
                pieces += piece
        except OSError as error:
            raise NotReadableError(f"read {self.path!r} at {offset}: {error.strerror}") from error
        return bytes(pieces)


def source_key(identity: FileIdentity, head: bytes, attempt: int = 0) -> int:
    """Make the key of a new source from the file it is first seen in; 63 bits, the same whenever it is made again.

    Parameters
    ----------
    identity : FileIdentity
    head : bytes
        First bytes of the content.
    attempt : int
        Counts up while the key is taken.

    Returns
    -------
    int
    """
    text = f"{identity.device}:{identity.inode}:{identity.birth_ns}:{attempt}:".encode()
    return int.from_bytes(digest(text + head)[:8], "little") & _POSITIVE


def _birth_ns(descriptor: int) -> int:
    """Read when a file was made, which Python can't tell on Linux; 0 if the system doesn't know."""
    statx = _statx()
    if statx is None:
        return 0
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    if statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_BTIME, buffer) != 0:
        return 0
    if not int.from_bytes(buffer.raw[:4], "little") & _STATX_BTIME:
        return 0
    seconds, nanoseconds = _BIRTH.unpack_from(buffer, _BIRTH_AT)
    return (int(seconds) * 1_000_000_000 + int(nanoseconds)) & _POSITIVE


@functools.cache
def _statx() -> Callable[..., int] | None:
    """Find statx(2) in the C library (glibc 2.28, musl 1.2.5)."""
    try:
        function = ctypes.CDLL(None).statx
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p]
    function.restype = ctypes.c_int
    found: Callable[..., int] = function
    return found
