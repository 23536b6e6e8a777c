"""Killed, or refused by the system, at every single call of every operation: what is current verifies, always."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamtrain.publish.errors import PublishError, saying

ROOT = Path(__file__).parents[2]
INJECTOR = Path(__file__).with_name("fault_injector.py")


def run(tmp_path: Path, operation: str, kind: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-W", "error", INJECTOR, tmp_path / "template", tmp_path, operation, kind],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    outcomes: list[int] = json.loads(done.stdout)
    assert outcomes.pop() == 9
    return outcomes


@pytest.mark.parametrize("operation", ["publish", "refuse", "rollback", "pin"])
def test_killed_at_every_call(tmp_path, operation):
    outcomes = run(tmp_path, operation, "KILL")
    assert len(outcomes) > (40 if operation == "publish" else 8)
    assert set(outcomes) == {-signal.SIGKILL}


@pytest.mark.parametrize(
    "kind",
    ["ENOSPC", "EIO+", *(pytest.param(k, marks=pytest.mark.slow) for k in ("EIO", "EACCES", "EROFS", "ENOSPC+"))],
)
@pytest.mark.parametrize("operation", ["publish", "refuse", "rollback", "pin"])
def test_refused_at_every_call(tmp_path, operation, kind):
    """Once, or (+) from there on until the operation gave up; what failed has a receipt once one can be written."""
    outcomes = run(tmp_path, operation, kind)
    assert len(outcomes) > (40 if operation == "publish" else 8)
    assert set(outcomes) == {0}


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, f"let this user (uid {os.getuid()}) write there"),
        (errno.EROFS, "mount it writable"),
        (errno.EIO, "check the disk"),
        (errno.EBUSY, "see the models directory's permissions"),
    ],
)
def test_an_error_names_operation_path_cause_and_fix(code, hint):
    with pytest.raises(PublishError) as caught, saying("publish", Path("models")):
        raise OSError(code, os.strerror(code), "models/current")
    assert str(caught.value).startswith(f"publish: models/current: {os.strerror(code)}; {hint}")
    with pytest.raises(PublishError, match="publish: models: "), saying("publish", Path("models")):
        raise OSError(code, os.strerror(code))
