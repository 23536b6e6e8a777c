"""A version directory sealed by its manifest: every byte in it is covered by a digest, the manifest's own included.

``manifest.json`` lists size and SHA-256 of every other file. Its last key, ``manifest_sha256``, is the SHA-256 of all
bytes before the line break in front of that key, so any program can check it without knowing how it was laid out.
That finds damage; who made a version, a signature beside the manifest tells (see `signature`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from streamtrain import __version__
from streamtrain.model.signature import SIGNATURE_BYTES, SIGNATURE_FILE, PublicKey

MANIFEST_FILE = "manifest.json"
SCHEMA_VERSION = 2
"""Newest version of the manifest that this program reads; `schema_of` says which one a model needs."""
MANIFEST_LIMIT_BYTES = 16 * 1024 * 1024
FILE_LIMIT_BYTES = 256 * 1024 * 1024
_PIECE_BYTES = 2047
_HASHED_IN_PIECES_BYTES = 32 * 1024

Manifest = dict[str, Any]

_SEAL = re.compile(rb'\n  "manifest_sha256": "([0-9a-f]{64})"\n}\n\Z')
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}")
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
# What opening says where there is no version (any more), as opposed to one that cannot be read just now.
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO})


class VersionError(Exception):
    """A version directory (or model file) that does not verify. It will not get better by trying again.

    Attributes
    ----------
    path : Path
    reason : str
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class NewerVersionError(VersionError):
    """A version whose manifest a newer program wrote, and this one doesn't read: sound, as far as can be told."""


class _NewerManifestError(ValueError):
    """A manifest of a later schema than this code reads."""


def digest(data: bytes) -> dict[str, object]:
    """Entry of one file in the manifest's ``files``.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    dict
        ``{"size": bytes, "sha256": hex digits}``
    """
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def seal(manifest: Mapping[str, object]) -> bytes:
    """Bytes of ``manifest.json`` with its seal.

    Parameters
    ----------
    manifest : mapping
        JSON values, without NaN and infinities; not empty; without ``manifest_sha256``.

    Returns
    -------
    bytes

    Raises
    ------
    ValueError
        If a value is not JSON.
    """
    body = json.dumps(dict(manifest), indent=2, allow_nan=False).encode()
    covered = body.removesuffix(b"\n}") + b","
    seal_hex = hashlib.sha256(covered).hexdigest().encode()
    return covered + b'\n  "manifest_sha256": "' + seal_hex + b'"\n}\n'


def unseal(data: bytes) -> Manifest:
    """Check the seal of a manifest and parse it.

    Parameters
    ----------
    data : bytes

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If a byte differs from what was sealed, or it is not a manifest of a schema that this code reads.
    """
    found = _SEAL.search(data)
    if found is None:
        raise ValueError("it does not end in its seal 'manifest_sha256': it is truncated or another file")
    if _sha256(data[: found.start()]).encode() != found[1]:
        raise ValueError("its seal 'manifest_sha256' does not match: it was changed after it was written")
    try:
        manifest = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(manifest, dict):
        raise ValueError("it is not a JSON object")
    schema = manifest.get("schema_version")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise ValueError(f"schema_version is {schema!r}; expected a positive integer")
    if schema > SCHEMA_VERSION:
        raise _NewerManifestError(_newer(schema, manifest.get("written_by")))
    return manifest


def schema_of(sequence_length: int) -> int:
    """Lowest version of the manifest that says all that serving needs: a router that knows no more can serve the model.

    Parameters
    ----------
    sequence_length : int
        Steps of a session that the model was trained on.

    Returns
    -------
    int
        2 for a model of sessions, which a router that reads up to version 1 would ask as if each request stood alone;
        1 for others, as 0.1.0 wrote it.
    """
    return 2 if sequence_length > 1 else 1


def _newer(schema: int, writer: object) -> str:
    name = writer[:80] if isinstance(writer, str) and writer.isprintable() and writer else "a newer streamtrain"
    return (
        f"schema_version is {schema}, written by {name}; this is streamtrain {__version__}, which reads up to "
        f"{SCHEMA_VERSION}: upgrade what reads it, or roll back to a version that it reads"
    )


