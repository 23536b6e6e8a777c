"""Logs behind URLs: listed, read from an offset on, or brought here. The one module of this part that loads fsspec.

What opens a URL, which may be a part of it, is in no message and in no manifest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

from streamtrain.foreign import raised

_PIECE_BYTES: Final = 1 << 16
_AHEAD_BYTES: Final = 8 << 20
_PATTERN: Final = "*?["
_WEB: Final = ("http", "https")
_WEB_PATTERN: Final = "*"  # there a question mark begins a query
_SECRETS: Final = re.compile(r"(^|[&_-])(sig|signature|token|credential|key|password|secret)=", re.IGNORECASE)
_STAMPS: Final = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "created")  # the first that a file system gives


class InputError(OSError):
    """A URL that can't be listed or read, or a file that is another than it was."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file behind a URL.

    Attributes
    ----------
    url : str
        With its protocol.
    size : int
        Bytes.
    stamp : str
        Another one whenever its content was changed, as far as its file system tells.
    """

    url: str
    size: int
    stamp: str

    @property
    def name(self) -> str:
        """The URL as it may be written down, see `shown`."""
        return shown(self.url)


def shown(url: str) -> str:
    """Strip a URL of what opens it: names, passwords, signatures. A query that holds none of them says which log it is.

    Parameters
    ----------
    url : str

    Returns
    -------
    str
    """
    parts = urlsplit(url)
    query = "" if _SECRETS.search(parts.query) else parts.query
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query))


def listed(urls: Sequence[str], options: Mapping[str, Any], wanted: Callable[[str], bool]) -> list[InputFile]:
    """List files, each once, in the order of the URLs and below one of them by name.

    Parameters
    ----------
    urls : sequence of str
        Files, patterns of files, or folders.
    options : mapping
        For the file systems, such as names of credentials.
    wanted : callable
        Which files of a folder, by their paths within it.

    Returns
    -------
    list of InputFile

    Raises
    ------
    InputError
        If there is nothing.
    """
    found: dict[str, InputFile] = {}
    for url in urls:
        files, path = _opened(url, options)
        with _told("list", url):
            if any(sign in path for sign in (_WEB_PATTERN if urlsplit(url).scheme in _WEB else _PATTERN)):
                paths = [one for one in files.glob(path) if files.isfile(one)]
            elif files.isdir(path) and not files.isfile(path):
                below = len(path.rstrip("/")) + 1
                paths = [one for one in files.find(path) if wanted(one[below:])]
            else:
                paths = [path]
            if not paths:
                raise InputError(
                    f"list {shown(url)}: there is no file; expected a file, a pattern or a folder with logs"
                )
            for one in sorted(paths):
                entry = _entry(files, one)
                found.setdefault(entry.url, entry)
    return list(found.values())


class InputReader:
    """A remote file, open for reading.

    Parameters
    ----------
    file : InputFile
        As it was listed.
    options : mapping
        For its file system.

    Raises
    ------
    InputError
        If it can't be opened, or is another now.
    """

    def __init__(self, file: InputFile, options: Mapping[str, Any]) -> None:
        self._file = file
        self._files, self._path = _unchanged(file, options)
        with _told("open", file.url):
            self._opened = self._files.open(self._path, "rb", cache_type="readahead", block_size=_AHEAD_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def begin(self, n_bytes: int) -> bytes:
        """Read its first bytes."""
        with _told("read", self._file.url):
            self._opened.seek(0)
            return bytes(self._opened.read(n_bytes))

    def has_ranges(self) -> bool:
        """Whether it can be read from any byte on, which some web servers can't."""
        with _told("read the end of", self._file.url):
            # Not by the open file: what reads ahead takes a short whole answer for the range that it asked for.
            return len(self._files.cat_file(self._path, start=self._file.size - 1, end=self._file.size)) == 1

    def line_start(self, offset: int) -> int:
        """Find the first line that begins at an offset or after it; where the file ends if there is none."""
        if offset <= 0:
            return 0
        with _told(f"find the line at byte {offset} of", self._file.url):
            at = offset - 1
            self._opened.seek(at)
            while piece := self._opened.read(_PIECE_BYTES):
                newline = piece.find(b"\n")
                if newline >= 0:
                    return int(at + newline + 1)
                at += len(piece)
        return self._file.size

    def stretch(self, start: int, stop: int) -> Stretch:
        """Open some bytes of it as a stream."""
        return Stretch(self._opened, self._file.url, start, stop)


