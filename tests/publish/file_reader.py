"""A process that follows `current` as any program would, and checks every digest; the standard library and no more.

Usage: file_reader.py MODELS. Ends when stdin is closed, with one line that counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import sys
from pathlib import Path


def read(folder: int, name: str) -> bytes:
    with open(os.open(name, os.O_RDONLY, dir_fd=folder), "rb") as stream:  # noqa: PTH123 - a descriptor
        return stream.read()


def whole(current: Path) -> str:
    """Name of the version that `current` leads to, after all of it was read and checked."""
    folder = os.open(current, os.O_RDONLY | os.O_DIRECTORY)
    try:
        manifest = json.loads(read(folder, "manifest.json"))
        for name, entry in manifest["files"].items():
            data = read(folder, name)
            if len(data) != entry["size"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
                raise ValueError(f"{manifest['version']}: {name} is torn")
        return str(manifest["version"])
    finally:
        os.close(folder)


def main() -> None:
    models = Path(sys.argv[1])
    current = models / "current"
    looked = missing = late = 0
    torn: list[str] = []
    versions: set[str] = set()
    while not select.select([sys.stdin], [], [], 0.0005)[0]:
        looked += 1
        before = None
        try:
            before = os.readlink(current)  # noqa: PTH115 - no more than a program in C would do
            versions.add(whole(current))
        except (OSError, ValueError) as error:
            if before is None:
                missing += 1
            elif isinstance(error, FileNotFoundError) and os.readlink(current) != before:  # noqa: PTH115
                # It moved on and the old version was retired while we read it.
                late += 1
            else:
                torn.append(str(error))
    counts = {"looked": looked, "missing": missing, "late": late, "torn": torn[:10], "versions": len(versions)}
    sys.stdout.write(json.dumps(counts) + "\n")


main()
