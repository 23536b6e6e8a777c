"""examples/node-router as a user runs it: the released Tiny Dancer over HTTP, following `current`."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_candidate import TINY_DANCER_SCALE, make_candidate
from npm_folder import TINY_DANCER, npm_folder
from tiny_dancer_features import features

from streamtrain.model.formats import F32_FILE
from streamtrain.model.seal import MANIFEST_FILE, digest, seal, unseal
from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.router.load import load

pytestmark = pytest.mark.needs_npm

EXAMPLE = Path(__file__).parents[2] / "examples" / "node-router"
REQUEST = {
    "queryEmbedding": [1, 0],
    "candidates": [{"id": "a", "embedding": [1, 0], "createdAt": 4e9, "accessCount": 10000, "successRate": 1}],
}
RAW = [1.0, 1.0, 1.0, 1.0, 0.0]
PATIENCE_S = 30.0


class Server:
    """The example in a folder of its own, with the released package beside it."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.errors = (folder / "errors.txt").open("w+")
        self.process = subprocess.Popen(
            ["node", "server.js", models, "0"], cwd=folder, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        said = self.process.stdout.readline()
        assert said.startswith("listening on "), self.log()
        self.address = said.removeprefix("listening on ").strip()

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(
                urllib.request.Request(self.address + path, body), timeout=PATIENCE_S
            ) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def route(self, request: Any = REQUEST) -> tuple[int, Any]:
        return self.ask("/route", json.dumps(request).encode())

    def until(self, **expected: Any) -> dict[str, Any]:
        """Wait until /health says so."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            health = self.ask("/health")[1]
            if all(health[key] == value for key, value in expected.items()):
                return health
            assert time.monotonic() < deadline, f"{health}; expected {expected}: {self.log()}"
            time.sleep(0.01)

    def log(self) -> str:
        self.errors.seek(0)
        return self.errors.read()

    def stop(self) -> int:
        self.process.terminate()
        code = self.process.wait(PATIENCE_S)
        self.process.stdout.close()
        self.errors.close()
        return code


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def folder(tmp_path, unavailable):
    """The example as a user has it after `npm install`."""
    modules = npm_folder(unavailable, TINY_DANCER) / "node_modules"
    copied = tmp_path / "node-router"
    shutil.copytree(EXAMPLE, copied, ignore=shutil.ignore_patterns("node_modules"))
    (copied / "node_modules").symlink_to(modules)
    return copied


@pytest.fixture
def serve(folder, models):
    """Start the example; it is stopped at the end, and must end well."""
    started: list[Server] = []

    def start() -> Server:
        started.append(Server(folder, models))
        return started[-1]

    yield start
    assert [server.stop() for server in started] == [0] * len(started)


@pytest.fixture
def registry(models):
    with Registry(models) as opened:
        yield opened


def publish(registry: Registry, seed: int) -> str:
    files = build(make_candidate(seed, input_scale=TINY_DANCER_SCALE))
    return registry.publish(registry.stage(files))


def test_it_needs_the_released_package_and_nothing_else():
    package = json.loads((EXAMPLE / "package.json").read_text())
    name, version = TINY_DANCER.rsplit("@", 1)
    assert package["dependencies"] == {name: version}
    assert not package.keys() & {"devDependencies", "peerDependencies", "optionalDependencies", "bundledDependencies"}


def test_it_follows_current_and_names_the_version_that_answered(serve, registry, models):
    """Publishes and rollbacks while requests come in: each answer is that of the version it names."""
    versions = [publish(registry, seed) for seed in range(4)]
    expected = {version: load(models / "versions" / version).score(RAW) for version in versions}
    assert len({round(score, 3) for score in expected.values()}) == len(versions)
    server = serve()
    seen = set()
    for version in [*versions, *reversed(versions), *versions]:
        registry.promote(version)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            status, answer = server.route()
            assert status == 200
            (decision,) = answer["decisions"]
            assert abs(decision["confidence"] - expected[answer["version"]]) <= 1e-5
            seen.add(answer["version"])
            if answer["version"] == version:
                break
            assert time.monotonic() < deadline, server.log()
    assert seen == set(versions)


def test_router_route_is_our_scoring_of_the_same_features(serve, registry, models):
    """1,000 random candidates, their features computed from the formulas that were measured; within 1e-5."""
    publish(registry, 5)
    model, server = load(models), serve()
    rng = np.random.default_rng(0)
    worst = 0.0
    for _ in range(20):
        metadata = {key: int(rng.integers(3)) for key in "abcd"[: rng.integers(5)]}
        candidates = [
            {
                "id": str(i),
                "embedding": rng.normal(size=8).tolist(),
                "createdAt": int(time.time() - rng.exponential(1500)) if rng.random() < 0.9 else 4_000_000_000,
                "accessCount": int(rng.integers(0, 20_000)),
                "successRate": float(rng.random()),
                "metadata": json.dumps({key: int(rng.integers(3)) for key in "abcd"}),
            }
            for i in range(50)
        ]
        query = rng.normal(size=8).tolist()
        asked_s = int(time.time())
        status, answer = server.route({"queryEmbedding": query, "candidates": candidates, "metadata": metadata})
        answered_s = int(time.time())
        assert status == 200, answer
        assert len(answer["decisions"]) == 50
        for decision in answer["decisions"]:
            candidate = candidates[int(decision["candidateId"])]
            # It counts age in whole seconds, and the clock goes on between us.
            ours = [
                model.score(features(query, candidate, metadata, now_s)) for now_s in range(asked_s, answered_s + 1)
            ]
            worst = max(worst, min(abs(decision["confidence"] - score) for score in ours))
    assert worst <= 1e-5


def test_a_version_that_does_not_verify_is_refused(serve, registry, models):
    """A byte of the tensor's type changed: the file that ends Tiny Dancer's process. The old version goes on."""
    good, bad = publish(registry, 1), publish(registry, 2)
    registry.promote(good)
    server = serve()
    server.until(version=good, failure=None)
    file = models / "versions" / bad / F32_FILE
    file.write_bytes(file.read_bytes().replace(b'"F32"', b'"F16"', 1))
    point(models, bad)
    health = server.until(version=good)
    deadline = time.monotonic() + PATIENCE_S
    while (health := server.ask("/health")[1])["failure"] is None:
        assert time.monotonic() < deadline
    assert "is not what the manifest says" in health["failure"]
    assert server.route()[1]["version"] == good
    newer = publish(registry, 3)
    server.until(version=newer, failure=None)


def test_a_version_that_tiny_dancer_refuses_leaves_the_old_one(serve, registry, models):
    """Sealed and whole, but of another shape than it says: reloadModel() throws, and the old model keeps answering."""
    good = publish(registry, 1)
    server = serve()
    server.until(version=good)
    before = server.route()[1]["decisions"][0]["confidence"]
    bad = publish(registry, 2)
    server.until(version=bad)
    registry.promote(good)
    server.until(version=good)
    folder = models / "versions" / bad
    data = (folder / F32_FILE).read_bytes().replace(b"w_reset", b"w_teser")
    (folder / F32_FILE).write_bytes(data)
    manifest = unseal((folder / MANIFEST_FILE).read_bytes())
    manifest.pop("manifest_sha256")
    manifest["files"][F32_FILE] = digest(data)
    (folder / MANIFEST_FILE).write_bytes(seal(manifest))
    point(models, bad)
    deadline = time.monotonic() + PATIENCE_S
    while (health := server.ask("/health")[1])["failure"] is None:
        assert time.monotonic() < deadline
    assert "Tiny Dancer refuses it" in health["failure"]
    assert health["version"] == good
    answer = server.route()[1]
    assert answer["version"] == good
    assert answer["decisions"][0]["confidence"] == before
    newer = publish(registry, 3)
    server.until(version=newer, failure=None)


def test_it_waits_for_the_first_version(serve, models):
    """Without a folder to watch there are no events: the poll finds it."""
    server = serve()
    assert server.ask("/health")[0] == 503
    status, answer = server.route()
    assert status == 503
    assert "no version is published" in answer["error"]
    with Registry(models) as registry:
        version = publish(registry, 1)
    server.until(version=version)
    assert server.route()[0] == 200


FOLLOW = """
import { Follower } from "./follower.js";
const follower = new Follower(process.argv[1], { pollMs: 2 ** 31 - 1, log: (line) => console.log(line) });
await follower.start();
process.stdin.on("end", () => follower.close()).resume();
"""


def test_the_event_of_a_moved_link_is_enough(folder, registry, models):
    """With a poll every 24 days."""
    versions = [publish(registry, 1)]
    command = ["node", "--input-type=module", "--eval", FOLLOW, models]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as follower:
        patience = threading.Timer(PATIENCE_S, follower.kill)  # then the next line read is an empty one
        patience.start()
        assert follower.stdout.readline() == f"serving {versions[0]}\n"
        for seed in (2, 3, 4):
            versions.append(publish(registry, seed))
            assert follower.stdout.readline() == f"serving {versions[-1]}\n"
        assert registry.rollback() == versions[-2]
        assert follower.stdout.readline() == f"serving {versions[-2]}\n"
        follower.stdin.close()
        assert follower.wait(PATIENCE_S) == 0
        patience.cancel()


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "not JSON"),
        (b"null", 400, "candidates"),
        (b'{"queryEmbedding": [1], "candidates": []}', 400, "at least one"),
        (b'{"queryEmbedding": ["1"], "candidates": [{"id": "a", "embedding": [1]}]}', 400, "queryEmbedding"),
        (b'{"queryEmbedding": [1, 0], "candidates": [{"id": "a", "embedding": [1]}]}', 422, "dimension"),
        (b'{"queryEmbedding": [1, 0], "candidates": [{"embedding": [1, 0]}]}', 422, "id"),
        (b'{"queryEmbedding": [1, 0], "candidates": [null]}', 400, "candidates[0]"),
        (b" " * 5_000_000, 413, "longer than"),
    ],
)
def test_a_bad_request_is_an_answer(serve, registry, body, status, said):
    publish(registry, 1)
    server = serve()
    found, answer = server.ask("/route", body)
    assert found == status
    assert said in answer["error"]
    assert server.route()[0] == 200


def point(models: Path, version: str) -> None:
    """Move `current` as a publisher does, without its checks."""
    (models / "next").symlink_to(f"versions/{version}")
    (models / "next").rename(models / "current")
