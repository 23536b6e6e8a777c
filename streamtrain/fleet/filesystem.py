"""A remote on any file system that fsspec knows: object stores, other hosts, a directory. Here it is loaded.

Nobody says how long a call may take there; file systems that work in fsspec's own loop, as those of the object stores
do, are given up after the time-out. Local directories are written as our own are: by one rename.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from streamtrain.fleet.errors import AbsentError, FleetError, MissingLibraryError, RemoteError
from streamtrain.fleet.remote import LEAST_BYTES_PER_S, Fetched, Remote
from streamtrain.foreign import raised
from streamtrain.publish.durable import make_directory, sync_directory, write_file

_PIECE_BYTES = 1024 * 1024


class FilesystemRemote(Remote):
    """See `Remote`. It can be written to, too.

    Parameters
    ----------
    url : str
    timeout_s : float

    Raises
    ------
    MissingLibraryError
        If fsspec, or what it needs for this URL, is not installed.
    FleetError
        If it does not know such URLs.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__(url, timeout_s)
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise MissingLibraryError(
                f"{self.place}: this needs the extra `fleet`: pip install 'streamtrain[fleet]'"
            ) from error
        from fsspec.asyn import AsyncFileSystem
        from fsspec.implementations.local import LocalFileSystem

        try:
            with self._saying("open", ""):
                self._system, root = url_to_fs(url)
        except ImportError as error:
            raise MissingLibraryError(f"{self.place}: {error} (pip install {_package(error)})") from error
        except ValueError as error:
            raise FleetError(f"{self.place}: {error}") from error
        self._root = str(root).rstrip("/")
        self._is_local = isinstance(self._system, LocalFileSystem)
        self._is_async = isinstance(self._system, AsyncFileSystem)

    def read(self, path: str, limit_bytes: int, validator: str | None = None) -> Fetched | None:
        """See `Remote.read`; the validator is a digest of what the file system knows of the object."""
        with self._saying("read", path):
            self._system.invalidate_cache()
            # First: if it is replaced between the two, it is read once more the next time.
            info = self._call("info", self._full(path))
            now = hashlib.sha256(repr(sorted(info.items(), key=lambda item: str(item[0]))).encode()).hexdigest()
            if now == validator:
                return None
            if info.get("type") == "directory":
                raise AbsentError(f"read {self.place}/{path}: it is a directory")
            size = info.get("size")
            data = self._piece(path, 0, limit_bytes + 1 if size is None else min(int(size), limit_bytes + 1))
        if len(data) > limit_bytes:
            raise RemoteError(f"read {self.place}/{path}: it is longer than {limit_bytes} bytes")
        return Fetched(data, now)

    def stream(self, path: str, offset: int, size: int) -> Iterator[tuple[int, bytes]]:
        """See `Remote.stream`."""
        while offset < size:
            wanted = min(_PIECE_BYTES, size - offset)
            with self._saying("read", path):
                piece = self._piece(path, offset, offset + wanted)
            if len(piece) != wanted:
                raise RemoteError(f"read {self.place}/{path}: it ended after {offset + len(piece)} of {size} bytes")
            yield offset, piece
            offset += wanted

    def write(self, path: str, data: bytes) -> None:
        """Replace an object, by one step where the file system has one: object stores do, and local ones.

        Parameters
        ----------
        path : str
        data : bytes

        Raises
        ------
        RemoteError
        """
        full = self._full(path)
        with self._saying("write", path):
            if self._is_local:
                file = Path(full)
                make_directory(file.parent)
                write_file(file, data)
                sync_directory(file.parent)
                return
            try:
                self._call("pipe_file", full, data, n_bytes=len(data))
            except FileNotFoundError:  # not an object store: there are directories to make
                self._call("makedirs", full.rpartition("/")[0], exist_ok=True)
                self._call("pipe_file", full, data, n_bytes=len(data))

    def names(self, path: str) -> list[str]:
        """Names of what lies in a directory; none if there is none.

        Parameters
        ----------
        path : str

        Returns
        -------
        list of str

        Raises
        ------
        RemoteError
        """
        with self._saying("list", path):
            self._system.invalidate_cache()
            try:
                return sorted(str(one).rstrip("/").rpartition("/")[2] for one in self._list(path))
            except FileNotFoundError:
                return []

    def remove(self, path: str) -> None:
        """Remove a directory with all that is in it.

        Parameters
        ----------
        path : str

        Raises
        ------
        RemoteError
        """
        with self._saying("remove", path):
            self._call("rm", self._full(path), recursive=True)

    def _list(self, path: str) -> list[Any]:
        return list(self._call("ls", self._full(path), detail=False))

    def _piece(self, path: str, start: int, end: int) -> bytes:
        if start == end:
            return b""
        piece = bytes(self._call("cat_file", self._full(path), start=start, end=end, n_bytes=end - start))
        self.n_bytes += len(piece)
        return piece[: end - start]

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _call(self, name: str, *arguments: Any, n_bytes: int = 0, **named: Any) -> Any:
        self.n_requests += 1
        if not self._is_async:
            return getattr(self._system, name)(*arguments, **named)
        from fsspec.asyn import sync

        limit_s = self._timeout_s + n_bytes / LEAST_BYTES_PER_S
        return sync(self._system.loop, getattr(self._system, f"_{name}"), *arguments, timeout=limit_s, **named)

    @contextmanager
    def _saying(self, operation: str, path: str) -> Iterator[None]:
        """Turn what any of these libraries raises into a `RemoteError` that names the object."""
        where = f"{operation} {self.place}/{path}".rstrip("/")
        try:
            yield
        except FileNotFoundError as error:
            raise AbsentError(f"{where}: nothing was pushed there, or it is gone") from error
        except raised() as error:
            raise RemoteError(f"{where}: {str(error) or type(error).__name__}") from error


def _package(error: ImportError) -> str:
    """Guess the package from what fsspec says, e.g. "Install s3fs to access S3"."""
    words = str(error).split()
    return words[1] if len(words) > 1 and words[0].lower() == "install" else (error.name or "the package named")
