"""What is told to the outside when another version becomes the current one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Change:
    """``current`` was pointed to another version.

    Attributes
    ----------
    event : "publish", "rollback" or "promote"
    version : str
        What is current now.
    previous : str or None
        What was current before.
    models_dir : Path
    time_s : float
        Seconds since the epoch.
    """

    event: Literal["publish", "rollback", "promote"]
    version: str
    previous: str | None
    models_dir: Path
    time_s: float


Listener = Callable[[Change], None]
"""Called after the change is done, its receipt written and the lock released; must return at once and raise nothing."""


def nobody(change: Change) -> None:
    """Listen to nothing.

    Parameters
    ----------
    change : Change
    """
