from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys

import pytest
from fleet_server import until

from streamtrain.fleet.errors import RefusedError, RemoteError
from streamtrain.fleet.follow import LONGEST_RETRY_S, after_failures, follow, jittered
from streamtrain.fleet.pull import Outcome
from streamtrain.ops.notify import Notifier
from streamtrain.publish.errors import PublishError


class Scripted:
    """A puller that does what it is told."""

    place = "https://host/models"

    def __init__(self, *steps):
        self.steps = list(steps)

    def once(self):
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return Outcome(step, "v2", "v1", 7, 1, 0)


def waits_of(puller, every_s=60.0):
    """Seconds waited for after each pull, until its steps are used up."""
    waits, seen = [], []

    def wait(seconds):
        if waits and waits[-1][0] == len(puller.steps):
            waits[-1][1] += seconds
        else:
            waits.append([len(puller.steps), seconds])
        return not puller.steps

    follow(
        puller, every_s, notifier=Notifier(None), rng=random.Random(0), wait=wait, on_outcome=seen.append
    )  # fmt: skip
    return [seconds for _, seconds in waits], seen


def test_intervals_differ_and_failures_are_tried_again_soon_and_then_seldom():
    failure = RemoteError("500")
    waits, seen = waits_of(Scripted("pulled", "unchanged", failure, failure, failure, "unchanged", "unchanged"))
    assert [one.result for one in seen] == ["pulled", "unchanged", "unchanged", "unchanged"]
    for waited, expected in zip(waits, (60, 60, 2, 4, 8, 60), strict=False):
        assert 0.8 * expected <= waited <= 1.2 * expected
    assert len({round(one, 3) for one in waits[:2]}) == 2


def test_every_kind_of_failure_is_lived_through_and_a_server_may_ask_for_peace():
    steps = (
        RefusedError("no"),
        PublishError("disk"),
        RemoteError("503", retry_after_s=100.0),
        "unchanged",
        "unchanged",
    )
    waits, seen = waits_of(Scripted(*steps))
    assert len(seen) == 2
    assert waits[2] == pytest.approx(100.0)


def test_bounds_of_the_back_off():
    rng = random.Random(0)
    for n_failures in (1, 5, 10, 100, 10_000):
        assert after_failures(n_failures, 10.0, rng) <= 1.2 * LONGEST_RETRY_S
        assert after_failures(n_failures, 3600.0, rng) <= 1.2 * 3600
    found = [jittered(10.0, rng) for _ in range(1000)]
    assert 8.0 <= min(found) < 8.2
    assert 11.8 < max(found) <= 12.0


PULL = [sys.executable, "-m", "streamtrain", "pull"]


def run(*words, **more):
    return subprocess.run(
        [sys.executable, "-m", "streamtrain", *map(str, words)], capture_output=True, text=True, check=False, **more
    )


def test_the_command_follows_until_sigterm(trainer, server, tmp_path):
    old = trainer.publish()
    models = tmp_path / "models"
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        words = [*PULL, server.url, str(models), "--every", "0.2", "--json"]
        env = os.environ | {"NOTIFY_SOCKET": address}
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
            assert json.loads(process.stdout.readline())["version"] == old
            kick = ready = systemd.recv(4096)
            while ready == b"WATCHDOG=1":
                ready = systemd.recv(4096)
            ready = ready.decode()
            assert kick == b"WATCHDOG=1"  # while it downloads
            assert ready.startswith("READY=1\nSTATUS=in step with http://127.0.0.1:")
            server.fault = lambda path, nth: "error"
            until(lambda: b"failed, 1 times" in systemd.recv(4096))
            server.fault = lambda path, nth: None
            new = trainer.publish()
            assert json.loads(process.stdout.readline())["version"] == new
            process.send_signal(signal.SIGTERM)
            log = process.stderr.read()
    assert process.returncode == 0, log
    assert "pulled" in log
    assert "pull failed" in log
    assert "Traceback" not in log
    assert (models / "current").readlink().name == new


def test_stopped_in_the_middle_of_a_file(trainer, server, tmp_path):
    trainer.publish()
    models = tmp_path / "models"
    server.stall_after = 300
    server.fault = lambda path, nth: "stall" if path.endswith("metrics.json") else None
    words = [*PULL, server.url, str(models), "--timeout", "1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        server.stalled.wait()
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 1
    server.fault = lambda path, nth: None
    ended = run("pull", server.url, models)
    assert (ended.returncode, ended.stdout.startswith("serving v")) == (0, True)


def test_one_shot_exit_codes(trainer, server, tmp_path):
    models = tmp_path / "models"
    (tmp_path / "empty").mkdir()
    ended = run("push", tmp_path / "empty", trainer.url)
    assert (ended.returncode, "no current version" in ended.stderr) == (1, True)
    trainer.publish()
    ended = run("push", trainer.registry.models_dir, trainer.url, "--json")
    assert (ended.returncode, json.loads(ended.stdout)["result"]) == (0, "unchanged")
    assert run("push", trainer.registry.models_dir, trainer.url).stdout.startswith("unchanged v")
    server.fault = lambda path, nth: "error" if nth <= 2 and path.endswith("metrics.json") else None
    ended = run("pull", server.url, models, "--json")
    assert (ended.returncode, json.loads(ended.stdout)["result"]) == (0, "pulled")
    assert ended.stderr.count("the server answered 500; again in") == 2
    server.fault = lambda path, nth: "error"
    ended = run("pull", server.url, models)
    assert (ended.returncode, ended.stdout, ended.stderr.count("answered 500")) == (1, "", 5)
    server.fault = lambda path, nth: None
    trainer.registry.close()
    assert run("pull", server.url, trainer.registry.models_dir).returncode == 1
    for words in (
        ["pull", server.url],
        ["pull", server.url, models, "--keep", "1"],
        ["pull", "models", models, "--evry"],
    ):
        assert run(*words).returncode == 2
    ended = run("pull", server.url, models, "--forget")
    assert (ended.returncode, "unchanged" in ended.stdout) == (0, True)


def test_a_missing_library_is_named(trainer, tmp_path):
    code = "import sys; sys.modules['fsspec'] = None; from streamtrain.cli import main; main()"
    for words in (["pull", "s3://bucket/models", tmp_path / "x"], ["push", tmp_path, "s3://bucket/models"]):
        if words[0] == "push":
            trainer.publish()
            words[1] = trainer.registry.models_dir
        ended = subprocess.run(
            [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False
        )
        assert (ended.returncode, "pip install 'streamtrain[fleet]'" in ended.stderr) == (2, True), ended.stderr


def test_pulling_over_http_loads_no_fsspec(trainer, server, tmp_path):
    trainer.publish()
    code = (
        "import sys\nfrom streamtrain.cli import cli\n"
        f"cli.main(['pull', {server.url!r}, {str(tmp_path / 'models')!r}], standalone_mode=False)\n"
        "sys.exit(' '.join({'fsspec', 'aiohttp', 'asyncio', 'numba'} & set(sys.modules)) or None)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
