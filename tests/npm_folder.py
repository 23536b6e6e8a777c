"""Packages from npm for the tests, installed once and kept."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "npm"
TINY_DANCER = "@ruvector/tiny-dancer@0.1.22"


def npm_folder(unavailable: Callable[[str], None], *packages: str) -> Path:
    """A folder whose ``node_modules`` holds the packages; the test is skipped (in CI: failed) if npm can't get them."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            unavailable(f"{program} is not installed: {' and '.join(packages)} cannot be run")
    folder = CACHE / "+".join(packages).replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            done = subprocess.run(
                ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--prefix", folder, *packages],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                unavailable(f"npm could not install {' and '.join(packages)}: {done.stderr[-500:]}")
            (folder / "installed").touch()
    return folder
