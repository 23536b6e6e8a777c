"""The demo's traffic: its world can be trusted, and its logs are those of a router in production."""

from __future__ import annotations

import gzip
import importlib
import json
import math
import queue
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SHARED = Path(__file__).parents[3] / "shared" / "data"
NOW = 1_763_838_000.0


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples import one another as scripts do: from their own folder."""
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.fixture
def traffic() -> ModuleType:
    return importlib.import_module("traffic")


@pytest.fixture
def world() -> ModuleType:
    return importlib.import_module("world")


@pytest.fixture
def shape() -> ModuleType:
    return importlib.import_module("shape")


def lines_below(directory: Path) -> list[bytes]:
    """All lines of all files, whatever they are packed in."""
    out = []
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        out += (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines(keepends=True)
    return out


def good_rows(lines: list[bytes], world: ModuleType) -> list[dict[str, object]]:
    """Those that the default schema accepts."""
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
            values = [row[name] for name in world.FEATURES]
        except (ValueError, KeyError):
            continue
        right_types = all(type(value) in (int, float) and math.isfinite(value) for value in values)
        if right_types and 0 <= row["lightweight_successful"] <= 1:
            rows.append(row)
    return rows


def test_the_world_is_the_same_however_it_is_asked(world: ModuleType) -> None:
    one, other = world.World(3), world.World(3)
    whole, parts = [], []
    for n in (1000, 500):
        whole.append(one.draw(n))
        for size in (n - n // 3, n // 3):
            parts.append(other.draw(size))
        one.swap()
        other.swap()
    for name in ("features", "truth"):
        assert np.array_equal(
            np.concatenate([getattr(r, name) for r in whole]), np.concatenate([getattr(r, name) for r in parts])
        )
    assert not np.array_equal(whole[0].features, world.World(4).draw(1000).features)


def test_the_swap_is_a_change_that_a_router_must_learn_anew(world: ModuleType) -> None:
    here = world.World(5)
    before = here.draw(20_000)
    here.swap()
    after = here.draw(20_000)
    for requests, law in ((before, world.strong), (after, world.weak)):
        best = (law(requests.features) > 0.5) == requests.truth
        assert 0.90 < best.mean() < 0.93
        assert max(requests.truth.mean(), 1 - requests.truth.mean()) < 0.65
    assert ((world.strong(after.features) > 0.5) == after.truth).mean() < 0.55
    assert after.truth.mean() < before.truth.mean() - 0.1


def test_every_request_is_logged_once_in_rotated_and_shipped_files(
    traffic: ModuleType, world: ModuleType, tmp_path: Path
) -> None:
    flow = traffic.Traffic(traffic.Simulated(1), tmp_path, seed=1, rotate_bytes=80_000)
    truth: list[bool] = []
    for step in range(60):
        truth += flow.step(50, NOW + step)[1]
        if step % 10 == 9:
            flow.ship()
    counts = flow.close()

    names = {path.name for path in tmp_path.iterdir()}
    assert counts["rotations"] >= 5
    assert {"router.jsonl", "router.jsonl.1", "router.jsonl.5"} <= names
    assert {"edge-000001.jsonl.gz", "edge-000003.jsonl"} <= names
    assert not any(name.endswith(".part") for name in names)
    for rotated in tmp_path.glob("router.jsonl.*"):
        assert rotated.read_bytes().endswith(b"\n")
        assert rotated.stat().st_size < 80_000 + 300  # and the end of its last line

    lines = lines_below(tmp_path)
    assert counts["lines"] == 3000
    assert len(lines) == 3000 + counts["rubbish"]
    rows = good_rows(lines, world)
    assert len(rows) == 3000
    by_id = {str(row["id"]): row["lightweight_successful"] for row in rows}
    assert [by_id[f"req-{number:08d}"] for number in range(3000)] == truth


def test_a_write_ends_anywhere_in_a_line(traffic: ModuleType, tmp_path: Path) -> None:
    flow = traffic.Traffic(traffic.Simulated(1), tmp_path, seed=1)
    ends = Counter()
    for _ in range(30):
        flow.step(20, NOW)
        ends[(tmp_path / "router.jsonl").read_bytes().endswith(b"\n")] += 1
    flow.close()
    assert ends[False] > 20


def test_the_same_seed_writes_the_same_bytes(traffic: ModuleType, tmp_path: Path) -> None:
    for name in ("a", "b"):
        flow = traffic.Traffic(traffic.Simulated(2), tmp_path / name, seed=2)
        for step in range(20):
            flow.step(40, NOW + step)
        flow.close()
    assert lines_below(tmp_path / "a") == lines_below(tmp_path / "b")


def test_every_kind_of_rubbish_is_rubbish(traffic: ModuleType, world: ModuleType) -> None:
    (line,), _ = traffic.Simulated(1).draw(1, NOW)
    assert len(good_rows([line], world)) == 1
    spoilt = [traffic.spoil(line, kind) for kind in range(6)]
    assert len(set(spoilt)) == 6
    assert good_rows(spoilt, world) == []
    assert all(b"\n" not in rubbish for rubbish in spoilt)


def test_orders_on_standard_input_swap_and_stop(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "traffic.py"), str(tmp_path / "logs"), "--truth", "--history", "30"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        process.stdin.write(b"swap\n")
        process.stdin.flush()
        while not json.loads(process.stdout.readline())["swapped"]:
            pass
        process.stdin.close()  # whoever listened is gone
        *_, last = process.stdout
    assert not first["swapped"]
    assert len(first["features"]) == len(first["truth"]) > 0
    assert process.returncode == 0
    done = json.loads(last)["done"]
    assert len(lines_below(tmp_path / "logs")) == done["lines"] + done["rubbish"]


def test_a_replay_writes_the_lines_as_they_are(traffic: ModuleType, shape: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl.gz"
    lines = [
        b'{"ts": 1, "embedding": [0.5, %d], "scores": [1], "label": %d}' % (number, number % 2) for number in range(40)
    ]
    lines[7] = b"rubbish"
    log.write_bytes(gzip.compress(b"\n".join(lines)))
    found = shape.detect(log)
    flow = traffic.Traffic(traffic.Replayed(shape.record(log, found, 1000)), tmp_path / "logs", seed=1, rubbish=False)
    counts = traffic.run(flow, queue.Queue(), rate=1e6, history=0, limit=40, out=None)
    assert counts["lines"] == 40
    assert Counter(lines_below(tmp_path / "logs")) == Counter(line + b"\n" for line in lines)
    assert found.schema() == {
        "features": {"field": "embedding", "dim": 2},
        "label": "label",
        "timestamp": "ts",
    }


def test_named_columns_are_found_without_what_gives_the_answer_away(shape: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    row = {"request_id": "a", "time": "2026-01-01T00:00:00Z", "session": "s", "turn": 3, "a": 0.1, "b": 2, "kind": "x"}
    log.write_text("\n".join(json.dumps(row | {"success": good}) for good in (True, False)))
    found = shape.detect(log)
    assert found.schema() == {
        "features": ["a", "b"],
        "label": "success",
        "timestamp": "time",
        "id": "request_id",
        "session": "session",
    }
    assert shape.record(log, found, 10).truth.tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "none of its first lines is a JSON object"),
        ('{"ts": 1, "x": 2}', "found no label"),
        ('{"label": 1, "x": 2}', "found no time"),
        ('{"label": 1, "ts": 2, "x": "a"}', "found no numbers"),
    ],
)
def test_a_log_of_unknown_shape_is_refused_with_its_keys(
    shape: ModuleType, tmp_path: Path, text: str, said: str
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(text)
    with pytest.raises(shape.UnknownShapeError, match=said):
        shape.detect(log)


@pytest.mark.needs_data
def test_real_logs_have_a_shape(shape: ModuleType) -> None:
    log = SHARED / "routellm_mixtral.jsonl.gz"
    if not log.exists():
        pytest.skip(f"{log} is not there")
    assert shape.detect(log).schema() == {
        "features": {"field": "features", "dim": 48},
        "label": "lightweight_successful",
        "timestamp": "timestamp",
        "id": "id",
        "session": "session_id",
    }
