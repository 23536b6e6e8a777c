"""Where compiled kernels are kept, so that a service starts in a second and never runs another program's machine code.

Numba keeps machine code in pickles and trusts them; it looks only at the file of the outermost function to see whether
they are stale. So the folder here is private (0700), named after a hash of all kernel sources, the compiler and the
CPU, and sealed: a list of digests, without which no file is believed. A folder that does not match its list, after a
crash, a full disk or a damaged block, is emptied and filled again. Where no folder can be written, kernels are compiled
at each start.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm
import numba

_SEAL = "digests.json"
_LOCK = "lock"
_KEY = re.compile("[0-9a-f]{16}")
_OLD_FOLDERS = 4  # of other versions of the sources, the compiler or the CPU


@cache
def key() -> str:
    """Name everything that the machine code depends on, as 16 hexadecimal digits."""
    parts = [numba.__version__, llvmlite.__version__, platform.python_version(), llvm.get_host_cpu_name()]
    parts.append(llvm.get_host_cpu_features().flatten())
    parts.extend(path.read_text() for path in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def host() -> dict[str, str]:
    """Name the compiler, Python and the processor, in words."""
    return {"numba": numba.__version__, "python": platform.python_version(), "processor": llvm.get_host_cpu_name()}


def folder(environ: Mapping[str, str]) -> Path | None:
    """Make and return the folder of this key, private to this user; None where none can be written.

    ``NUMBA_CACHE_DIR`` says where, else ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    home = environ.get("HOME") or ""
    base = environ.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else "")
    root = environ.get("NUMBA_CACHE_DIR") or base
    if not root:
        return None
    # A folder of our own below it: the variable is Numba's, and others keep their things there too.
    place = Path(root) / "streamtrain" / key()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = place.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or not os.access(place, os.W_OK):
            return None
        if status.st_mode & 0o077:
            place.chmod(0o700)
        _retire(place)
    except OSError:
        return None
    return place


@contextmanager
def opened(place: Path) -> Iterator[None]:
    """Hold the folder for this process, every file in it verified at the start and sealed at the end."""
    with (place / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _read_seal(place) != _digests(place):
            empty(place)
        yield
        _write_seal(place)


def empty(place: Path) -> None:
    """Remove everything but the lock."""
    for entry in place.iterdir():
        if entry.name == _LOCK:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _digests(place: Path) -> dict[str, str]:
    files = sorted(path for path in place.rglob("*") if path.is_file() and path.name not in (_SEAL, _LOCK))
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _read_seal(place: Path) -> object:
    try:
        return json.loads((place / _SEAL).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return None


def _write_seal(place: Path) -> None:
    found = _digests(place)
    if found == _read_seal(place):
        return
    beside = place / f".{_SEAL}"
    beside.write_text(json.dumps(found))
    beside.replace(place / _SEAL)


def _retire(place: Path) -> None:
    """Remove folders of keys long gone, so that upgrades don't pile up."""
    named = (one for one in place.parent.iterdir() if _KEY.fullmatch(one.name) and not one.is_symlink())
    others = [one for one in named if one != place and (one / _LOCK).exists()]
    others.sort(key=lambda one: one.stat().st_mtime)
    for one in others[:-_OLD_FOLDERS]:
        shutil.rmtree(one, ignore_errors=True)
