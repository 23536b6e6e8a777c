"""Refused candidates that are heard again on what came after them."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_candidate import make_candidate
from simulated_logs import lines, rows, write_config
from test_replay import assert_identical

import streamtrain.shelf as shelf_module
from streamtrain.config import load
from streamtrain.cycle import Cycle
from streamtrain.hearing import HEARING_USES
from streamtrain.judge.reuse import HoldoutUses
from streamtrain.ops.status import collect
from streamtrain.ops.tally import ReceiptCounter
from streamtrain.publish.artifact import build
from streamtrain.publish.errors import PublishError
from streamtrain.publish.receipts import Receipts
from streamtrain.publish.registry import Registry
from streamtrain.shelf import ABOUT_FILE, MOST, SESSIONS_FILE, Kept, Shelf
from streamtrain.types import Decision

QUICK = "training: {preset: medium, epochs: 4}\n"
# Much certainty is asked of a small holdout: on its 40 to 100 samples it is out of reach, on 1,500 it is not.
STRICT = (
    "gate: {min_accuracy: 0.5, min_auc: 0.5, confidence: 0.9999, min_holdout: 30}\ndataset: {holdout: 0.04}\n" + QUICK
)
HARD = 0.4
NOW = 1_800_000_000.0


class Service:
    """A configuration, its logs, and a pass over them after each batch, by a process of its own."""

    def __init__(self, folder: Path, text: str = STRICT) -> None:
        self.folder, self.n, self.time = folder, 0, NOW
        self.configure(text)

    def configure(self, text: str) -> None:
        self.config = load(write_config(self.folder, text))

    def write(self, n: int, noise: float = HARD) -> None:
        file = self.folder / "logs" / f"{self.n:06d}.jsonl"
        file.write_bytes(lines(rows(n, seed=self.n, first_id=self.n, noise=noise)))
        self.n += n

    def learn(self) -> Decision:
        self.time += 100
        with Cycle(self.config, clock=lambda: self.time) as cycle:
            cycle.ingest()
            return cycle.learn(workers=1)

    def passes(self, *sizes: int) -> list[Decision]:
        decisions = []
        for n in sizes:
            self.write(n)
            decisions.append(self.learn())
        return decisions

    @property
    def kept(self) -> list[Path]:
        return sorted((self.folder / "state" / "hearings").glob("0*"))

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.folder / "state" / "hearings")

    def about(self, folder: Path) -> Kept:
        kept = self.shelf.read(folder)
        assert kept is not None
        return kept

    @property
    def heard(self) -> list[dict[str, Any]]:
        return [one for one in self.receipts if one["reason"].startswith("Heard again on ")]

    @property
    def receipts(self) -> list[dict[str, Any]]:
        return Receipts(self.folder / "models" / "receipts.jsonl").read()


def failed(decision: Decision) -> set[str]:
    return {rule.name for rule in decision.rules if not rule.passed}


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


@pytest.fixture
def refused(service: Service) -> Service:
    """A service whose first candidate was refused, for want of evidence."""
    (first,) = service.passes(1000)
    assert failed(first) == {"beat_baseline"}
    assert [one.name for one in service.kept] == ["000000001000"]
    return service


def test_a_candidate_is_published_on_what_came_after_it(refused: Service) -> None:
    (decision,) = refused.passes(1500)
    assert decision.outcome == "published", decision.reason
    assert decision.reason.startswith(
        "Heard again on 1,500 samples that came after its training at 2027-01-15T08:01:40"
    )
    first, second, published = refused.receipts
    assert (first["outcome"], second["outcome"], published["outcome"]) == ("rejected", "rejected", "published")
    assert published["event"] == "candidate"
    assert published["window"] == first["window"]
    assert published["challengers"] == first["challengers"]
    assert published["heard_since"] == 1_700_001_000.0
    uses = next(rule for rule in published["rules"] if rule["name"] == "holdout_uses")
    assert uses["figure"] == 1.0
    manifest = json.loads((refused.folder / "models" / "current" / "manifest.json").read_bytes())
    assert manifest["lineage"]["n_ingested"] == 1000
    assert manifest["gate"]["heard_since"] == published["heard_since"]
    assert_identical(refused.config, decision.version)
    # The one that was refused just now was judged against another version than the one that serves.
    refused.passes(1000)
    assert all(refused.about(one).champion == decision.version for one in refused.kept)


def test_it_is_heard_on_as_many_samples_as_refused_it(refused: Service) -> None:
    (kept,) = refused.kept
    n_judged = refused.receipts[0]["window"]["holdout"]
    assert refused.about(kept).n_judged == n_judged > 30
    refused.passes(n_judged - 1)
    assert [one["event"] for one in refused.receipts] == ["candidate", "candidate"]
    assert len(refused.kept) == 2
    refused.passes(1)
    assert [one["event"] for one in refused.receipts] == ["candidate", "candidate", "candidate", "hearing"]


def test_what_fails_again_leaves_a_receipt_that_is_no_decision_of_a_training(refused: Service) -> None:
    (decision,) = refused.passes(60)
    assert decision.outcome == "rejected"
    training, hearing = refused.receipts[1:]
    assert (training["event"], hearing["event"]) == ("candidate", "hearing")
    assert hearing["reason"].startswith("Heard again on 60 samples that came after its training at ")
    assert {rule["name"] for rule in hearing["rules"] if not rule["passed"]} == {"beat_baseline"}
    assert collect(refused.config)["last_decision"]["reason"] == training["reason"]
    assert ReceiptCounter(refused.folder / "models" / "receipts.jsonl").count().outcomes == {"rejected": 2}
    with Cycle(refused.config) as cycle:
        used = HoldoutUses.from_json(cycle.store.get(HEARING_USES))
    assert used.counts.tolist() == [1.0] * 60
    refused.passes(50)
    first, second = (one for one in refused.receipts[3:] if one["event"] == "hearing")
    uses = [next(rule["figure"] for rule in one["rules"] if rule["name"] == "holdout_uses") for one in (first, second)]
    # The later candidate is heard first, on what nobody has used; the earlier one on that and on 60 used before.
    assert uses == [1.0, pytest.approx(1 + (60 + 50) / 110)]


def test_what_is_only_noise_is_never_published(service: Service) -> None:
    for _ in range(6):
        service.write(600, noise=50.0)
        assert service.learn().outcome != "published"
    assert len(service.kept) <= MOST
    assert not (service.folder / "models" / "current").exists()


def test_only_so_many_are_kept(refused: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf_module, "MOST", 2)
    refused.passes(60, 60)
    assert [int(one.name) for one in refused.kept] == [1060, 1120]


def test_it_can_be_switched_off(refused: Service) -> None:
    refused.configure(STRICT.replace("gate: {", "gate: {hear_again: false, "))
    (decision,) = refused.passes(1500)
    assert decision.outcome == "rejected"
    assert len(refused.receipts) == 2
    assert refused.kept == []


def test_what_an_operator_has_set_is_not_asked_twice(tmp_path: Path) -> None:
    service = Service(tmp_path, STRICT.replace("min_accuracy: 0.5", "min_accuracy: 0.99"))
    (decision,) = service.passes(1000)
    assert "min_accuracy" in failed(decision)
    assert service.kept == []


def test_nothing_is_heard_after_another_version_became_current(refused: Service) -> None:
    with Registry(refused.folder / "models", clock=lambda: NOW) as registry:
        registry.publish(registry.stage(build(make_candidate(1))))
    refused.write(1500)
    refused.learn()
    assert refused.heard == []
    assert "000000001000" not in {one.name for one in refused.kept}


def test_weights_that_were_rolled_back_are_not_heard(refused: Service) -> None:
    (kept,) = refused.kept
    files = {one.name: one.read_bytes() for one in kept.iterdir() if one.name not in (ABOUT_FILE, SESSIONS_FILE)}
    with Registry(refused.folder / "models", clock=lambda: NOW) as registry:
        good = registry.publish(registry.stage(build(make_candidate(1))))
        bad = registry.publish(registry.stage(files))
        assert registry.withdraw(good, f"{bad} was worse") == good == registry.current()
    refused.shelf.put(replace(refused.about(kept), champion=good), files)
    refused.write(1500)
    refused.learn()
    assert refused.heard == []
    assert not kept.exists()


@pytest.mark.parametrize(
    "file", [ABOUT_FILE, SESSIONS_FILE, "manifest.json", "fastgrnn_int8.safetensors", "window.u64"]
)
@pytest.mark.parametrize("spoilt", [b"[]", b"{}", b"\x00\x01", None])
def test_a_damaged_one_is_removed_and_told(
    refused: Service, caplog: pytest.LogCaptureFixture, file: str, spoilt: bytes | None
) -> None:
    (kept,) = refused.kept
    if spoilt is None:
        (kept / file).unlink()
    else:
        (kept / file).write_bytes(spoilt)
    with caplog.at_level(logging.WARNING):
        (decision,) = refused.passes(1500)
    assert decision.outcome == "rejected"
    assert refused.heard == []
    assert any(str(kept) in message for message in caplog.messages)
    assert not kept.exists()


def test_what_can_not_be_kept_is_told_and_does_no_harm(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    (service.folder / "state").mkdir()
    (service.folder / "state" / "hearings").write_bytes(b"in the way")
    with caplog.at_level(logging.WARNING, "streamtrain.shelf"):
        (decision,) = service.passes(1000)
    assert decision.outcome == "rejected"
    assert "could not be kept to be heard again" in caplog.text
    assert [one.outcome for one in service.passes(1500)] == ["rejected"]


class KilledError(BaseException):
    """What nothing catches: the files are then as a kill leaves them."""


def test_killed_at_any_file_it_is_kept_whole_or_not_at_all(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.write(1000)
    write, left = shelf_module.write_file, 0

    def dying(file: Path, data: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KilledError
        write(file, data)

    monkeypatch.setattr(shelf_module, "write_file", dying)
    for at in range(14):
        left = at
        try:
            service.learn()
        except KilledError:
            assert service.kept == []
            continue
        break
    else:
        pytest.fail("it is never kept")
    assert at > 5
    monkeypatch.undo()
    assert [one.name for one in service.kept] == ["000000001000"]
    assert [one.outcome for one in service.passes(1500)] == ["published"]


def test_a_number_that_was_changed_is_noticed(refused: Service, caplog: pytest.LogCaptureFixture) -> None:
    (kept,) = refused.kept
    written = (kept / ABOUT_FILE).read_bytes()
    (kept / ABOUT_FILE).write_bytes(written.replace(b'"n": 1000', b'"n": 1001'))
    with caplog.at_level(logging.WARNING, "streamtrain.shelf"):
        refused.passes(1500)
    assert "it is not what was written" in caplog.text
    assert refused.heard == []


def test_what_can_not_be_read_just_now_is_left_for_later(refused: Service, caplog: pytest.LogCaptureFixture) -> None:
    (kept,) = refused.kept
    (kept / "window.u64").rename(kept / "aside")
    (kept / "window.u64").mkdir()
    with caplog.at_level(logging.WARNING, "streamtrain.hearing"):
        (decision,) = refused.passes(1500)
    assert decision.outcome == "rejected"
    assert "a refused candidate can't be heard again" in caplog.text
    (kept / "window.u64").rmdir()
    (kept / "aside").rename(kept / "window.u64")
    assert [one.outcome for one in refused.passes(100)] == ["published"]


def test_files_of_others_are_let_be(refused: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = refused.folder / "state" / "hearings"
    (folder / "000000000001").write_text("mine")
    (folder / ".gone").mkdir()
    (folder / ".gone" / "rest").write_text("of a removal that was killed")
    monkeypatch.setattr(shelf_module, "MOST", 1)
    refused.passes(60)
    assert [one.name for one in refused.kept if one.is_dir()] == ["000000001060"]
    assert (folder / "000000000001").read_text() == "mine"
    assert not (folder / ".gone").exists()


def test_too_few_of_a_label_are_waited_for(refused: Service) -> None:
    easy = [one | {"lightweight_successful": i % 40 == 0} for i, one in enumerate(rows(200, seed=3, first_id=1000))]
    (refused.folder / "logs" / "001000.jsonl").write_bytes(lines(easy))
    refused.n += 200
    assert refused.learn().outcome in ("rejected", "skipped")
    assert refused.heard == []
    assert "000000001000" in {one.name for one in refused.kept}
    with Cycle(refused.config) as cycle:
        assert cycle.store.get(HEARING_USES) is None


def test_a_publish_that_fails_spends_no_use_and_no_training(refused: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> str:
        raise PublishError("publish: no space left on device")

    refused.write(1500)
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "publish", failing)
        with pytest.raises(PublishError):
            refused.learn()
    with Cycle(refused.config, clock=lambda: refused.time) as cycle:
        assert cycle.store.get(HEARING_USES) is None
        assert not cycle.due()
    assert list((refused.folder / "models" / ".staging").iterdir()) == []
    assert [one.outcome for one in refused.passes(60)] == ["published"]


@pytest.mark.parametrize(
    "text",
    [
        "schema: {weight: w}\n",
        "dataset: {holdout: 0.05}\n",
        "dataset: {holdout: 0.04, seed: 1}\n",
        "dataset: {holdout: 0.04}\nrouter: {max_error: 0.3}\n",
    ],
)
def test_once_samples_are_others_or_cut_otherwise_it_is_dropped(refused: Service, text: str) -> None:
    (kept,) = refused.kept
    refused.configure(
        STRICT.replace("dataset: {holdout: 0.04}\n", "" if "dataset" in text else "dataset: {holdout: 0.04}\n") + text
    )
    refused.write(1500)
    refused.learn()
    assert [one for one in refused.heard if "08:01:40" in one["reason"]] == []
    assert not kept.exists()


def test_once_the_database_was_lost_it_is_dropped(refused: Service) -> None:
    (kept,) = refused.kept
    for file in (refused.folder / "state").glob("state.db*"):
        file.unlink()
    assert failed(refused.passes(100)[0]) == {"beat_baseline"}
    assert refused.heard == []
    assert not kept.exists()


def test_sessions_that_it_knows_do_not_judge_nor_what_keeps_a_promise(tmp_path: Path) -> None:
    schema = "schema: {session: session}\nrouter: {max_error: 0.2}\n"
    service = Service(tmp_path, STRICT + schema)
    early = [one | {"session": f"s{i % 750}"} for i, one in enumerate(rows(1500, noise=HARD))]
    late = [one | {"session": f"s{500 + i % 600}"} for i, one in enumerate(rows(1200, 1, first_id=1500, noise=HARD))]
    (tmp_path / "logs" / "000000.jsonl").write_bytes(lines(early))
    assert failed(service.learn()) == {"beat_baseline"}
    (kept,) = [service.about(one) for one in service.kept]
    assert len(kept.sessions) == 750
    (tmp_path / "logs" / "001500.jsonl").write_bytes(lines(late))
    service.learn()
    (heard,) = service.heard
    with Cycle(service.config) as cycle:
        promised = cycle.intake.splits().promise
        read, (places,) = cycle.intake.since([kept.end])
    assert promised is not None
    assert not np.isin(read.groups[places], promised.groups).any()
    assert read.timestamps.min() == 1_700_001_500.0
    assert (np.diff(read.timestamps[places]) > 0).all()
    new = places[~np.isin(read.groups[places], kept.sessions)]
    # Of the 350 sessions that nobody knew, those that keep no promise.
    assert 2 * 0.8 * 350 < len(new) < 2 * 350
    assert heard["reason"].startswith(f"Heard again on {len(new):,} samples")
