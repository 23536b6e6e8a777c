from __future__ import annotations

import json
import os
import pwd
import random
import stat
from pathlib import Path

import pytest
from make_candidate import make_candidate

from streamtrain.model.seal import VersionError
from streamtrain.publish.artifact import build, load_candidate
from streamtrain.publish.registry import LockedError, PublishError, Registry
from streamtrain.publish.retention import choose
from streamtrain.types import Decision, Rule

PUBLISHED = Decision(
    "published", None, "accuracy 0.91 ≥ 0.85", 0.91, 0.9, (Rule("min_accuracy", True, 0.91, 0.85, ""),)
)


class Clock:
    """A clock that stands still unless it is set."""

    def __init__(self) -> None:
        self.now_s = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def models(tmp_path):
    return tmp_path / "deep" / "models"


@pytest.fixture
def registry(models, clock):
    with Registry(models, keep=3, clock=clock) as opened:
        yield opened


def publish(registry: Registry, seed: int = 0, **arguments) -> str:
    return registry.publish(registry.stage(build(make_candidate(seed))), **arguments)


def events(registry: Registry) -> list[tuple[object, object, object]]:
    return [(r["event"], r.get("outcome"), r["version"]) for r in registry.receipts.read()]


def test_looking_creates_nothing(models):
    registry = Registry(models)
    assert registry.current() is None
    assert registry.versions() == []
    assert registry.pins() == frozenset()
    assert registry.receipts.read() == []
    with pytest.raises(PublishError, match="no current version"):
        registry.verify()
    for refused in (registry.rollback, lambda: registry.promote("v1"), lambda: registry.pin("v1")):
        with pytest.raises(PublishError, match="no version"):
            refused()
    assert not models.exists()


def test_the_layout_is_the_contracts(registry, models):
    version = publish(registry, decision=PUBLISHED, report={"accuracy": 0.91})
    assert version == "v1000000000"
    assert (models / "current").readlink() == Path("versions/v1000000000")
    assert sorted(entry.name for entry in models.iterdir() if not entry.name.startswith(".")) == [
        "current",
        "receipts.jsonl",
        "versions",
    ]
    assert list((models / ".staging").iterdir()) == []
    assert registry.current() == version
    registry.verify()
    metrics = json.loads((models / "current" / "metrics.json").read_bytes())
    assert metrics["holdout"] == {"accuracy": 0.91}
    (info,) = registry.versions()
    assert (info.version, info.current, info.pinned, info.damage) == (version, True, False, None)
    assert (info.test_accuracy, info.origin, info.previous) == (0.91, "scratch", None)
    assert info.timestamp == "2001-09-09T01:46:40.000Z"


def test_everybody_may_read_what_the_umask_lets_them(registry, models):
    before = os.umask(0o022)
    try:
        publish(registry)
    finally:
        os.umask(before)
    assert stat.S_IMODE((models / "current").stat().st_mode) == 0o755
    assert {stat.S_IMODE(file.stat().st_mode) for file in (models / "current").iterdir()} == {0o644}


def test_a_staged_candidate_is_not_a_version_until_published(registry, models):
    staged = registry.stage(build(make_candidate(0)))
    assert load_candidate(staged).version is None
    assert registry.versions() == []
    assert registry.current() is None
    version = registry.publish(staged)
    assert not staged.exists()
    assert registry.load().version == version


def test_names_follow_the_clock_and_never_go_back(registry, clock):
    assert [publish(registry) for _ in range(2)] == ["v1000000000", "v1000000001"]
    clock.now_s = 500.0
    assert publish(registry) == "v1000000002"
    clock.now_s = 2_000_000_000.9
    assert publish(registry) == "v2000000000"


def test_a_receipt_says_what_was_published_and_why(registry):
    version = publish(registry, decision=PUBLISHED, details={"window": {"train": 800}})
    (receipt,) = registry.receipts.read()
    assert receipt["event"] == "candidate"
    assert (receipt["outcome"], receipt["version"], receipt["previous"]) == ("published", version, None)
    assert receipt["reason"] == "accuracy 0.91 ≥ 0.85"
    assert receipt["holdout_accuracy"] == 0.91
    assert receipt["rules"][0]["name"] == "min_accuracy"
    assert receipt["window"] == {"train": 800}
    assert receipt["time"] == "2001-09-09T01:46:40.000Z"
    assert receipt["user"] == pwd.getpwuid(os.getuid()).pw_name


def test_a_refused_candidate_leaves_a_receipt_and_nothing_else(registry, models):
    version = publish(registry)
    staged = registry.stage(build(make_candidate(1)))
    decision = Decision("rejected", None, "accuracy 0.70 < 0.85", 0.7, advice="set the floor to 0.69")
    registry.refuse(decision, staged, {"window": {"train": 800}})
    assert not staged.exists()
    assert registry.current() == version
    receipt = registry.receipts.read()[-1]
    assert (receipt["outcome"], receipt["version"], receipt["previous"]) == ("rejected", None, version)
    assert receipt["advice"] == "set the floor to 0.69"
    assert receipt["window"] == {"train": 800}


