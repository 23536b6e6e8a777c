from __future__ import annotations

import errno
import json
import os
import sys
import time
from pathlib import Path

import pytest

from streamtrain.publish.change import Change
from streamtrain.publish.hooks import OUTPUT_BYTES, environment, run

CHANGE = Change("publish", "v2", "v1", Path("/srv/models"), 1_000_000_000.0)


def python(code):
    return [sys.executable, "-c", code]


def finished(command, limit_s=60.0, env=None, cwd="/"):
    deadline = time.monotonic() + limit_s
    return run(command, os.environ if env is None else env, cwd, lambda: deadline)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # One that was orphaned and waits for init to take it is dead as well.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def gone(pid):
    until = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < until, f"process {pid} is still there"
        time.sleep(0.02)
    return True


def test_words_are_arguments_and_no_shell_reads_them(tmp_path):
    words = ["a b", "$HOME", "; touch x", "*", "'"]
    ended = finished([*python("import json, sys; print(json.dumps(sys.argv[1:]))"), *words], cwd=tmp_path)
    assert ended.failure is None
    assert json.loads(ended.output) == words
    assert not list(tmp_path.iterdir())


def test_it_is_told_of_the_change_and_of_nothing_secret():
    base = {"PATH": "/bin", "NOTIFY_SOCKET": "/run/x", "WATCHDOG_PID": "1", "HOOK_SECRET": "s", "HOME": "/root"}
    assert environment(CHANGE, base, ["HOOK_SECRET"]) == {
        "PATH": "/bin",
        "HOME": "/root",
        "STREAMTRAIN_EVENT": "publish",
        "STREAMTRAIN_VERSION": "v2",
        "STREAMTRAIN_PREVIOUS": "v1",
        "STREAMTRAIN_MODELS": "/srv/models",
        "STREAMTRAIN_VERSION_PATH": "/srv/models/versions/v2",
        "STREAMTRAIN_PREVIOUS_PATH": "/srv/models/versions/v1",
        "STREAMTRAIN_MODEL_PATH": "/srv/models/versions/v2/fastgrnn.safetensors",
    }
    first = environment(Change("publish", "v2", None, Path("models"), 0.0), {})
    assert (first["STREAMTRAIN_PREVIOUS"], first["STREAMTRAIN_PREVIOUS_PATH"]) == ("", "")
    assert first["STREAMTRAIN_MODELS"] == str(Path.cwd() / "models")


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("print('out', flush=True); import sys; print('err', file=sys.stderr)", None),
        ("print('out'); raise SystemExit(3)", "exit code 3"),
        ("import os, signal; print('out', flush=True); os.kill(os.getpid(), signal.SIGSEGV)", "killed by signal 11"),
    ],
)
def test_how_it_ended_is_told(code, failure):
    ended = finished(python(code))
    assert ended.output.startswith("out")
    assert ended.failure is None if failure is None else failure in (ended.failure or "")


def test_a_program_that_is_not_there_is_a_failure():
    assert "could not be started" in (finished(["/nowhere/at/all"]).failure or "")
    assert "could not be started" in (finished(python("pass"), cwd="/nowhere").failure or "")


def test_only_the_end_of_much_output_is_kept():
    ended = finished(python("import sys; sys.stdout.write('x' * 5_000_000 + 'the end')"))
    assert ended.failure is None
    assert ended.output.endswith("the end")
    assert "left out" in ended.output
    assert len(ended.output) < OUTPUT_BYTES + 100


def test_what_a_terminal_would_obey_is_escaped():
    ended = finished(python(r"print('\x1b[2J\rgone\x00\x9b')"))
    assert ended.output == r"\x1b[2J\rgone\x00\ufffd" or ended.output.startswith(r"\x1b[2J\rgone\x00")
    assert all(character.isprintable() for character in ended.output)


def test_at_the_limit_the_whole_group_is_killed_and_waited_for(tmp_path):
    code = f"""
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stubborn])
open({str(tmp_path / "pids")!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
print("started", flush=True)
time.sleep(600)
"""
    started = time.monotonic()
    ended = run(python(code), os.environ, "/", lambda: started + 5 if (tmp_path / "pids").exists() else started + 60)
    assert "time limit" in (ended.failure or "")
    assert ended.output == "started"
    leader, child = map(int, (tmp_path / "pids").read_text().split())
    assert not Path(f"/proc/{leader}").exists()
    assert gone(child)


def test_one_that_cannot_be_watched_is_not_left_running(tmp_path, monkeypatch):
    def refuse(pid):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    ended = finished(python(f"open({str(tmp_path / 'never')!r}, 'w'); import time; time.sleep(600)"))
    assert "could not be watched: [Errno 24] Too many open files" in (ended.failure or "")


def test_sigterm_comes_first(tmp_path):
    code = f"""
import signal, sys, time
def stop(number, frame):
    print("tidied", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
open({str(tmp_path / "ready")!r}, "w").close()
time.sleep(600)
"""
    started = time.monotonic()
    ended = run(python(code), os.environ, "/", lambda: started if (tmp_path / "ready").exists() else started + 60)
    assert "time limit" in (ended.failure or "")
    assert ended.output == "tidied"


def test_what_it_leaves_behind_in_its_group_is_killed_and_does_not_hold_us(tmp_path):
    """A child that keeps our pipe open: whoever reads to its end waits for ever."""
    code = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
print("done")
"""
    ended = finished(python(code))
    assert ended.failure is None
    assert ended.output == "done"
    assert gone(int((tmp_path / "pid").read_text()))


def test_nothing_of_ours_is_left_open():
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        finished(["true"])
        finished(["/nowhere/at/all"])
    assert len(list(Path("/proc/self/fd").iterdir())) == before
