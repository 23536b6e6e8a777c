"""A version's files from a remote into a directory beside the versions: resumed, limited, each checked by its digest.

What is there of a file is in ``NAME.part`` until it is whole and has the digest that the manifest says; a kill leaves
it, and the next download asks for the rest. No name that comes from the remote becomes a path unless it is one of the
few that a version has.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from streamtrain.fleet.errors import RefusedError, RemoteError, StoppedError
from streamtrain.fleet.pointer import Pointer
from streamtrain.fleet.remote import Remote
from streamtrain.model.formats import F32_FILE, INT8_FILE, METRICS_FILE, NORMALIZATION_FILE, TRAINING_FILE
from streamtrain.model.seal import MANIFEST_FILE, read_sealed
from streamtrain.model.signature import SIGNATURE_FILE, PublicKey
from streamtrain.publish.durable import sync_directory, write_file

FILES = frozenset({F32_FILE, INT8_FILE, TRAINING_FILE, NORMALIZATION_FILE, METRICS_FILE})
"""What a manifest may list."""
VERSION_LIMIT_BYTES = 256 * 1024 * 1024
"""All files of a version together; a model is a few thousand bytes, so a larger one is a mistake or meant to harm."""

_READ_BYTES = 1024 * 1024


def download(
    remote: Remote,
    pointer: Pointer,
    directory: Path,
    public_key: PublicKey | None,
    should_stop: Callable[[], bool],
) -> None:
    """Complete a version in a directory, which keeps what came even if this fails.

    Parameters
    ----------
    remote : Remote
    pointer : Pointer
        What it must be.
    directory : Path
        Named as the version.
    public_key : PublicKey, optional
        Who must have signed it: looked at before anything but the manifest is asked for.
    should_stop : callable
        Asked after every piece.

    Raises
    ------
    RemoteError
        If the remote does not give it, or gives something else.
    RefusedError
        If the manifest lists what a version cannot have.
    VersionError
        If the manifest is not one that this program takes.
    StoppedError
        If it was to stop.
    OSError
        If it could not be written.
    """
    folder = f"versions/{pointer.version}"
    wanted = {MANIFEST_FILE: (pointer.manifest_size, pointer.manifest_sha256)}
    _complete(remote, folder, directory, wanted, should_stop)
    if pointer.signature is not None:
        write_file(directory / SIGNATURE_FILE, bytes.fromhex(pointer.signature))
    manifest, _ = read_sealed(directory, only=(), public_key=public_key)
    where = f"{remote.place}/{folder}/{MANIFEST_FILE}"
    if manifest.get("version") != pointer.version:
        raise RefusedError(f"{where} calls it {manifest.get('version')!r:.40}")
    # Sizes and digests are of the right types: the seal's reader saw to that.
    listed = {name: (entry["size"], entry["sha256"]) for name, entry in manifest["files"].items()}
    if unknown := sorted(listed.keys() - FILES):
        raise RefusedError(f"{where} lists {unknown[:3]}, which no version has; is a newer streamtrain at work there?")
    if (total := sum(size for size, _ in listed.values())) > VERSION_LIMIT_BYTES:
        raise RefusedError(f"{where} lists {total} bytes; expected {VERSION_LIMIT_BYTES} at most")
    _complete(remote, folder, directory, listed, should_stop)
    sync_directory(directory)


def _complete(
    remote: Remote,
    folder: str,
    directory: Path,
    wanted: dict[str, tuple[int, str]],
    should_stop: Callable[[], bool],
) -> None:
    for name, (size, sha256) in wanted.items():
        file = directory / name
        if _digest(file, size) == sha256:
            continue
        part = directory / f"{name}.part"
        _fill(part, remote, f"{folder}/{name}", size, should_stop)
        if _digest(part, size) != sha256:
            part.unlink(missing_ok=True)  # whichever byte it is: the next try begins at the first
            raise RemoteError(f"read {remote.place}/{folder}/{name}: it differs from its digest; it is asked for anew")
        part.rename(file)


def _fill(part: Path, remote: Remote, path: str, size: int, should_stop: Callable[[], bool]) -> None:
    """Append what is missing of a file, and flush it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(part, flags, 0o666)
    try:
        there = os.fstat(descriptor).st_size
        if there > size:
            os.ftruncate(descriptor, 0)
            there = 0
        if there < size:
            for position, piece in remote.stream(path, there, size):
                if position != there:
                    os.ftruncate(descriptor, position)
                    there = position
                for written in _written(descriptor, piece, there):
                    there = written
                if should_stop():
                    raise StoppedError(f"told to stop at byte {there} of {size} of {path}")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _written(descriptor: int, piece: bytes, position: int) -> Iterator[int]:
    left = memoryview(piece)
    while left:
        n_bytes = os.pwrite(descriptor, left, position)
        left, position = left[n_bytes:], position + n_bytes
        yield position


def _digest(file: Path, size: int) -> str | None:
    """SHA-256 of a file of this size; None if there is none."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        if os.fstat(descriptor).st_size != size:
            return None
        state = hashlib.sha256()
        while piece := stream.read(_READ_BYTES):
            state.update(piece)
    return state.hexdigest()