def test_a_skipped_cycle_needs_no_models_directory(models):
    Registry(models).refuse(Decision("skipped", None, "too few samples"))
    assert [r["outcome"] for r in Registry(models).receipts.read()] == ["skipped"]


def test_rolling_back_goes_one_further_each_time(registry):
    first, second, third = (publish(registry, seed) for seed in range(3))
    assert registry.rollback() == second
    assert registry.current() == second
    assert registry.rollback() == first
    with pytest.raises(PublishError, match=f"no version before {first}"):
        registry.rollback()
    assert registry.current() == first
    assert registry.promote(third) == third
    assert registry.rollback(first) == first
    assert events(registry)[3:] == [
        ("rollback", None, second),
        ("rollback", None, first),
        ("promote", None, third),
        ("rollback", None, first),
    ]
    assert registry.receipts.read()[-1]["previous"] == third


def test_rolling_back_returns_to_what_served_before_not_to_what_was_refused_by_a_person(registry):
    publish(registry, 0)
    good = publish(registry, 1)
    publish(registry, 2)
    assert registry.rollback() == good
    publish(registry, 3)
    assert registry.rollback() == good


def test_rolling_back_past_what_retention_took_goes_to_the_newest_before(models, clock):
    with Registry(models, keep=2, clock=clock) as registry:
        first = publish(registry, 0)
        publish(registry, 1)
        third = publish(registry, 2)
        fourth = publish(registry, 3)
        assert registry.names() == [third, fourth]
        assert registry.rollback() == third
        with pytest.raises(PublishError, match="no version before"):
            registry.rollback()
        with pytest.raises(PublishError, match=f"no version '{first}'; there are: {third}, {fourth}"):
            registry.rollback(first)


@pytest.mark.parametrize("name", ["v1", "1000000000", "../versions/v1000000000", "", "v1000000000/", "current"])
def test_a_version_that_is_not_there_is_refused(registry, name):
    version = publish(registry)
    with pytest.raises(PublishError, match=f"there are: {version}"):
        registry.promote(name)
    assert registry.current() == version


@pytest.mark.parametrize("file", ["manifest.json", "metrics.json", "fastgrnn.safetensors", "training.safetensors"])
def test_a_damaged_version_is_refused_and_the_current_one_stays(registry, models, file):
    first, second = publish(registry, 0), publish(registry, 1)
    damaged = models / "versions" / first / file
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(VersionError, match=file):
        registry.rollback()
    assert registry.current() == second
    assert [r.get("outcome") for r in registry.receipts.read()] == ["published", "published", "failed"]
    refused = registry.receipts.read()[-1]
    assert (refused["event"], refused["version"], refused["previous"]) == ("rollback", first, second)
    assert file in refused["reason"]
    info = registry.versions()[0]
    assert (info.damage is not None) == (file == "manifest.json")


def test_one_can_roll_back_from_a_damaged_version(registry, models):
    first, second = publish(registry, 0), publish(registry, 1)
    (models / "versions" / second / "manifest.json").write_bytes(b"")
    assert registry.rollback() == first


def test_a_version_copied_under_another_name_is_refused(registry, models):
    version = publish(registry)
    (models / "versions" / version).rename(models / "versions" / "v5")
    with pytest.raises(VersionError, match=f"calls it '{version}'"):
        registry.promote("v5")


def test_a_candidate_that_changed_after_it_was_staged_is_refused(registry):
    staged = registry.stage(build(make_candidate(0)))
    (staged / "fastgrnn_int8.safetensors").write_bytes(b"other")
    with pytest.raises(VersionError, match="fastgrnn_int8"):
        registry.publish(staged)
    assert registry.current() is None
    assert registry.names() == []


def test_retention_keeps_the_newest_the_current_its_previous_and_the_pinned(registry, models):
    pinned = publish(registry, 0)
    registry.pin(pinned)
    assert registry.pins() == {pinned}
    names = [publish(registry, seed) for seed in range(1, 6)]
    assert registry.names() == [pinned, *names[-2:]]
    assert [info.pinned for info in registry.versions()] == [True, False, False]
    registry.rollback(pinned)
    after = publish(registry, 6)
    assert registry.names() == [pinned, names[-1], after]
    registry.unpin(pinned)
    last = publish(registry, 7)
    assert registry.names() == [names[-1], after, last]
    assert list((models / ".staging").iterdir()) == []
    assert [e[0] for e in events(registry) if e[0].endswith("pin")] == ["pin", "unpin"]
    with pytest.raises(PublishError, match="not pinned; pinned are: none"):
        registry.unpin(pinned)
    with pytest.raises(PublishError, match="has no version"):
        registry.pin(pinned)