def read_sealed(
    directory: Path, only: Collection[str] | None = None, public_key: PublicKey | None = None
) -> tuple[Manifest, dict[str, bytes]]:
    """Read a version directory and verify what is read, all of it by default.

    Each file is opened, read and closed once: in a busy serving process, a thread waits for the interpreter lock
    after every system call, and a swap should be quick.

    Parameters
    ----------
    directory : Path
    only : collection of str, optional
        Names to read; the others are not looked at.
    public_key : PublicKey, optional
        If given, the manifest must be signed by it, and its version be the directory's name.

    Returns
    -------
    manifest : dict
    files : dict of str to bytes
        Without the manifest.

    Raises
    ------
    VersionError
        If a file is missing, not a regular file, of another size or digest than the manifest says, or the manifest's
        own seal is broken, or a signature is asked for and there is none that is good. `NewerVersionError` if a newer
        program wrote it.
    OSError
        If the machine could not read it just now (permissions, too many open files, an I/O error): worth another try.
    """
    try:
        folder = os.open(directory, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise VersionError(directory, "it is not there, or not a directory") from error
        raise
    try:
        raw = _read(directory, MANIFEST_FILE, folder, MANIFEST_LIMIT_BYTES, MANIFEST_LIMIT_BYTES)
        if len(raw) > MANIFEST_LIMIT_BYTES:
            raise VersionError(directory, f"{MANIFEST_FILE} is longer than {MANIFEST_LIMIT_BYTES} bytes")
        if public_key is not None:
            _check_signature(directory, folder, raw, public_key)
        try:
            manifest = unseal(raw)
        except _NewerManifestError as error:
            raise NewerVersionError(directory, f"{MANIFEST_FILE}: {error}") from error
        except ValueError as error:
            raise VersionError(directory, f"{MANIFEST_FILE}: {error}") from error
        if public_key is not None and manifest.get("version") != directory.name:
            raise VersionError(directory, f"its signature is of version {manifest.get('version')!r}")
        listed = _listed_files(directory, manifest)
        missing = sorted(set(only or ()) - listed.keys())
        if missing:
            raise VersionError(directory, f"{MANIFEST_FILE} does not list {missing}")
        names = listed.keys() if only is None else only
        return manifest, {name: _read_verified(directory, name, folder, *listed[name]) for name in names}
    finally:
        os.close(folder)


def _sha256(data: bytes) -> str:
    """Hex digits. Of a small file without giving the interpreter lock away, which takes longer to get back than to use.

    `hashlib` lets go of the lock for every piece of 2,048 bytes or more.
    """
    if len(data) > _HASHED_IN_PIECES_BYTES:
        return hashlib.sha256(data).hexdigest()
    state = hashlib.sha256()
    for start in range(0, len(data), _PIECE_BYTES):
        state.update(data[start : start + _PIECE_BYTES])
    return state.hexdigest()


def _check_signature(directory: Path, folder: int, manifest: bytes, public_key: PublicKey) -> None:
    try:
        signature = _read(directory, SIGNATURE_FILE, folder, SIGNATURE_BYTES, SIGNATURE_BYTES)
    except VersionError as error:
        raise VersionError(
            directory, f"it is not signed ({error.reason}), and a public key is set: only signed versions are taken"
        ) from error
    if len(signature) != SIGNATURE_BYTES or not public_key.signed(manifest, signature):
        raise VersionError(directory, f"{SIGNATURE_FILE} is not a signature of {MANIFEST_FILE} by the public key set")


def _listed_files(directory: Path, manifest: Manifest) -> dict[str, tuple[int, str]]:
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise VersionError(directory, f"{MANIFEST_FILE}: 'files' is not an object")
    listed: dict[str, tuple[int, str]] = {}
    for name, entry in files.items():
        match entry:
            case {"size": int(size), "sha256": str(sha256)} if 0 <= size <= FILE_LIMIT_BYTES:
                listed[name] = (size, sha256)
            case _:
                raise VersionError(directory, f"{MANIFEST_FILE}: the entry of {name!r} in 'files' is not valid")
        if not _PLAIN_NAME.fullmatch(name):
            raise VersionError(directory, f"{MANIFEST_FILE}: {name!r} in 'files' is not a plain file name")
    return listed


def _read_verified(directory: Path, name: str, folder: int, size: int, sha256: str) -> bytes:
    data = _read(directory, name, folder, size, size)
    if len(data) != size:
        raise VersionError(directory, f"{name} has {'more' if len(data) > size else len(data)} bytes; expected {size}")
    if _sha256(data) != sha256:
        raise VersionError(directory, f"{name} was changed after it was written (its SHA-256 is not the manifest's)")
    return data


def _read(directory: Path, name: str, folder: int, limit_bytes: int, enough_bytes: int) -> bytes:
    """Up to `limit_bytes` + 1 bytes of a file, so that a longer one shows.

    One read is all it takes on most file systems; where a read may give less, it goes on until there are `enough_bytes`
    or the file ends.
    """
    try:
        file = os.open(name, _FLAGS, dir_fd=folder)
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise VersionError(directory, f"{name} is missing, or not a regular file") from error
        raise
    try:
        data = os.read(file, limit_bytes + 1)
        while 0 < len(data) < enough_bytes and (more := os.read(file, limit_bytes + 1 - len(data))):
            data += more
        return data
    except (IsADirectoryError, BlockingIOError) as error:
        raise VersionError(directory, f"{name} is not a regular file") from error
    finally:
        os.close(file)
