"""Real file systems that are full, or become read-only at any call of a publish."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("on_real_mounts.py")

pytestmark = pytest.mark.needs_root


@pytest.fixture
def on_mounts(tmp_path, unavailable):
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode:
        unavailable("no mount namespaces here")

    def run(task: str) -> list[str | None]:
        done = subprocess.run(
            ["unshare", "--mount", sys.executable, "-W", "error", SCRIPT, tmp_path, task],
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        reasons: list[str | None] = json.loads(done.stdout)["reasons"]
        return reasons

    return run


def test_a_disk_that_is_full_at_any_point(on_mounts):
    reasons = on_mounts("full")
    assert len(reasons) >= 5
    assert all(reason is not None and "No space left on device; free some space" in reason for reason in reasons)


def test_read_only_from_any_call_on(on_mounts):
    reasons = on_mounts("read-only")
    assert len(reasons) > 40
    failed = [reason for reason in reasons if reason is not None]
    assert len(failed) > 30
    assert all("Read-only file system; mount it writable" in reason for reason in failed)
