"""The main job, end to end, through the commands that an operator types."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from simulated_logs import FEATURES, lines, rows, write_config

from streamtrain import Router
from streamtrain.config import load
from streamtrain.cycle import Cycle
from streamtrain.dataset.errors import StoreDamagedError
from streamtrain.dataset.rescue import rebuild
from streamtrain.model.seal import SCHEMA_VERSION, seal


def command(*words, check=True, text=None):
    done = subprocess.run(
        [sys.executable, "-m", "streamtrain", *map(str, words)],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


def once(config):
    return json.loads(command("once", "--config", config, "--json").stdout)


def receipts(folder):
    return [json.loads(line) for line in (folder / "models" / "receipts.jsonl").read_text().splitlines()]


def test_from_an_empty_folder_to_a_served_version(tmp_path):
    config = write_config(tmp_path)
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
    (tmp_path / "logs" / "b.jsonl.gz").write_bytes(gzip.compress(lines(rows(1000, seed=1, first_id=3000))))
    told = once(config)
    assert told["ingested"] == {"lines": 4000, "samples": 4000, "duplicates": 0, "quarantined": 0, "pending": 0}
    assert sum(told["window"].values()) == 4000
    assert told["decision"]["outcome"] == "published"
    assert told["decision"]["holdout_accuracy"] >= 0.85
    version = told["decision"]["version"]
    with Router(tmp_path / "models") as router:
        assert router.version == version
        fresh = rows(2000, seed=9, noise=0.0)
        features = [[row[name] for name in router.model.features] for row in fresh]
        labels = np.array([row["lightweight_successful"] for row in fresh])
        assert np.mean((router.score_batch(features) >= 0.5) == labels) > 0.93
    state = json.loads(command("status", "--config", config, "--json").stdout)
    assert state["window"]["samples"] == 4000
    assert state["current"]["version"] == version
    assert state["current"]["holdout_accuracy"] == pytest.approx(told["decision"]["holdout_accuracy"])
    assert state["last_decision"]["outcome"] == "published"
    assert state["lag"] == {"bytes": 0, "seconds": 0}
    assert [one["version"] for one in json.loads(command("versions", "--config", config, "--json").stdout)] == [version]
    for words in (("status",), ("versions",), ("quarantine", "list")):
        assert command(*words, "--config", config).stdout


def test_a_second_pass_continues_where_the_first_stopped(tmp_path):
    config = write_config(tmp_path)
    log = tmp_path / "logs" / "a.jsonl"
    log.write_bytes(lines(rows(3000)))
    first = once(config)
    with log.open("ab") as more:
        more.write(lines(rows(1000, seed=2, first_id=3000)) + b'{"id": "cut')
    second = once(config)
    assert second["ingested"] == {"lines": 1000, "samples": 1000, "duplicates": 0, "quarantined": 0, "pending": 1}
    assert second["decision"]["outcome"] in ("published", "rejected")
    assert second["decision"]["current_accuracy"] is not None
    parent = receipts(tmp_path)[-1]
    assert {one["name"] for one in parent["challengers"]} >= {"fine-tuned", "scratch"}
    assert once(config)["ingested"]["lines"] == 0
    assert first["decision"]["version"] is not None


def test_bad_lines_are_quarantined_and_good_ones_are_read(tmp_path):
    config = write_config(tmp_path)
    good = rows(1500)
    bad = [
        b"not json\n",
        b"{}\n",
        json.dumps(good[0] | {"id": "x1", "recency_score": None}).encode() + b"\n",
        json.dumps(good[0] | {"id": "x2", "recency_score": "0.5"}).encode() + b"\n",
        json.dumps(good[0] | {"id": "x3", "lightweight_successful": 2}).encode() + b"\n",
        json.dumps(good[0] | {"id": "x4"}).encode().replace(b"true", b"NaN").replace(b"false", b"NaN") + b"\n",
        b'{"similarity_score": NaN}\n',
    ]
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(good[:700]) + b"".join(bad) + lines(good[700:]))
    told = once(config)
    assert told["ingested"]["samples"] == 1500
    assert told["ingested"]["quarantined"] == len(bad)
    listed = json.loads(command("quarantine", "list", "--config", config, "--json").stdout)
    assert len(listed) == len(bad)
    assert all(one["reason"] and one["path"].endswith("a.jsonl") for one in listed)
    assert min(one["offset"] for one in listed) == len(lines(good[:700]))
    number = listed[-1]["id"]
    shown = command("quarantine", "show", str(number), "--config", config).stdout
    assert "not JSON" in shown
    assert "line      not json" in shown
    assert command("quarantine", "show", "999", "--config", config, check=False).returncode == 2
    told = json.loads(command("quarantine", "retry", "--config", config, "--json").stdout)
    assert told == {"tried": len(bad), "samples": 0, "duplicates": 0, "halves": 0, "remaining": len(bad)}


def test_too_few_samples_are_skipped_with_words(tmp_path):
    config = write_config(tmp_path)
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(300)))
    decision = once(config)["decision"]
    assert decision["outcome"] == "skipped"
    assert "300" in decision["reason"]
    assert receipts(tmp_path)[-1]["outcome"] == "skipped"
    assert not (tmp_path / "models" / "current").exists()


def test_shuffled_labels_are_refused(tmp_path):
    config = write_config(tmp_path, "gate: {min_accuracy: 0.3}\n")
    made = rows(4000)
    labels = np.random.default_rng(3).permutation([row["lightweight_successful"] for row in made])
    for row, label in zip(made, labels, strict=True):
        row["lightweight_successful"] = bool(label)
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(made))
    assert once(config)["decision"]["outcome"] == "rejected"
    assert receipts(tmp_path)[-1]["outcome"] == "rejected"


def test_rollback_promote_pin(tmp_path):
    config = write_config(tmp_path, "gate: {versus_current: 'off'}\n")
    log = tmp_path / "logs" / "a.jsonl"
    log.write_bytes(lines(rows(3000)))
    first = once(config)["decision"]["version"]
    with log.open("ab") as more:
        more.write(lines(rows(3000, seed=2, first_id=3000)))
    second = once(config)["decision"]["version"]
    assert first != second
    command("rollback", "--config", config)
    with Router(tmp_path / "models") as router:
        assert router.version == first
        command("promote", "--config", config, second)
        router.poll()
        assert router.version == second
    command("pin", "--config", config, first)
    command("unpin", "--config", config, first)
    assert [one["event"] for one in receipts(tmp_path)[-4:]] == ["rollback", "promote", "pin", "unpin"]
    refused = command("rollback", "--config", config, "v1", check=False)
    assert refused.returncode == 1
    assert "v1" in refused.stderr


def test_score_reads_arrays_and_objects(tmp_path):
    config = write_config(tmp_path)
    made = rows(3000)
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(made))
    once(config)
    one = made[0]
    array = [one[name] for name in list(one)[2:7]]
    models = tmp_path / "models"
    done = command("score", models, text=f"{json.dumps(array)}\n{json.dumps(one)}\n[1]\n", check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert answers[0]["confidence"] == answers[1]["confidence"]
    assert "error" in answers[2]
    file = models / "current" / "fastgrnn.safetensors"
    plain = json.loads(command("score", file, text=json.dumps(array) + "\n").stdout)
    assert plain["confidence"] == pytest.approx(answers[0]["confidence"], abs=1e-5)


def test_train_from_files_needs_no_state(tmp_path):
    log = tmp_path / "history.jsonl"
    log.write_bytes(lines(rows(3000)))
    told = json.loads(command("train", log, "--models", tmp_path / "models", "--json").stdout)
    assert told["decision"]["outcome"] == "published"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.jsonl", "models"]


def test_unwritable_models_directory_keeps_the_samples(tmp_path):
    config = write_config(tmp_path)
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
    (tmp_path / "models").write_text("in the way")
    failed = command("once", "--config", config, "--json", check=False)
    assert failed.returncode == 1
    assert "models" in failed.stderr
    assert "Traceback" not in failed.stderr
    (tmp_path / "models").unlink()
    again = once(config)
    assert again["ingested"]["lines"] == 0
    assert again["decision"]["outcome"] == "published"


def test_config_mistakes_are_named_all_at_once(tmp_path):
    config = write_config(tmp_path, "gate: {min_auc: 7}\ntraining: {lerning_rate: 0.1}\n")
    for words in (("check",), ("once",), ("run",), ("status",)):
        done = command(*words, "--config", config, check=False)
        assert done.returncode == 2
        assert "gate.min_auc" in done.stderr
        assert "learning_rate" in done.stderr
        assert "Traceback" not in done.stderr
    assert command("once", check=False).returncode == 2
    assert command("check", "--config", write_config(tmp_path)).returncode == 0


def test_sessions_are_judged_as_a_router_serves_them(tmp_path):
    """In this world a request is answered by what the one before it looked like: no single step can tell."""
    text = "schema: {session: session}\nmodel: {sequence_length: 4}\ntraining: {epochs: 60, batch_size: 32}\n"
    config = write_config(tmp_path, text + "gate: {min_accuracy: 0.8}\n")
    made = rows(6000)
    for i, row in enumerate(made):
        row["session"] = f"s{i // 4}"
        row["lightweight_successful"] = made[i if i % 4 == 0 else i - 1]["similarity_score"] > 0.5
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(made))
    with Cycle(load(config)) as cycle:
        cycle.ingest()
        decision = cycle.learn()
        holdout = cycle.intake.splits().holdout
    assert decision.outcome == "published", decision.reason
    right, alone = [], []
    with Router(tmp_path / "models", poll_interval_s=None) as router:
        # In the order in which the requests came, all sessions mixed.
        for at in np.argsort(holdout.timestamps, kind="stable"):
            features, label = holdout.features[at], holdout.labels[at] >= 0.5
            session = router.route(features, session=int(holdout.groups[at]))
            right.append((session.confidence >= 0.5) == label)
            alone.append((router.score(features) >= 0.5) == label)
    assert np.mean(right) == pytest.approx(decision.holdout_accuracy, abs=1e-12)
    assert np.mean(right) > 0.8 > np.mean(alone) + 0.1


def test_what_is_left_alone_and_why_lines_fail_is_said(tmp_path):
    config = write_config(tmp_path)
    (tmp_path / "secret.jsonl").write_bytes(lines(rows(10)))
    (tmp_path / "logs" / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    renamed = [{"quality" if key == "success_rate" else key: value for key, value in row.items()} for row in rows(50)]
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(renamed))
    done = command("ingest", "--config", config)
    assert "link.jsonl" in done.stderr
    assert "success_rate" in done.stderr
    assert "schema" in done.stderr
    refused = command("train", tmp_path / "logs" / "link.jsonl", "--models", tmp_path / "other", check=False)
    assert refused.returncode == 2
    assert "link.jsonl" in refused.stderr


def test_damaged_versions_are_told_in_a_line(tmp_path):
    config = write_config(tmp_path)
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
    version = once(config)["decision"]["version"]
    for file in (tmp_path / "models" / "current").iterdir():
        file.write_bytes(file.read_bytes() + b" ")
    for words in (("score", tmp_path / "models"), ("promote", version, "--config", config)):
        done = command(*words, check=False, text="[1, 1, 1, 1, 1]\n")
        assert done.returncode == 1
        assert version in done.stderr
        assert "Traceback" not in done.stderr
    state = command("status", "--config", config)
    assert "damaged" in state.stdout


def test_a_version_of_a_newer_program_is_not_published_over(tmp_path):
    config = write_config(tmp_path)
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
    version = once(config)["decision"]["version"]
    file = tmp_path / "models" / "versions" / version / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["manifest_sha256"]
    file.write_bytes(seal(manifest | {"schema_version": SCHEMA_VERSION + 1, "written_by": "streamtrain 9.1.0"}))
    (tmp_path / "logs" / "b.jsonl").write_bytes(lines(rows(1000, seed=1, first_id=3000)))
    refused = command("once", "--config", config, check=False)
    assert refused.returncode == 1
    assert "written by streamtrain 9.1.0" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert [one.name for one in (tmp_path / "models" / "versions").iterdir()] == [version]
    assert str((tmp_path / "models" / "current").readlink()) == f"versions/{version}"
    assert len(receipts(tmp_path)) == 1
    # What was read meanwhile is kept.
    file.write_bytes(seal(manifest))
    told = once(config)
    assert told["ingested"]["samples"] == 0
    assert sum(told["window"].values()) == 4000


def test_strange_lines_to_score_are_answered_one_by_one(tmp_path):
    config = write_config(tmp_path)
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
    once(config)
    text = "[" + "9" * 400 + ",1,1,1,1]\n" + "[" * 100_000 + "\n[1,1,1,1,1]\n"
    done = command("score", tmp_path / "models", text=text, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert ["error" in answer for answer in answers] == [True, True, False]


def test_a_terminal_without_unicode_is_no_reason_to_fail(tmp_path):
    config = write_config(tmp_path)
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
    words = [sys.executable, "-m", "streamtrain", "once", "--config", str(config)]
    environ = {**os.environ, "PYTHONIOENCODING": "ascii"}
    assert subprocess.run(words, env=environ, capture_output=True, check=False, timeout=300).returncode == 0


def test_what_is_read_during_a_training_belongs_to_the_next(tmp_path):
    """Samples, the bytes they came from and the count are of one moment, though logs are read on meanwhile."""
    config = load(write_config(tmp_path, "trigger: {min_new_samples: 500}\n"))
    log = tmp_path / "logs" / "a.jsonl"
    first = lines(rows(3000))
    log.write_bytes(first)
    more = []

    def read_on(progress):
        if progress.stage == "train" and not progress.detail and not more:
            with log.open("ab") as out:
                out.write(lines(rows(1000, seed=1, first_id=3000)))
            # By another thread, as in the daemon.
            reader = threading.Thread(target=lambda: more.append(cycle.ingest()))
            reader.start()
            reader.join()

    with Cycle(config, on_progress=read_on) as cycle:
        cycle.ingest()
        decision = cycle.learn()
        assert more[0].samples == 1000
        manifest = cycle.registry.manifest(decision.version)
        assert [(one["start"], one["end"]) for one in manifest["inputs"]] == [(0, len(first))]
        assert sum(receipts(tmp_path)[-1]["window"].values()) == 3000
        assert cycle.due()
        assert sum(cycle.intake.splits().sizes.values()) == 4000


def test_a_training_that_outlives_its_database_leaves_no_count_behind(tmp_path):
    """The new database counts from nothing: with the old count, nothing would be trained on for very long."""
    config = load(write_config(tmp_path, "trigger: {min_new_samples: 500}\n"))
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
    damaged = []

    def damage(progress):
        if progress.stage == "judge" and not damaged:
            damaged.append(cycle.intake.store)
            cycle.intake.store.close()
            (tmp_path / "state" / "state.db").write_bytes(b"no database" * 1000)
            for suffix in ("-wal", "-shm"):
                (tmp_path / "state" / f"state.db{suffix}").unlink(missing_ok=True)
            damage = StoreDamagedError("not a database")
            fresh = rebuild(cycle.intake._path, config.schema.digest, damage, max_samples=9999)
            cycle.intake._use(fresh)
            cycle.ingest()

    with Cycle(config, on_progress=damage) as cycle:
        cycle.ingest()
        assert cycle.learn().outcome == "published"
        assert cycle.store is not damaged[0]
        assert cycle.due()


def test_the_largest_numbers_stop_nothing(tmp_path):
    config = load(write_config(tmp_path))
    with Cycle(config) as cycle:
        for number in range(3):
            records = rows(2000, seed=number, first_id=2000 * number)
            records[7][FEATURES[1]] = float(np.finfo(np.float32).max)
            (tmp_path / "logs" / f"{number}.jsonl").write_bytes(lines(records))
            cycle.ingest()
            assert cycle.learn().outcome in ("published", "rejected")
        assert cycle.store.counts().n_total_ingested == 6000


def test_a_state_that_is_gone_waits_for_samples(tmp_path):
    config = load(write_config(tmp_path))
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
    with Cycle(config) as cycle:
        cycle.ingest()
        assert cycle.learn().outcome == "published"
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "logs" / "a.jsonl").unlink()
    with Cycle(config) as cycle:
        cycle.ingest()
        assert cycle.learn().outcome == "skipped"
