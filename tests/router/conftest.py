from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "@ruvector/tiny-dancer@0.1.22"


@pytest.fixture(scope="session")
def tiny_dancer_folder(unavailable):
    """A folder in which Node finds the released Tiny Dancer, installed by npm once and kept."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            unavailable(f"{program} is not installed: the released Tiny Dancer cannot be run")
    folder = ROOT / ".cache" / "npm" / PACKAGE.replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            done = subprocess.run(
                ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--prefix", folder, PACKAGE],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                unavailable(f"npm could not install {PACKAGE}: {done.stderr[-500:]}")
            (folder / "installed").touch()
    return folder
