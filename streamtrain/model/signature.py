"""Ed25519 signatures of manifests: who made a version, checked by whoever serves it.

``manifest.json.sig`` holds the 64 bytes of the signature over the exact bytes of ``manifest.json``, as RFC 8032 has it
and OpenSSL checks it. The manifest has the digest of every other file and the version's own name, so a signature covers
the whole version and is of no use for another one. It says who made a version, not that it is the newest.

Needs the extra `streamtrain[sign]`, and only where a key is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

SIGNATURE_FILE = "manifest.json.sig"
SIGNATURE_BYTES = 64

_LIMIT_BYTES = 64 * 1024
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----\n?", re.DOTALL)


class KeyFileError(ValueError):
    """A key or secret that cannot be used; the message names its file and what to do."""


class PublicKey:
    """One or more public keys, any of which may have signed: two while a key is being replaced.

    Parameters
    ----------
    raw_keys : sequence of bytes
        32 bytes each, as RFC 8032 encodes them.

    Raises
    ------
    ValueError
        If there is none, or one is not a key.
    """

    def __init__(self, raw_keys: Sequence[bytes]) -> None:
        if not raw_keys:
            raise ValueError("PublicKey: no key given")
        public = ed25519().Ed25519PublicKey
        self._keys = [public.from_public_bytes(raw) for raw in raw_keys]

    def signed(self, data: bytes, signature: bytes) -> bool:
        """Whether `signature` is one of these keys' over exactly these bytes.

        Parameters
        ----------
        data, signature : bytes

        Returns
        -------
        bool
        """
        from cryptography.exceptions import InvalidSignature

        for key in self._keys:
            try:
                key.verify(signature, data)
            except InvalidSignature:
                continue
            return True
        return False


def read_public_key(file: str | os.PathLike[str]) -> PublicKey:
    """Read public keys.

    Parameters
    ----------
    file : path
        PEM, one ``PUBLIC KEY`` block or several.

    Returns
    -------
    PublicKey

    Raises
    ------
    KeyFileError
        If it cannot be read or holds something else.
    """
    path = Path(file)
    try:
        with path.open("rb") as stream:
            data = stream.read(_LIMIT_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"read public key: {path}: {error.strerror or error}; see `streamtrain keygen`") from error
    blocks = [] if len(data) > _LIMIT_BYTES else list(_PEM.finditer(data))
    if any(b"PRIVATE" in block[1] for block in blocks):
        raise KeyFileError(f"read public key: {path} holds a private key; routers need the file with .pub, and no more")
    module = ed25519()
    from cryptography.hazmat.primitives import serialization

    raw_keys = []
    for block in blocks:
        try:
            key = serialization.load_pem_public_key(block[0])
        except ValueError as error:
            raise KeyFileError(f"read public key: {path}: {error}; expected an Ed25519 public key in PEM") from error
        if not isinstance(key, module.Ed25519PublicKey):
            raise KeyFileError(f"read public key: {path} holds a key of another kind; expected Ed25519 in PEM")
        raw_keys.append(key.public_bytes_raw())
    if not raw_keys:
        raise KeyFileError(f"read public key: {path} holds no PUBLIC KEY block; expected an Ed25519 public key in PEM")
    return PublicKey(raw_keys)


def ed25519() -> ModuleType:
    """Import what signs and checks.

    Returns
    -------
    module
        ``cryptography.hazmat.primitives.asymmetric.ed25519``.

    Raises
    ------
    KeyFileError
        If the extra is not installed.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519 as module
    except ImportError as error:
        raise KeyFileError("signatures need the extra streamtrain[sign]: install cryptography") from error
    return module
