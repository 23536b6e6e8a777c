"""How routers write logs: one file that grows and is rotated, or whole files that are shipped."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np


class AppendedLog:
    """One growing file, rotated by rename.

    Parameters
    ----------
    path : Path
    rotate_bytes : int
        Before a write would pass this size, `x → x.1`, `x.1 → x.2`, …
    keep : int
        Rotated files that are kept; the oldest is deleted.
    random : numpy.random.Generator
        Where a write ends: like a buffer in production, anywhere in a line.
    """

    def __init__(self, path: Path, rotate_bytes: int, keep: int, random: np.random.Generator) -> None:
        self.path, self.rotate_bytes, self.keep, self.random = path, rotate_bytes, keep, random
        self.n_rotations = 0
        self._held = b""
        self._in_line = False
        self._file = path.open("ab", buffering=0)

    def append(self, lines: list[bytes]) -> None:
        """Write all of the lines but a few last bytes, which come with the next call."""
        data = self._held + b"".join(line + b"\n" for line in lines)
        if self._file.tell() and self._file.tell() + len(data) > self.rotate_bytes:
            # A file ends with a line, as a logger's would: the one begun in it is finished there.
            end = data.find(b"\n") + 1 if self._in_line else 0
            self._file.write(data[:end])
            data = data[end:]
            self._rotate()
        cut = max(len(data) - int(self.random.integers(0, 120)), 0) if lines else len(data)
        self._file.write(data[:cut])
        self._held = data[cut:]
        if cut:
            self._in_line = data[cut - 1 : cut] != b"\n"

    def close(self) -> None:
        """Write what is held back."""
        self.append([])
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self.keep, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            newer = self.path.with_name(f"{self.path.name}.{number - 1}") if number > 1 else self.path
            if newer.exists():
                newer.rename(older)
        self._file = self.path.open("ab", buffering=0)
        self._in_line = False
        self.n_rotations += 1


class ShippedFiles:
    """Whole files, each complete when its name appears: written beside as `.part`, then renamed."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.n_files = 0
        self._waiting: list[bytes] = []

    def collect(self, lines: list[bytes]) -> None:
        """Keep lines for the next file."""
        self._waiting += lines

    def ship(self) -> None:
        """Drop what was collected as one file: gzip, every third time plain."""
        if not self._waiting:
            return
        data, self._waiting = b"".join(line + b"\n" for line in self._waiting), []
        self.n_files += 1
        zipped = self.n_files % 3 != 0
        target = self.directory / f"{self.name}-{self.n_files:06d}.jsonl{'.gz' if zipped else ''}"
        part = target.with_name(f".{target.name}.part")
        part.write_bytes(gzip.compress(data, 6) if zipped else data)
        part.rename(target)
