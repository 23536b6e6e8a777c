"""Ten thousand swaps: the memory of the process stays, and every one of them happened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SWAP = """
import gc, sys
from pathlib import Path
from make_candidate import make_candidate
from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.router.router import Router

models, n_swaps, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with Registry(models) as registry:
    names = [
        registry.publish(registry.stage(build(make_candidate(seed, sequence_length=steps)))) for seed in range(4)
    ]

def private_bytes():
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))

row = [0.1, 0.2, 0.3, 0.4, 0.5]
with Router(models, poll_interval_s=None, max_sessions=100) as router:
    for swap in range(n_swaps + 500):
        if swap == 500:
            before = private_bytes()
        (models / "next").symlink_to(f"versions/{names[swap % 4]}")
        (models / "next").rename(models / "current")
        if not router.poll() or router.route(row, session=swap).version != names[swap % 4]:
            sys.exit(f"swap {swap} did not happen: {router.failure}")
    print(private_bytes() - before)
"""


@pytest.mark.parametrize(("n_swaps", "steps"), [(1000, 8), pytest.param(10_000, 1, marks=pytest.mark.slow)])
def test_memory_over_swaps(tmp_path, n_swaps, steps):
    """In a process of its own, whose memory is nobody else's."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SWAP, tmp_path, str(n_swaps), str(steps)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 1 << 20
