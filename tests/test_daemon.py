"""The daemon as systemd runs it: a process, killed and told things by signals."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from daemon_process import PATIENCE_S, ingested, start, stop, until
from simulated_logs import lines, rows, write_config

from streamtrain import Router
from streamtrain.config import load
from streamtrain.dataset import window
from streamtrain.dataset.store import Store
from streamtrain.publish.registry import Registry

SEED = int(os.environ.get("STREAMTRAIN_TEST_SEED", "20261123"))


def test_drop_a_log_get_a_model_see_a_router_swap(tmp_path):
    config = write_config(tmp_path, "trigger: {min_new_samples: 1000}\ngate: {versus_current: 'off'}\n")
    process = start(config)
    try:
        with Router(tmp_path / "models", poll_interval_s=0.02) as router:
            (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
            first = until(lambda: router.version, "a first version")
            assert 0 <= router.route([0.8, 0.9, 0.7, 0.85, 0.2]).confidence <= 1
            with (tmp_path / "logs" / "a.jsonl").open("ab") as log:
                log.write(lines(rows(2000, seed=1, first_id=3000)))
            second = until(lambda: router.version != first and router.version, "a second version")
            assert router.route([0.8, 0.9, 0.7, 0.85, 0.2]).version == second
    finally:
        stop(process)


def test_reload_takes_a_good_configuration_and_refuses_a_bad_one(tmp_path):
    config = write_config(tmp_path, "trigger: {min_new_samples: 1000000}\n")
    log = (tmp_path / "daemon.log").open("wb")
    process = start(config, stderr=log)
    try:

        def said(text):
            return text in (tmp_path / "daemon.log").read_text()

        until(lambda: said("ready"), "ready")
        config.write_text(config.read_text() + "gate: {min_auc: 9}\n")
        process.send_signal(signal.SIGHUP)
        until(lambda: said("gate.min_auc"), "the refusal")
        (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
        until(lambda: ingested(tmp_path / "state") == 3000, "3,000 samples with the old configuration")
        config = write_config(tmp_path, "trigger: {min_new_samples: 1000}\n")
        process.send_signal(signal.SIGHUP)
        until((tmp_path / "models" / "current").exists, "a version with the new configuration")
    finally:
        stop(process)
        log.close()


def test_a_reload_that_cannot_be_opened_keeps_the_old_configuration(tmp_path):
    config = write_config(tmp_path)
    with (tmp_path / "daemon.log").open("wb") as log:
        process = start(config, stderr=log)
    try:
        until(lambda: "ready" in (tmp_path / "daemon.log").read_text(), "ready")
        config.write_text(config.read_text().replace(f"{tmp_path}/state", "/proc/nowhere"))
        process.send_signal(signal.SIGHUP)
        until(lambda: "can't be used" in (tmp_path / "daemon.log").read_text(), "the refusal")
        (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
        until((tmp_path / "models" / "current").exists, "a version under the old configuration")
    finally:
        stop(process)


def test_versions_that_are_gone_do_not_stop_learning(tmp_path):
    config = write_config(tmp_path, "trigger: {min_new_samples: 1000}\n")
    log = tmp_path / "logs" / "a.jsonl"
    log.write_bytes(lines(rows(3000)))
    process = start(config)
    try:
        until((tmp_path / "models" / "current").exists, "a first version")
        shutil.rmtree(tmp_path / "models" / "versions")
        with log.open("ab") as out:
            out.write(lines(rows(2000, seed=1, first_id=3000)))
        until((tmp_path / "models" / "current").exists, "a version in place of the lost one")
        Registry(tmp_path / "models").verify()
    finally:
        stop(process)


def test_ingestion_goes_on_while_models_cannot_be_written(tmp_path):
    config = write_config(tmp_path)
    (tmp_path / "models").write_text("in the way")
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
    process = start(config)
    try:
        until(lambda: ingested(tmp_path / "state") == 3000, "the samples")
        assert process.poll() is None
        (tmp_path / "models").unlink()
        until((tmp_path / "models" / "current").exists, "a version once it can be written")
    finally:
        stop(process)


def test_two_daemons_on_one_state_refuse_each_other(tmp_path):
    config = write_config(tmp_path)
    first = start(config)
    try:
        until(lambda: (tmp_path / "state" / "state.db").exists(), "the first to start")
        until(lambda: (tmp_path / "models").exists(), "the first to own the models")
        second = subprocess.run(
            [sys.executable, "-m", "streamtrain", "run", "--config", str(config)],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert second.returncode == 1
        assert "another process" in second.stderr
        assert "Traceback" not in second.stderr
    finally:
        stop(first)


@pytest.mark.slow
def test_sixty_kills_lose_nothing_and_double_nothing(tmp_path):
    """SIGKILL at random moments while lines are appended: every line exactly once, and `current` verifies."""
    dice = random.Random(SEED)
    config = write_config(tmp_path, "trigger: {min_new_samples: 200}\ngate: {versus_current: 'off'}\n")
    log = tmp_path / "logs" / "a.jsonl"
    log.write_bytes(lines(rows(1500)))
    n_written, n_kills = 1500, 0
    process = start(config, stderr=subprocess.DEVNULL)
    until(lambda: (tmp_path / "models" / "current").exists(), "a first version")
    while n_kills < 60:
        lifetime = time.monotonic() + dice.uniform(0.0, 1.6)
        while time.monotonic() < lifetime:
            more = lines(rows(dice.randrange(1, 60), seed=n_written, first_id=n_written))
            cut = dice.randrange(len(more))
            with log.open("ab", buffering=0) as out:
                out.write(more[:cut])
                time.sleep(dice.uniform(0, 0.02))
                out.write(more[cut:])
            n_written += more.count(b"\n")
        process.kill()
        process.wait()
        n_kills += 1
        process = start(config, stderr=subprocess.DEVNULL)
    until(lambda: ingested(tmp_path / "state") == n_written, f"all {n_written} lines (seed {SEED})")
    stop(process)
    settings = load(config)
    with Store(settings.state.directory / "state.db", settings.schema.digest, readonly=True) as store:
        samples = window.load(store, 10**9)
        assert store.counts().n_duplicates == 0
    assert len(samples.keys) == n_written
    assert len(set(samples.keys.tolist())) == n_written
    assert samples.timestamps.tolist() == [1_700_000_000.0 + i for i in range(n_written)]
    Registry(settings.models.directory).verify()
    events = [json.loads(line) for line in (tmp_path / "models" / "receipts.jsonl").read_text().splitlines()]
    assert any(event.get("outcome") == "published" for event in events)
