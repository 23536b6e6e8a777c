"""Several routers in one daemon: none waits for another, and none falls with another."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest
from daemon_process import Process, ingested, until
from simulated_logs import lines, rows

SHARED = "log: {format: json}\ngate: {versus_current: 'off'}\nrouters:\n"


def write(folder, *names, extra=""):
    """A configuration of some routers, whose logs lie in directories of their names."""
    text = SHARED
    for name in names:
        (folder / "logs" / name).mkdir(parents=True, exist_ok=True)
        text += f"  - name: {name}\n    logs: {{directory: logs/{name}}}\n"
    file = folder / "streamtrain.yaml"
    file.write_text(text + extra)
    return file


def drop(folder, name, n=3000, **more):
    with (folder / "logs" / name / "a.jsonl").open("ab") as out:
        out.write(lines(rows(n, **more)))


def command(*words, code=0):
    done = subprocess.run([sys.executable, "-m", "streamtrain", *map(str, words)], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def current(folder, name):
    return folder / "models" / name / "current"


def test_each_has_its_own_window_gate_and_models(tmp_path):
    config = write(tmp_path, "chat", "search", extra="    gate: {min_accuracy: 0.9999}\n")
    drop(tmp_path, "chat")
    drop(tmp_path, "search", 2000, seed=1)
    with Process(config, watchdog_s=5.0) as daemon:
        until(current(tmp_path, "chat").exists, "a version of chat")
        refused = until(lambda: daemon.events("rejected"), "the refusal of search")
        assert {one["router"] for one in refused} == {"search"}
        published = until(lambda: daemon.events("published"), "the log to tell of it")
        assert published[0]["router"] == "chat"
        until(lambda: "chat: " in daemon.systemd.status and "search: " in daemon.systemd.status, "both in the status")
        daemon.stop()
    assert ingested(tmp_path / "state" / "chat") == 3000
    assert ingested(tmp_path / "state" / "search") == 2000
    assert not current(tmp_path, "search").exists()
    both = json.loads(command("status", "--json", "--config", config))["routers"]
    assert both["chat"]["current"]["version"]
    assert both["search"]["current"] is None
    one = json.loads(command("status", "--json", "--config", config, "--router", "chat"))
    assert one["window"]["samples"] == 3000
    found = json.loads(command("versions", "--json", "--config", config))["routers"]
    assert {name: len(versions) for name, versions in found.items()} == {"chat": 1, "search": 0}
    assert "router    search" in command("status", "--config", config)
    told = json.loads(command("once", "--json", "--config", config))["routers"]
    assert told["search"]["window"]["train"] > 0
    assert "chat, search" in command("rollback", "--config", config, code=2)
    assert "chat, search" in command("pin", "--config", config, "--router", "other", "v1", code=2)
    assert "pinned" in command("pin", "--config", config, "--router", "chat", both["chat"]["current"]["version"])


@pytest.mark.parametrize("broken", ["models", "state", "damaged"])
def test_one_that_is_broken_stops_no_other_and_comes_back(tmp_path, broken):
    config = write(tmp_path, "bad", "good")
    place = tmp_path / ("models" if broken == "models" else "state") / "bad"
    place.parent.mkdir()
    if broken == "models":
        place.write_text("in the way")
    elif broken == "state":
        place.mkdir()
        with sqlite3.connect(place / "state.db") as other:
            other.executescript("PRAGMA user_version = 1; CREATE TABLE theirs (x)")
        other.close()
    else:
        place.mkdir()
        (place / "state.db").write_bytes(b"SQLite format 3\x00" + bytes(range(256)) * 64)
    drop(tmp_path, "bad")
    drop(tmp_path, "good")
    with Process(config, watchdog_s=5.0) as daemon:
        until(current(tmp_path, "good").exists, "a version of the good one")
        until(lambda: daemon.systemd.count("READY=1"), "READY in spite of the other")
        if broken == "state":
            assert daemon.events("this router can't work, the others do")[0]["router"] == "bad"
            assert "bad: not working" in daemon.systemd.status
        if broken != "damaged":  # which is set aside and begun anew by itself
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        until(current(tmp_path, "bad").exists, "a version of the other, once it can be")
        daemon.stop()


def test_a_reload_adds_and_removes_routers_and_leaves_the_others_alone(tmp_path):
    config = write(tmp_path, "a", "b")
    drop(tmp_path, "a")
    with Process(config, watchdog_s=5.0) as daemon:
        systemd = daemon.systemd
        until(current(tmp_path, "a").exists, "a version of a")
        until(lambda: systemd.count("READY=1") == 1, "READY")
        write(tmp_path, "a", "c")
        drop(tmp_path, "b")
        drop(tmp_path, "c")
        seen = ingested(tmp_path / "state" / "b")
        daemon.signal(signal.SIGHUP)
        until(lambda: systemd.count("READY=1") == 2, "the reload")
        until(current(tmp_path, "c").exists, "a version of c")
        assert "b: " not in systemd.status
        seen = ingested(tmp_path / "state" / "b")
        drop(tmp_path, "b", 500, seed=2, first_id=3000)
        drop(tmp_path, "a", 500, seed=2, first_id=3000)
        until(lambda: ingested(tmp_path / "state" / "a") == 3500, "a, which was left alone")
        assert ingested(tmp_path / "state" / "b") == seen
        # One of them that can't be opened: all stay as they are.
        write(tmp_path, "a", "b", extra="    state: {directory: /proc/nowhere}\n")
        daemon.signal(signal.SIGHUP)
        until(lambda: systemd.count("READY=1") == 3, "the refusal")
        assert daemon.events("the configuration can't be used and the old one stays")
        drop(tmp_path, "c", 500, seed=2, first_id=3000)
        until(lambda: ingested(tmp_path / "state" / "c") == 3500, "c, which stays")
        daemon.stop()


def test_a_training_without_end_keeps_no_other_router_waiting(tmp_path):
    endless = "    training: {epochs: 100000000, early_stopping_patience: 0}\n"
    config = write(tmp_path, "quick", "endless", extra=endless)
    drop(tmp_path, "endless")
    with Process(config, watchdog_s=5.0) as daemon:
        until(lambda: "; training scratch" in daemon.systemd.status, "the endless one")
        drop(tmp_path, "quick")
        until(current(tmp_path, "quick").exists, "a version beside it")
        drop(tmp_path, "endless", 500, seed=2, first_id=3000)
        until(lambda: ingested(tmp_path / "state" / "endless") == 3500, "its logs, too")
        assert not current(tmp_path, "endless").exists()
        daemon.stop()
