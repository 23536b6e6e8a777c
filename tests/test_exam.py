"""What the gate asks beside the labels of the holdout, through the commands that an operator types."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_logs import FEATURES, lines, rows, write_config

from streamtrain.answers import to_powerful
from streamtrain.config import load
from streamtrain.cycle import Cycle
from streamtrain.exam import HOLDOUT_USES
from streamtrain.judge.reuse import HoldoutUses


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streamtrain", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def receipts(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "models" / "receipts.jsonl").read_text().splitlines()]


def rule(receipt: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in receipt["rules"] if one["name"] == name)


def golden_lines(wrong: bool = False) -> bytes:
    """The clearest cases there are, or the same with one label turned round."""
    sure = dict(zip(FEATURES, (1.0, 0.5, 0.5, 1.0, 0.0), strict=True)) | {"lightweight_successful": True}
    hard = dict(zip(FEATURES, (0.0, 0.5, 0.5, 0.0, 1.0), strict=True)) | {"lightweight_successful": wrong}
    return lines([sure, hard])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_config(tmp_path, f"gate: {{golden: {tmp_path}/golden.jsonl}}\n")
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(2000)))
    (tmp_path / "golden.jsonl").write_bytes(golden_lines())
    return tmp_path


def learn(folder: Path) -> Any:
    with Cycle(load(folder / "streamtrain.yaml")) as cycle:
        cycle.ingest()
        return cycle.learn()


def test_golden_cases_decide_from_the_first_version_on(folder: Path) -> None:
    (folder / "golden.jsonl").write_bytes(golden_lines(wrong=True))
    decision = learn(folder)
    assert decision.outcome == "rejected"
    assert "1 of 2 golden cases come out wrong (line 2: " in decision.reason
    assert not rule(receipts(folder)[-1], "golden")["passed"]
    assert not (folder / "models" / "current").exists()
    (folder / "golden.jsonl").write_bytes(golden_lines())
    decision = learn(folder)
    assert decision.outcome == "published"
    assert rule(receipts(folder)[-1], "golden")["text"] == "all 2 golden cases come out right"


def test_golden_cases_that_cannot_be_read_let_nothing_through(folder: Path) -> None:
    config = load(folder / "streamtrain.yaml")
    (folder / "golden.jsonl").write_bytes(b"{}\n")
    with Cycle(config) as cycle:
        cycle.ingest()
        decision = cycle.learn()
        assert not cycle.due()
    assert decision.outcome == "rejected"
    assert f"gate.golden: {folder}/golden.jsonl: line 1: " in decision.reason
    assert receipts(folder)[-1]["rules"][0]["name"] == "golden"
    assert not (folder / "models" / "current").exists()
    (folder / "golden.jsonl").unlink()
    with Cycle(config) as cycle:
        assert "No such file" in cycle.learn().reason


def test_check_reads_the_golden_cases(folder: Path) -> None:
    assert command("check", "--config", folder / "streamtrain.yaml").returncode == 0
    (folder / "golden.jsonl").write_bytes(golden_lines() + b'{"similarity_score": 1}\n')
    done = command("check", "--config", folder / "streamtrain.yaml")
    assert done.returncode == 2
    assert "gate.golden" in done.stderr
    assert "line 3" in done.stderr
    told = json.loads(command("check", "--config", folder / "streamtrain.yaml", "--json").stdout)
    assert [mistake["key"] for mistake in told["mistakes"]] == ["gate.golden"]
    (folder / "golden.jsonl").unlink()
    done = command("check", "--config", folder / "streamtrain.yaml")
    assert (done.returncode, "there is no such file" in done.stderr) == (2, True)


def test_uses_of_the_holdout_are_counted_across_restarts(folder: Path) -> None:
    for k in (1.0, 2.0, 3.0):
        learn(folder)
        assert rule(receipts(folder)[-1], "holdout_uses")["figure"] == pytest.approx(k)
    with (folder / "logs" / "a.jsonl").open("ab") as log:
        log.write(lines(rows(2000, seed=1, first_id=2000)))
    learn(folder)
    # Half of today's samples were in the three uses before.
    found = rule(receipts(folder)[-1], "holdout_uses")
    assert found["figure"] == pytest.approx(2.5, abs=0.15)
    assert "confidence instead of 95 %" in found["text"]


def test_a_cycle_that_comes_to_no_verdict_is_no_use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before it is remembered, the next cycle asks the same samples about the same candidate: one use."""
    with Cycle(load(folder / "streamtrain.yaml")) as cycle:
        cycle.ingest()
        monkeypatch.setattr(cycle.registry, "publish", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            cycle.learn()
        assert cycle.store.get(HOLDOUT_USES) is None
        monkeypatch.undo()
        cycle.learn()
        uses = HoldoutUses.from_json(cycle.store.get(HOLDOUT_USES))
        assert set(uses.counts) == {1.0}
        assert len(uses.keys) == cycle.intake.splits().sizes["holdout"]


def test_the_share_that_goes_to_the_powerful_model_is_in_the_receipt(folder: Path) -> None:
    write_config(folder, "gate: {max_powerful_rise: 0.0}\n")
    assert learn(folder).outcome == "published"
    assert "max_powerful_rise" not in {one["name"] for one in receipts(folder)[-1]["rules"]}
    learn(folder)
    found = rule(receipts(folder)[-1], "max_powerful_rise")
    assert found["bound"] == 0.0
    assert -1 <= found["figure"] <= 1
    assert "each at its own threshold" in found["text"]


def test_requests_are_sent_as_a_router_sends_them() -> None:
    p = np.array([0.1, 0.86, 0.924, 0.9251, 1.0, np.nan])
    assert to_powerful(p).tolist() == [True, True, True, False, False, True]
    assert to_powerful(p, threshold=0.85).tolist() == [True, False, False, False, False, True]
    assert to_powerful(p, threshold=0.05, max_uncertainty=0.3).tolist() == [False, False, False, False, False, True]
