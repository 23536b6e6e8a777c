"""``pull.json``: the pointer that a directory followed last, so that older ones show as old after any crash."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from streamtrain.fleet.errors import FleetError
from streamtrain.fleet.pointer import Pointer, decode, encode
from streamtrain.publish.durable import sync_directory, write_file
from streamtrain.publish.errors import PublishError, saying


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a directory followed last.

    Attributes
    ----------
    pointer : Pointer
    source : str
        Where it came from, without user and password.
    validator : str or None
        By which that remote tells whether it is still this one.
    """

    pointer: Pointer
    source: str
    validator: str | None


def read_accepted(file: Path) -> Accepted | None:
    """Read what was accepted last.

    Parameters
    ----------
    file : Path

    Returns
    -------
    Accepted or None
        None if nothing was yet.

    Raises
    ------
    PublishError
        If it is there and can't be read.
    """
    with saying("read what is followed", file):
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return None
    with suppress(ValueError, FleetError):
        match json.loads(data):
            case {"pointer": str(text), "source": str(source), "validator": str() | None as validator}:
                return Accepted(decode(text.encode()), source, validator)
            case {"pointer": None}:
                return None
    raise PublishError(
        f"read what is followed: {file} is damaged; `streamtrain pull --forget` makes it anew, and takes whatever the "
        "remote has now"
    )


def write_accepted(file: Path, accepted: Accepted | None) -> None:
    """Replace what was accepted last. Only for the holder of the write lock.

    Parameters
    ----------
    file : Path
    accepted : Accepted or None
        None to take whatever comes next.

    Raises
    ------
    OSError
    """
    content: dict[str, object] = {"format": 1, "pointer": None}
    if accepted is not None:
        content["pointer"] = encode(accepted.pointer).decode()
        content |= {"source": accepted.source, "validator": accepted.validator}
    write_file(file, json.dumps(content, indent=2).encode() + b"\n")
    sync_directory(file.parent)
