"""A pull that is killed, in the middle of a file and at every step, and the next one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fleet_server import until

STEPS = (
    *("acquire", "download", "check", "accept", "write the pointer", "move", "point", "receipt", "retire", "swap"),
)
PULL = [sys.executable, "-m", "streamtrain", "pull", "--json"]


@pytest.mark.parametrize(
    ("name", "arrived"),
    [("manifest.json", 1000), ("fastgrnn.safetensors", 0), ("fastgrnn.safetensors", 1), ("metrics.json", 300)],
)
def test_killed_in_the_middle_of_a_file(trainer, server, pulling, held_to, tmp_path, name, arrived):
    version = trainer.publish()
    size = len(trainer.files(version)[name])
    models = tmp_path / "models"
    server.stall_after = arrived
    server.fault = lambda path, nth: "stall" if path.endswith(f"/{name}") else None
    with subprocess.Popen([*PULL, server.url, str(models)], stdout=subprocess.DEVNULL) as process:
        server.stalled.wait()
        pattern = f".staging/pull-*/{version}/{name}.part"
        until(lambda: any(one.stat().st_size == arrived for one in models.glob(pattern)))
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (models / "current").is_symlink()
    server.go_on.set()
    server.fault = lambda path, nth: None
    n_before = len(server.requests)
    ended = subprocess.run([*PULL, server.url, str(models)], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout)["result"] == "pulled"
    # What came before the kill is not sent again: of that file, and of those that were whole.
    after = server.requests[n_before:]
    asked = [found for path, _, _, found in after if path.endswith(f"/{name}")]
    assert asked == [f"bytes={arrived}-" if arrived else None]
    assert sum(n for path, _, n, _ in server.requests if path.endswith(f"/{name}")) == size
    paths = [path for path, *_ in server.requests if path.startswith("versions/")]
    assert len(paths) == len(set(paths)) + 1
    puller, mirror = pulling()
    assert puller.once().result == "unchanged"
    assert held_to(mirror) == version


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_step(trainer, server, pulling, held_to, tmp_path, step, when):
    versions = [trainer.publish()]
    puller, mirror = pulling(keep=2)
    puller.once()
    server.old["current.json"] = (trainer.store / "current.json").read_bytes()
    mirror.close()
    versions.append(trainer.publish())
    script = Path(__file__).with_name("killed_puller.py")
    ended = subprocess.run([sys.executable, script, server.url, mirror.models_dir, step, when], check=False)
    assert ended.returncode == -signal.SIGKILL
    seen = held_to(mirror)
    assert seen in versions
    # What a cache still has is no way back.
    server.fault = lambda path, nth: "old pointer"
    puller, mirror = pulling(keep=2)
    puller.once()
    seen_then = held_to(mirror)
    assert versions.index(seen_then) >= versions.index(seen)
    server.fault = lambda path, nth: None
    n_before = len(server.requests)
    puller.once()
    assert held_to(mirror) == versions[-1]
    if when == "after" and step not in ("acquire",):
        assert not any("versions/" in path for path, *_ in server.requests[n_before:])
    puller.once()
    assert [one.name for one in (mirror.models_dir / ".staging").iterdir()] == []
