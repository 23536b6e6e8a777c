"""Publishes and rollbacks by the thousand, killed at random and at each failpoint, before the eyes of four readers.

`make soak-publish` makes it ten thousand. The seed is printed; kills depend on timing, so that it repeats the plan and
not the moment.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from make_candidate import TINY_DANCER_SCALE
from probes import PROBES, right_answers

from streamtrain.publish.catalog import Catalog, number
from streamtrain.publish.registry import Registry
from streamtrain.publish.signing import generate

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
N_CHANGES = int(os.environ.get("STREAMTRAIN_PUBLISHES", "1000"))
N_CALLS = 110
GROWTH_LIMIT_BYTES = 1024 * 1024
CHANGING = ("rollback", "promote")


def environment() -> dict[str, str]:
    paths = f"{ROOT}:{ROOT / 'tests'}:{HERE}"
    return os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}


class Killer:
    """Kills those children of the publisher that don't kill themselves, at a random moment."""

    def __init__(self, publisher: subprocess.Popen[str], chance: random.Random) -> None:
        self.publisher, self.chance = publisher, chance
        self.kills: Counter[str] = Counter()
        self.child = 0
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        assert self.publisher.stdout is not None
        for line in self.publisher.stdout:
            child, by = line.split()
            self.child = int(child)
            self.kills[by] += 1
            if by == "outside":
                time.sleep(self.chance.uniform(0.0, 1.2))
                os.kill(self.child, signal.SIGKILL)


@contextmanager
def publishing(models: Path, seed: int, key: Path) -> Iterator[Killer]:
    command = [sys.executable, "-W", "error", HERE / "endless_publisher.py", models, str(seed), str(N_CALLS), key]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as publisher:
        killer = Killer(publisher, random.Random(seed))
        try:
            yield killer
            assert publisher.poll() is None, "the publisher ended by itself; its error is above"
        finally:
            # The parent first: it would start another child.
            publisher.kill()
            publisher.wait()
            for child in children_of(HERE / "endless_publisher.py", models):
                os.kill(child, signal.SIGKILL)
            killer.thread.join()


def children_of(script: Path, models: Path) -> list[int]:
    """Processes of this very run of the publisher, which the models directory names."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if os.fsencode(script) in words and os.fsencode(models) in words:
                found.append(int(entry.name))
    return found


class Reader:
    """A process that reads until its stdin is closed; what it says goes to a file."""

    def __init__(self, command: list[object], output: Path) -> None:
        self.output = output
        with output.open("wb") as out:
            self.process = subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=out)

    def finish(self) -> list[str]:
        assert self.process.stdin is not None
        assert self.process.poll() is None, f"{self.output.name} ended by itself; its error is above"
        self.process.stdin.close()
        assert self.process.wait() == 0
        return self.output.read_text().splitlines()


def changes(models: Path) -> Counter[str]:
    """How often `current` was changed, by receipts."""
    receipts = Catalog(models).receipts.read()
    done = [receipt for receipt in receipts if receipt.get("outcome") not in ("failed", "rejected", "interrupted")]
    return Counter(str(r["event"]) for r in done if r["event"] in CHANGING or (r["event"] == "candidate"))


@pytest.mark.slow
@pytest.mark.needs_npm
def test_thousands_of_publishes_and_rollbacks_and_kills(tmp_path, tiny_dancer_folder):
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    models = tmp_path / "models"
    probe = json.dumps((PROBES[0] * np.array(TINY_DANCER_SCALE)).tolist())
    with ExitStack() as stack:
        public_key = generate(tmp_path / "key")
        killer = stack.enter_context(publishing(models, seed, tmp_path / "key"))
        while Catalog(models).current() is None:
            time.sleep(0.01)
        commands: dict[str, list[object]] = {
            "router-1": [sys.executable, "-W", "error", HERE / "route_reader.py", models, "0.002"],
            "router-2": [sys.executable, "-W", "error", HERE / "route_reader.py", models, "0.02", public_key],
            "files": [sys.executable, "-W", "error", HERE / "file_reader.py", models],
            "node": ["node", HERE / "soak_reader.cjs", tiny_dancer_folder, models, probe],
        }
        readers = {name: Reader(command, tmp_path / name) for name, command in commands.items()}
        for reader in readers.values():
            stack.callback(reader.process.kill)
        while changes(models).total() < N_CHANGES or killer.kills["itself"] < N_CALLS:
            assert killer.publisher.poll() is None, "the publisher ended by itself; its error is above"
            time.sleep(1.0)  # counting reads all receipts: not too often
        said = {name: reader.finish() for name, reader in readers.items()}
    sys.stdout.write(f"{changes(models)}; children killed: {killer.kills}\n")
    assert killer.kills["itself"] >= N_CALLS
    check_routers([said["router-1"], said["router-2"]])
    check_files(json.loads(said["files"][-1]))
    check_node(json.loads(said["node"][-1]), newest(models))
    check_registry(models)


def newest(models: Path) -> int:
    return number(Catalog(models).names()[-1])


def check_routers(routers: list[list[str]]) -> None:
    for lines in routers:
        *answers, counts = map(json.loads, lines)
        sys.stdout.write(f"python router: {counts}\n")
        for answer in answers:
            assert np.abs(np.array(answer["scores"]) - right_answers(answer["version"])).max() <= 1e-9, answer
        assert (counts["without"], counts["differing"], counts["failures"]) == (0, 0, {})
        assert counts["swaps"] >= 100
        assert counts["grown_bytes"] <= GROWTH_LIMIT_BYTES


def check_files(counts: dict[str, object]) -> None:
    sys.stdout.write(f"plain reader: {counts}\n")
    assert (counts["missing"], counts["torn"]) == (0, [])
    assert counts["versions"] >= 100


def check_node(found: dict[str, object], n_versions: int) -> None:
    scores, unsure = found["scores"], np.array(found["unsure"])
    told = {name: value for name, value in found.items() if name not in ("scores", "unsure")}
    sys.stdout.write(f"node: {told}, {len(scores)} versions, {len(unsure)} answers during a change\n")
    assert (found["missing"], found["failed"]) == (0, [])
    assert len(scores) >= 100
    for version, answers in scores.items():
        assert np.abs(np.array(answers) - right_answers(version)[0]).max() <= 1e-5, (version, answers)
    # While it moved, another version's answer is right as well, but no other answer is.
    known = np.array([right_answers(f"v{n}")[0] for n in range(1, n_versions + 1)])
    for answer in unsure:
        assert np.abs(known - answer).min() <= 1e-5


def check_registry(models: Path) -> None:
    with Registry(models, keep=4) as registry:
        registry.acquire()
        for name in registry.names():
            registry.verify(name)
        recorded = [r["version"] for r in registry.receipts.read() if r["event"] == "candidate" and r["version"]]
        # Every version there ever was has exactly one receipt, whenever its publisher was killed.
        assert recorded == [f"v{n}" for n in range(1, newest(models) + 1)]
        assert not list((models / ".staging").iterdir())
        assert not list(models.glob(".new-*"))
