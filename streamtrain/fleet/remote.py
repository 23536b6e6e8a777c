"""A remote models directory: what pulling asks of one, whatever it lies on.

HTTP is spoken by ourselves (`http`), everything else by fsspec (`filesystem`), which is imported for it alone. fsspec's
own HTTP takes every file for unchanging, and reads an answer into memory before anybody can look at its status or
length: neither a conditional request nor a limit could be had from it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from streamtrain.fleet.errors import FleetError

LEAST_BYTES_PER_S = 4096
"""What comes more slowly than this, after the time-out, is given up; what came of it is kept."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A small object, whole.

    Attributes
    ----------
    data : bytes
    validator : str or None
        What tells later whether it is still this one.
    """

    data: bytes
    validator: str | None


class Remote(ABC):
    """Reads objects below one URL. For one thread.

    Parameters
    ----------
    url : str
    timeout_s : float
        For a connection, and between two bytes.

    Attributes
    ----------
    place : str
        The URL as messages may show it: without user, password and query.
    n_requests, n_bytes : int
        What was asked, and the bytes of bodies that came, since the start.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self.place = shown(url)
        self.n_requests = 0
        self.n_bytes = 0
        self._url = url
        self._timeout_s = timeout_s

    @abstractmethod
    def read(self, path: str, limit_bytes: int, validator: str | None = None) -> Fetched | None:
        """Read a small object, unless it is unchanged.

        Parameters
        ----------
        path : str
            Below the URL.
        limit_bytes : int
            A longer one is an error.
        validator : str, optional
            From an earlier read.

        Returns
        -------
        Fetched or None
            None if it is still the one that the validator is of.

        Raises
        ------
        RemoteError
        """

    @abstractmethod
    def stream(self, path: str, offset: int, size: int) -> Iterator[tuple[int, bytes]]:
        """Read an object of a known size from an offset on, piece by piece.

        Parameters
        ----------
        path : str
        offset : int
            Bytes that are here already, less than `size`.
        size : int
            Of the whole object.

        Yields
        ------
        position : int
            Where the piece begins: the first may begin at 0, where the remote knows no ranges.
        piece : bytes
            None goes beyond `size`.

        Raises
        ------
        RemoteError
            If it is of another size or ends too early.
        """

    def close(self) -> None:
        """Let go of connections."""
        return


def open_remote(url: str, timeout_s: float) -> Remote:
    """Open what a URL names. Nothing is asked of it yet.

    Parameters
    ----------
    url : str
        ``https://…``, or any that fsspec knows, if the library for it is installed.
    timeout_s : float
        As in `Remote`.

    Returns
    -------
    Remote

    Raises
    ------
    MissingLibraryError
        If a library is missing.
    FleetError
        If it is not a URL.
    """
    scheme = url.partition("://")[0].lower()
    if scheme in ("http", "https"):
        from streamtrain.fleet.http import HttpRemote

        return HttpRemote(url, timeout_s)
    if not scheme.isascii() or "://" not in url:
        raise FleetError(f"{shown(url)!r} is not a URL; expected https://…, s3://…, gs://…, file:///… or the like")
    from streamtrain.fleet.filesystem import FilesystemRemote

    return FilesystemRemote(url, timeout_s)


def shown(url: str) -> str:
    """Strip a URL of what may be secret: user, password, query, fragment.

    Parameters
    ----------
    url : str

    Returns
    -------
    str
        Printable.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a URL that cannot be read"
    place = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
    return "".join(char if char.isprintable() else "?" for char in place)
