"""What systemd is told, and what it does about it: readiness, watchdog, reload, stop."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from daemon_process import Process, ingested, until
from simulated_logs import lines, rows, write_config

from streamtrain.config import load
from streamtrain.dataset.store import Store
from streamtrain.ops.status import REFUSED
from streamtrain.publish.registry import Registry

JSON = "log: {format: json}\n"
ENDLESS = JSON + "training: {epochs: 100000000, early_stopping_patience: 0}\n"
"""A training that never comes to an end by itself."""
STOP_S = 5.0


def told_before(systemd, first, second):
    order = [line for _, lines in systemd.told for line in lines]
    return order.index(first) < order.index(second)


def test_ready_after_the_first_scan_then_kicks_then_stopping(tmp_path):
    config = write_config(tmp_path, JSON)
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
    with Process(config, watchdog_s=2.0) as daemon:
        systemd = daemon.systemd
        until(lambda: systemd.count("READY=1"), "READY")
        assert ingested(tmp_path / "state") == 3000
        until(lambda: systemd.saw("serving v"), "a version in the status line")
        until(lambda: "watching" in systemd.status and "3,000 samples" in systemd.status, "rest")
        since = time.monotonic()
        until(lambda: systemd.count("WATCHDOG=1", since) >= 4, "kicks while nothing happens")
        assert systemd.count("STOPPING=1") == 0
        daemon.stop()
        assert told_before(systemd, "READY=1", "STOPPING=1")
        assert systemd.count("READY=1") == 1
    assert daemon.events()[-1]["event"] == "stopped"
    assert daemon.events("published")[0]["version"]


def test_a_stopped_process_kicks_no_more_and_goes_on_afterwards(tmp_path):
    with Process(write_config(tmp_path, JSON), watchdog_s=1.0) as daemon:
        until(lambda: daemon.systemd.count("WATCHDOG=1"), "a kick")
        stopped = daemon.signal(signal.SIGSTOP) + 0.3
        time.sleep(2.0)
        assert daemon.systemd.count("WATCHDOG=1", stopped) == 0
        going = daemon.signal(signal.SIGCONT)
        until(lambda: daemon.systemd.count("WATCHDOG=1", going), "a kick again")
        daemon.stop()


@pytest.mark.parametrize(("fault", "what"), [("epoch", "training"), ("reading", "reading")])
def test_what_hangs_trips_the_watchdog(tmp_path, fault, what):
    """A part that gets no further: kicks end, the log and the status say which, and SIGTERM still works."""
    config = write_config(tmp_path, JSON)
    log = tmp_path / "logs" / "a.jsonl"
    if fault == "epoch":
        log.write_bytes(lines(rows(3000)))
    with Process(config, watchdog_s=1.0, fault=fault) as daemon:
        until(lambda: daemon.systemd.count("READY=1"), "READY")
        log.write_bytes(lines(rows(3000)))
        (told,) = until(lambda: daemon.events("no progress"), "the log to tell")[:1]
        assert told["of"] == what
        until(lambda: daemon.systemd.status.startswith(f"NO PROGRESS: {what}"), "the status to tell")
        tripped = time.monotonic() + 0.3
        time.sleep(2.5)
        assert daemon.systemd.count("WATCHDOG=1", tripped) == 0, "systemd would kill it now"
        if fault == "epoch":
            with log.open("ab") as out:
                out.write(lines(rows(500, seed=1, first_id=3000)))
            until(lambda: ingested(tmp_path / "state") == 3500, "reading, which goes on")
        daemon.stop()
        assert daemon.events("stopped in the middle")


def test_a_long_training_trips_nothing_and_is_read_beside(tmp_path):
    config = write_config(tmp_path, ENDLESS)
    log = tmp_path / "logs" / "a.jsonl"
    log.write_bytes(lines(rows(3000)))
    with Process(config, watchdog_s=1.0) as daemon:
        until(lambda: "; training scratch" in daemon.systemd.status, "the training")
        with log.open("ab") as out:
            out.write(lines(rows(500, seed=1, first_id=3000)))
        until(lambda: ingested(tmp_path / "state") == 3500, "the new lines")
        since = time.monotonic()
        until(lambda: daemon.systemd.count("WATCHDOG=1", since) >= 8, "kicks")
        assert "; training scratch" in daemon.systemd.status
        assert not daemon.events("no progress")
        daemon.stop()
        # The latter where the machine was too busy for one epoch in two seconds.
        assert daemon.events("interrupted") or daemon.events("stopped in the middle")
        assert not (tmp_path / "models" / "current").exists()


def within_five_seconds(tmp_path, text, moment, **options):
    """SIGTERM at a moment; of three tries one must be in time, on a machine that may be busy."""
    taken = []
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        (folder / "logs").mkdir()
        (folder / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
        if "NUMBA_CACHE_DIR" in options.get("environ", {}):
            options = options | {"environ": {"NUMBA_CACHE_DIR": str(folder / "cache")}}
        with Process(write_config(folder, text), **options) as daemon:
            until(lambda daemon=daemon: daemon.systemd.saw(moment), moment)
            taken.append(daemon.stop())
        assert "Traceback" not in daemon.log
        if taken[-1] < STOP_S:
            return folder
    return pytest.fail(f"took {taken} s, expected under {STOP_S}")


def test_told_to_stop_in_the_middle_of_training(tmp_path):
    folder = within_five_seconds(tmp_path, ENDLESS, "; training scratch")
    assert ingested(folder / "state") == 3000


def test_told_to_stop_while_compiling(tmp_path):
    folder = within_five_seconds(tmp_path, JSON, "; compiling", environ={"NUMBA_CACHE_DIR": "empty"})
    with Process(write_config(folder, JSON)) as daemon:
        until((folder / "models" / "current").exists, "a version after all")
        assert ingested(folder / "state") == 3000
        daemon.stop()


def test_told_to_stop_in_the_middle_of_an_epoch_that_takes_long(tmp_path):
    folder = within_five_seconds(tmp_path, JSON, "; training", fault="epoch")
    with Process(write_config(folder, JSON)) as daemon:
        until((folder / "models" / "current").exists, "a version after all")
        daemon.stop()


@pytest.mark.parametrize(
    ("fault", "moment", "outcomes"),
    [
        ("judge", "; judging", ["published"]),
        ("publish", "; publishing: published", ["interrupted", "published"]),
        ("published", "; publishing: published", ["published", "published"]),
    ],
)
def test_told_to_stop_while_a_candidate_is_judged_or_published(tmp_path, fault, moment, outcomes):
    """Whatever it was in the middle of: the next process tells what became of it, and goes on."""
    text = f"{JSON}gate: {{versus_current: 'off'}}\n"
    folder = within_five_seconds(tmp_path, text, moment, fault=fault)
    models = folder / "models"
    assert ingested(folder / "state") == 3000
    assert (models / "current").exists() == (fault == "published")
    if fault == "published":
        Registry(models).verify()
    with Process(write_config(folder, text)) as daemon:
        until(lambda: "; last: published" in daemon.systemd.status, "a version after all")
        daemon.stop()
    with Registry(models) as registry:
        registry.verify()
        receipts = registry.receipts.read(100)
        assert [one["outcome"] for one in receipts] == outcomes
        assert [one["version"] for one in receipts] == list(registry.names())
        assert registry.current() == receipts[-1]["version"]
    assert ingested(folder / "state") == 3000


def hanging_hook(folder):
    """A command that hears no SIGTERM, and the file that tells its process."""
    file = folder / "hook.pid"
    script = f"trap '' TERM; echo $$ > {file}.new; mv {file}.new {file}; while :; do sleep 0.1; done"
    return f"publish: {{hooks: [[/bin/sh, -c, {json.dumps(script)}]]", file


def over(file):
    """Whether the hook is gone."""
    return not Path("/proc", file.read_text().strip()).exists()


def test_told_to_stop_while_a_hook_and_a_webhook_hang(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls, and answers none
        taken = []
        for attempt in range(3):
            folder = tmp_path / str(attempt)
            folder.mkdir()
            hooks, file = hanging_hook(folder)
            webhook = f"{{url: 'http://127.0.0.1:{silent.getsockname()[1]}/', secret_env: SECRET}}"
            config = write_config(folder, f"{JSON}{hooks}, webhooks: [{webhook}], webhook_timeout: 1h}}\n")
            (folder / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
            with Process(config, environ={"SECRET": "sixteen bytes or more"}) as daemon:
                until(file.exists, "the hook")
                taken.append(daemon.stop())
                until(lambda file=file: over(file), "the end of the hook")
            assert "was killed" in daemon.log
            assert "left behind" in daemon.log
            Registry(folder / "models").verify()
            if taken[-1] < STOP_S:
                return
    pytest.fail(f"took {taken} s, expected under {STOP_S}")


def test_told_to_stop_while_a_reload_waits_for_a_hook(tmp_path):
    taken = []
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        hooks, file = hanging_hook(folder)
        config = write_config(folder, f"{JSON}{hooks}}}\n")
        (folder / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
        with Process(config) as daemon:
            until(file.exists, "the hook")
            until(lambda daemon=daemon: daemon.systemd.count("READY=1"), "READY")
            config.write_text(config.read_text() + "trigger: {min_new_samples: 700}\n")
            daemon.signal(signal.SIGHUP)
            until(lambda daemon=daemon: daemon.systemd.count("RELOADING=1"), "the reload")
            taken.append(daemon.stop())
            assert over(file)
        assert not daemon.events("reloaded")
        Registry(folder / "models").verify()
        if taken[-1] < STOP_S:
            return
    pytest.fail(f"took {taken} s, expected under {STOP_S}")


def test_a_reload_is_told_and_a_bad_one_stays_told_until_a_good_one(tmp_path):
    config = write_config(tmp_path, JSON)
    good = config.read_text()

    def shown():
        command = [sys.executable, "-m", "streamtrain", "status", "--json", "--config", str(config)]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    with Process(config, watchdog_s=5.0) as daemon:
        systemd = daemon.systemd
        until(lambda: systemd.count("READY=1") == 1, "READY")
        config.write_text(good + "gate: {min_auc: 9, min_acuracy: 1}\n")
        daemon.signal(signal.SIGHUP)
        until(lambda: systemd.count("READY=1") == 2, "the end of the reload")
        (words,) = [words for _, words in systemd.told if "RELOADING=1" in words]
        assert int(words[1].removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
        assert "the old one stays" in systemd.status
        assert "gate.min_auc" in systemd.status
        assert "gate.min_acuracy" in daemon.events("the configuration is refused and the old one stays")[0]["error"]
        config.write_text(good)
        assert "gate.min_auc" in shown()["refused_configuration"]["reason"]
        # What is told later doesn't take its place.
        (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
        until(lambda: "; last: published" in systemd.status, "a version")
        assert "the old one stays" in systemd.status
        assert "gate.min_auc" in systemd.status
        assert "gate.min_auc" in shown()["refused_configuration"]["reason"]
        daemon.signal(signal.SIGHUP)
        until(lambda: systemd.count("READY=1") == 3, "the end of the reload")
        assert "old one stays" not in systemd.status
        assert shown()["refused_configuration"] is None
        daemon.stop()


def test_a_refusal_is_over_when_another_process_takes_the_file(tmp_path):
    config = write_config(tmp_path, JSON)
    good = config.read_text()

    def noted():
        with Store(tmp_path / "state" / "state.db", load(config).schema.digest, readonly=True) as store:
            return store.get(REFUSED)

    with Process(config) as daemon:
        until(lambda: daemon.systemd.count("READY=1"), "READY")
        config.write_text(good + "gate: {min_auc: 9}\n")
        daemon.signal(signal.SIGHUP)
        until(lambda: daemon.systemd.count("READY=1") == 2, "the end of the reload")
        config.write_text(good)
        assert "gate.min_auc" in noted()["reason"]
        daemon.stop()
    with Process(config) as daemon:
        until(lambda: daemon.systemd.count("READY=1"), "READY")
        assert noted() is None
        assert "old one stays" not in daemon.systemd.status
        daemon.stop()
