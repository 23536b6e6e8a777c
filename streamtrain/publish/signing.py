"""The private half of signatures: the key that signs manifests, and making one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from streamtrain.model.signature import KeyFileError, PublicKey, ed25519
from streamtrain.publish.secret import read_secret


class Signer:
    """Signs with one private key.

    Parameters
    ----------
    key : Ed25519PrivateKey
        Of the package cryptography.

    Attributes
    ----------
    public_key : PublicKey
        What checks its signatures.
    """

    def __init__(self, key: Any) -> None:
        self._key = key
        self.public_key = PublicKey([key.public_key().public_bytes_raw()])

    def sign(self, data: bytes) -> bytes:
        """Sign.

        Parameters
        ----------
        data : bytes

        Returns
        -------
        bytes
            64 of them.
        """
        signature: bytes = self._key.sign(data)
        return signature


def read_signing_key(file: Path) -> Signer:
    """Read a private key.

    Parameters
    ----------
    file : Path
        PKCS #8 in PEM, not encrypted, readable by its owner alone.

    Returns
    -------
    Signer

    Raises
    ------
    KeyFileError
        If it cannot be read, others could read it, or it is another kind of key.
    """
    data = read_secret(file, "signing key")
    module = ed25519()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    expected = "expected an Ed25519 private key in PEM (PKCS #8), without a password; `streamtrain keygen` makes one"
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not the cause's own words: they may quote what was read.
        raise KeyFileError(f"read signing key: {file} is no such key; {expected}") from None
    if not isinstance(key, module.Ed25519PrivateKey):
        raise KeyFileError(f"read signing key: {file} holds a key of another kind; {expected}")
    return Signer(key)


def generate(file: Path) -> Path:
    """Make a new pair of keys.

    Parameters
    ----------
    file : Path
        Where the private key goes, mode 0600; the public one goes beside it, with ``.pub`` appended. Neither may exist.

    Returns
    -------
    Path
        The public key's file.

    Raises
    ------
    KeyFileError
        If one exists or cannot be written.
    """
    module = ed25519()
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = module.Ed25519PrivateKey.generate()
    public_file = file.with_name(f"{file.name}.pub")
    _create(file, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    try:
        _create(public_file, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    except KeyFileError:
        file.unlink()
        raise
    return public_file


def _create(file: Path, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except FileExistsError as error:
        raise KeyFileError(f"keygen: {file} exists; a key is never overwritten: choose another name") from error
    except OSError as error:
        raise KeyFileError(f"keygen: {file}: {error.strerror or error}") from error