def test_a_reader_has_until_the_next_publish_at_least(models):
    """Whatever the order: what was current before a change is still there after it, even with the least kept."""
    chance = random.Random(5)
    with Registry(models, keep=2) as registry:
        publish(registry)
        for seed in range(60):
            before = registry.current()
            action = chance.random()
            if action < 0.5:
                publish(registry, seed)
            elif action < 0.8 or registry.version_before(before) is None:
                registry.promote(chance.choice(registry.names()))
            else:
                registry.rollback()
            assert before in registry.names()
        assert len(registry.names()) <= 4


def test_retention_spares_what_the_caller_protects(registry):
    first = publish(registry, 0)
    for seed in range(1, 5):
        publish(registry, seed, protect=(first,))
    assert registry.names()[0] == first
    publish(registry, 5)
    assert first not in registry.names()


def test_choosing_what_to_retire():
    names = [f"v{n}" for n in range(6)]
    assert choose(names, 3, ()) == ["v0", "v1", "v2"]
    assert choose(names, 3, ("v0", "v2")) == ["v1", "v3", "v4"]
    assert choose(names, 2, names[:5]) == []
    assert choose(names, 9, ()) == []
    assert choose([], 2, ()) == []


def test_pins_that_cannot_be_read_stop_retention_not_publishing(registry, models):
    for seed in range(3):
        publish(registry, seed)
    (models / "pins.json").write_text("{")
    version = publish(registry, 3)
    assert registry.current() == version
    assert len(registry.names()) == 4
    with pytest.raises(PublishError, match="delete it and pin again"):
        registry.pin(version)


def test_two_trainers_refuse_each_other_and_a_person_can_still_step_back(registry, models):
    first, _ = publish(registry, 0), publish(registry, 1)
    other = Registry(models)
    with pytest.raises(LockedError, match=f"trained into already, by process {os.getpid()}"):
        other.stage({})
    with pytest.raises(LockedError):
        other.publish(models / "versions" / first)
    assert other.rollback() == first
    other.pin(first)
    registry.close()
    publish(other, 2)
    with pytest.raises(LockedError):
        registry.acquire()
    other.close()


def test_what_a_crash_left_behind_is_cleaned_by_the_next_owner(registry, models):
    version = publish(registry)
    registry.stage(build(make_candidate(1)))
    (models / ".staging" / "retired-v5").mkdir()
    (models / ".staging" / "retired-v5" / "x").write_bytes(b"")
    (models / ".new-current").symlink_to("versions/v9")
    (models / ".new-pins.json").write_bytes(b"[")
    registry.close()
    registry.acquire()
    assert list((models / ".staging").iterdir()) == []
    assert list(models.glob(".new-*")) == []
    registry.verify(version)


def test_a_models_directory_that_was_removed_is_made_again(registry, models):
    publish(registry)
    models.rename(models.with_name("moved"))
    version = publish(registry)
    assert registry.current() == version
    registry.verify()


def test_current_that_is_not_a_link_is_not_touched(registry, models):
    staged = registry.stage(build(make_candidate(0)))
    (models / "current").mkdir()
    with pytest.raises(PublishError, match="expected a symbolic link"):
        registry.publish(staged)
    assert (models / "current").is_dir()


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "models").write_bytes(b"")
    with pytest.raises(PublishError, match=r"models.*; move the file that is in the way"):
        Registry(tmp_path / "models").stage({})


def test_a_lost_receipt_is_written_by_the_next_owner(registry, models):
    publish(registry, 0, decision=PUBLISHED)
    lost = publish(registry, 1, decision=PUBLISHED)
    never_current = publish(registry, 2, decision=PUBLISHED)
    registry.rollback()
    lines = (models / "receipts.jsonl").read_bytes().splitlines(keepends=True)
    (models / "receipts.jsonl").write_bytes(lines[0])
    registry.close()
    registry.acquire()
    receipts = registry.receipts.read()
    assert events(registry)[1:] == [("candidate", "published", lost), ("candidate", "interrupted", never_current)]
    assert receipts[1]["reason"] == PUBLISHED.reason
    assert receipts[1]["recovered"] is True
    registry.close()
    registry.acquire()
    assert registry.receipts.read() == receipts


def test_receipts_that_cannot_be_written_do_not_undo_a_publish(registry, models, caplog):
    (models).mkdir(parents=True)
    (models / "receipts.jsonl").mkdir()
    version = publish(registry, 0, decision=PUBLISHED)
    assert registry.current() == version
    assert "kept for later" in caplog.text
    (models / "receipts.jsonl").rmdir()
    second = publish(registry, 1, decision=PUBLISHED)
    assert events(registry) == [("candidate", "published", version), ("candidate", "published", second)]


def test_keeping_fewer_than_two_is_refused(models):
    with pytest.raises(ValueError, match="at least 2"):
        Registry(models, keep=1)
