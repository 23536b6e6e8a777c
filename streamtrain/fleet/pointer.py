"""``current.json``: the one object of a remote that is ever replaced, and all that a puller trusts for a start.

Object stores have no links. The pointer names a version and the SHA-256 of its manifest, which has those of all other
files; its serial grows by one at each change, a rollback too, so that an old pointer out of a cache shows as old.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from streamtrain.fleet.errors import RefusedError, RemoteError
from streamtrain.model.seal import MANIFEST_LIMIT_BYTES
from streamtrain.model.signature import SIGNATURE_BYTES
from streamtrain.publish.catalog import is_version

POINTER_FILE = "current.json"
POINTER_LIMIT_BYTES = 16 * 1024
FORMAT = 1

_HIGHEST_SERIAL = 2**53  # what every JSON reader has exactly
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(rf"[0-9a-f]{{{2 * SIGNATURE_BYTES}}}")
_LONGEST_TIME = 40


class PointerError(RemoteError):
    """A pointer that is torn, changed or no pointer at all."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """What is current at a remote.

    Attributes
    ----------
    serial : int
        Grows at each change.
    version : str
    manifest_size : int
        Bytes of its ``manifest.json``.
    manifest_sha256 : str
    signature : str or None
        Hex digits of ``manifest.json.sig``, if the version is signed.
    recent : tuple of str
        Versions that the remote keeps, the one named last first.
    time : str
        When it was written, RFC 3339; for people.
    """

    serial: int
    version: str
    manifest_size: int
    manifest_sha256: str
    signature: str | None
    recent: tuple[str, ...]
    time: str


def encode(pointer: Pointer) -> bytes:
    """Bytes of a pointer, sealed by the SHA-256 of its own content.

    Parameters
    ----------
    pointer : Pointer

    Returns
    -------
    bytes
    """
    content = {"format": FORMAT, **asdict(pointer)}
    return json.dumps({**content, "sha256": _digest(content)}, indent=2).encode() + b"\n"


def decode(data: bytes) -> Pointer:
    """Read a pointer, and check everything in it.

    Parameters
    ----------
    data : bytes
        Anything at all.

    Returns
    -------
    Pointer

    Raises
    ------
    PointerError
        If it is not whole, or not a pointer: worth another try.
    RefusedError
        If a newer program wrote it.
    """
    if len(data) > POINTER_LIMIT_BYTES:
        raise PointerError(f"{POINTER_FILE} is longer than {POINTER_LIMIT_BYTES} bytes")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PointerError(f"{POINTER_FILE} is not JSON: it is truncated or another file") from error
    if not isinstance(content, dict):
        raise PointerError(f"{POINTER_FILE} is not a JSON object")
    seal = content.pop("sha256", None)
    if seal != _digest(content):
        raise PointerError(f"{POINTER_FILE}: its 'sha256' does not match: it was changed after it was written")
    form = content.get("format")
    if not isinstance(form, int) or not _is_count(form, 1, _HIGHEST_SERIAL):
        raise PointerError(f"{POINTER_FILE}: format is {form!r:.40}; expected a positive integer")
    if form > FORMAT:
        raise RefusedError(f"{POINTER_FILE} has format {form}; this program reads {FORMAT}: upgrade it on this host")
    return _checked(content)


def _checked(content: dict[str, Any]) -> Pointer:
    signature, recent, time = (content.get(key) for key in ("signature", "recent", "time"))
    valid = {
        "serial": _is_count(content.get("serial"), 1, _HIGHEST_SERIAL),
        "version": _is_name(content.get("version")),
        "manifest_size": _is_count(content.get("manifest_size"), 1, MANIFEST_LIMIT_BYTES),
        "manifest_sha256": _matches(_SHA256, content.get("manifest_sha256")),
        "signature": signature is None or _matches(_SIGNATURE, signature),
        "recent": isinstance(recent, list) and all(_is_name(one) for one in recent),
        "time": isinstance(time, str) and len(time) <= _LONGEST_TIME and time.isprintable(),
    }
    for key, is_valid in valid.items():
        if not is_valid:
            raise PointerError(f"{POINTER_FILE}: {key} is {content.get(key)!r:.80}, which it cannot be")
    kept = {key: content[key] for key in valid}  # a later program of this format may write more
    return Pointer(**kept | {"recent": tuple(kept["recent"])})


def _digest(content: dict[str, Any]) -> str:
    try:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError) as error:  # nested more deeply than can be written
        raise PointerError(f"{POINTER_FILE} cannot be read: {error}") from error
    return hashlib.sha256(text.encode()).hexdigest()


def _is_count(value: object, lowest: int, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _is_name(value: object) -> bool:
    return isinstance(value, str) and is_version(value)


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
