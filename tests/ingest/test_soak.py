"""SIGKILL by the hundred, while logs are written and rotated: 0 lost, 0 doubled. `make soak` does it 10,000 times."""

import os
import random
import sys

import pytest

ROUND = 500
N_KILLS = int(os.environ.get("STREAMTRAIN_KILLS", ROUND))


@pytest.mark.slow
@pytest.mark.parametrize("kills", [ROUND] * (N_KILLS // ROUND))
def test_killed_at_random_and_at_every_point(run_beside, tmp_path, kills):
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    report = run_beside("kill_again_and_again.py", tmp_path, seed, kills)
    sys.stdout.write(f"{report}\n")
    assert report["kills"] == kills
    assert (report["lost"], report["doubled"], report["duplicates"]) == (0, 0, 0)
    assert report["bad"][0] == report["bad"][1]
    assert report["pending"] == 0
    # Of what was destroyed before it was read, the gap is counted to the byte.
    assert report["destroyed"] > 0
    assert report["lost_bytes"] == [report["destroyed_bytes"]] * 2
    # They came at all of the points of the commit path, but for the rare ones.
    assert min(report["by"].values()) >= kills // 10
    assert len(report["never killed at"]) <= 8
