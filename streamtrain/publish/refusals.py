"""``refused.json``: what the reports of the last refused candidates show. A bounded number, replaced as a whole.

Beside the receipts, which keep the verdict on every candidate for good: with these figures each would be several times
as long.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from streamtrain.publish.artifact import to_json
from streamtrain.publish.durable import sync_directory, write_file

_LOG = logging.getLogger(__name__)
REFUSED_FILE: Final = "refused.json"
_MOST: Final = 10
_MOST_BYTES: Final = 8 << 20  # what is longer is not ours


def keep_refused(models_dir: Path, entry: Mapping[str, Any]) -> None:
    """Add a refused candidate. Only for the directory's trainer. What can't be written is told, and does no harm.

    Parameters
    ----------
    models_dir : Path
    entry : mapping
        JSON values.
    """
    entries = [*read_refused(models_dir), to_json(entry)][-_MOST:]
    file = models_dir / REFUSED_FILE
    try:
        write_file(file, json.dumps({"refused": entries}, allow_nan=False).encode() + b"\n")
        sync_directory(models_dir)
    except OSError as error:
        _LOG.warning("the report of a refused candidate could not be kept in %s: %s", file, error)


def read_refused(models_dir: Path) -> list[dict[str, Any]]:
    """Read what is kept of refused candidates, the oldest first.

    Parameters
    ----------
    models_dir : Path

    Returns
    -------
    list of dict
        Empty where there is nothing, or nothing that can be read.
    """
    try:
        with (models_dir / REFUSED_FILE).open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
        found = json.loads(data) if len(data) <= _MOST_BYTES else None
    except (OSError, ValueError, RecursionError):
        return []
    entries = found.get("refused") if isinstance(found, dict) else None
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