class Stretch:
    """The bytes [start, stop) of an open file, one after the other.

    Attributes
    ----------
    ended : bool
        They have been read; nothing follows.
    """

    def __init__(self, opened: Any, url: str, start: int, stop: int) -> None:
        self._opened, self._url, self._at, self._stop = opened, url, start, stop
        with _told("read", url):
            opened.seek(start)

    @property
    def ended(self) -> bool:
        """Whether everything was read."""
        return self._at >= self._stop

    def read_into(self, view: memoryview) -> int:
        """Fill a buffer; fewer bytes than fit only at the end."""
        filled, view = 0, view[: self._stop - self._at]
        with _told(f"read from byte {self._at} of", self._url):
            while filled < len(view):
                n = self._opened.readinto(view[filled:])
                if not n:
                    raise InputError(
                        f"read {shown(self._url)}: it ends at byte {self._at + filled:,}, expected {self._stop:,}; "
                        "was it changed meanwhile?"
                    )
                filled += n
        self._at += filled
        return filled


@contextmanager
def brought(file: InputFile, options: Mapping[str, Any]) -> Iterator[str]:
    """Have a remote file here, under some path, until the block ends.

    Yields
    ------
    str

    Raises
    ------
    InputError
    """
    files, path = _unchanged(file, options)
    if _is_local(files):
        yield path
        return
    with TemporaryDirectory(prefix="streamtrain-") as folder:
        target = str(Path(folder, Path(path).name or "log"))
        with _told("get", file.url):
            files.get_file(path, target)
        if Path(target).stat().st_size != file.size:
            raise InputError(f"get {file.name}: {Path(target).stat().st_size:,} bytes came, expected {file.size:,}")
        yield target


def _is_local(files: Any) -> bool:
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(files, LocalFileSystem)


def _unchanged(file: InputFile, options: Mapping[str, Any]) -> tuple[Any, str]:
    files, path = _opened(file.url, options)
    with _told("look at", file.url):
        now = _entry(files, path)
    if (now.size, now.stamp) != (file.size, file.stamp):
        raise InputError(
            f"read {file.name}: it was changed since it was listed ({file.size:,} bytes then, {now.size:,} now); begin "
            "anew once nobody writes to it"
        )
    return files, path


def _entry(files: Any, path: str) -> InputFile:
    about = files.info(path)
    size = about.get("size")
    if not isinstance(size, int):
        raise InputError(f"look at {shown(path)}: its file system does not say how long it is")
    stamp = next((about[key] for key in _STAMPS if key in about), "")
    return InputFile(str(files.unstrip_protocol(path)), size, str(stamp))


def _opened(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise InputError(f"open {shown(url)}: fsspec is missing; install streamtrain[dask]") from error
    try:
        files, path = url_to_fs(url, **options)
    except (ValueError, ImportError, TypeError) as error:
        raise InputError(f"open {shown(url)}: {_without_secrets(str(error), url)}") from error
    return files, str(path)


@contextmanager
def _told(what: str, url: str) -> Iterator[None]:
    """Say what failed with which URL; file systems raise errors of their own kinds, not all of which are OSErrors."""
    try:
        yield
    except InputError:
        raise
    except _errors() as error:
        raise InputError(f"{what} {shown(url)}: {_without_secrets(str(error), url) or type(error).__name__}") from error


def _errors() -> tuple[type[Exception], ...]:
    return (*raised(), EOFError, ValueError)


def _without_secrets(reason: str, url: str) -> str:
    """Leave out of what a library says what is left out of the URL, which it may repeat in parts."""
    parts = urlsplit(url)
    secrets = [url, parts.netloc.rpartition("@")[0], *([parts.query] if _SECRETS.search(parts.query) else [])]
    for secret in secrets:
        reason = reason.replace(secret, shown(url) if secret == url else "…") if secret else reason
    return reason
