"""Finds and runs the demo, which lives outside the library: it uses nothing that a stranger could not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_PLACES = (_HERE.parent / "examples" / "demo.py", _HERE / "_examples" / "demo.py")


def run_demo(logs: Path | None) -> int:
    """Run ``examples/demo.py`` and return its exit code.

    Raises
    ------
    FileNotFoundError
        If this installation came without the examples.
    """
    script = next((place for place in _PLACES if place.exists()), None)
    if script is None:
        raise FileNotFoundError(f"demo: no demo.py in {' or '.join(str(place.parent) for place in _PLACES)}")
    replay = [] if logs is None else ["--logs", str(logs)]
    return subprocess.run([sys.executable, str(script), *replay], check=False).returncode  # noqa: S603 - our own file
