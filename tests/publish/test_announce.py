from __future__ import annotations

import logging
import sys
import threading
import time
from pathlib import Path

import pytest
from make_candidate import make_candidate
from webhook_receiver import serving

from streamtrain.model.signature import KeyFileError
from streamtrain.publish import announce
from streamtrain.publish.announce import QUEUE, Announcer
from streamtrain.publish.artifact import build
from streamtrain.publish.change import Change
from streamtrain.publish.registry import PublishError, Registry
from streamtrain.publish.webhook import Webhook

SECRET = "0123456789abcdef"


@pytest.fixture(autouse=True)
def _everything_logged(caplog):
    caplog.set_level(logging.INFO)


def change(n, models):
    return Change("publish", f"v{n}", None, models, 0.0)


def until(condition, what):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def appending(file):
    told = "os.environ['STREAMTRAIN_EVENT'] + os.environ['STREAMTRAIN_VERSION']"
    code = f"import os; open({str(file)!r}, 'a').write({told} + '\\n')"
    return [sys.executable, "-c", code]


def waiting(file, seconds=600):
    return [sys.executable, "-c", f"import time; open({str(file)!r}, 'w').close(); time.sleep({seconds})"]


def test_hooks_run_in_order_and_one_that_fails_does_not_stop_the_next(tmp_path, caplog):
    file = tmp_path / "told"
    bad = [sys.executable, "-c", "print('why'); raise SystemExit(2)"]
    announcer = Announcer([bad, appending(file)])
    for n in (1, 2):
        announcer.tell(change(n, tmp_path))
    announcer.drain()
    assert file.read_text() == "publishv1\npublishv2\n"
    assert "exit code 2" in caplog.text
    assert "v1 stays current; it said:\nwhy" in caplog.text
    announcer.tell(change(3, tmp_path))
    announcer.drain()
    assert file.read_text().endswith("publishv3\n")
    announcer.close()


def test_telling_never_waits_and_the_oldest_gives_way(tmp_path, caplog):
    release, told = threading.Event(), []
    announcer = Announcer([["true"]])

    def slow(one):
        told.append(one.version)
        release.wait(60)

    announcer._workers[0]._tell = slow
    for n in range(QUEUE + 4):
        announcer.tell(change(n, tmp_path))
        if n == 0:
            until(lambda: told == ["v0"], "the first")
    release.set()
    announcer.drain()
    assert told == ["v0", *(f"v{n}" for n in range(4, QUEUE + 4))]
    assert caplog.text.count("too slow, not told of publish") == 3


def test_no_more_threads_is_a_warning_and_the_next_change_tells_of_both(tmp_path, caplog, monkeypatch):
    file = tmp_path / "told"
    announcer = Announcer([appending(file)])

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        announcer.tell(change(1, tmp_path))
    assert "not told of publish v1 yet: can't start new thread" in caplog.text
    announcer.tell(change(2, tmp_path))
    announcer.drain()
    assert file.read_text() == "publishv1\npublishv2\n"


def test_stopping_gives_a_running_hook_its_grace_and_no_more(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(announce, "STOP_GRACE_S", 0.2)
    announcer = Announcer([waiting(tmp_path / "started"), ["true"]])
    announcer.tell(change(1, tmp_path))
    announcer.tell(change(2, tmp_path))
    until((tmp_path / "started").exists, "the hook")
    announcer.close()
    assert "was killed" in caplog.text
    assert "hook true is not run for publish v1: told to stop" in caplog.text
    assert "hooks: not told of publish v2: told to stop" in caplog.text
    announcer.tell(change(3, tmp_path))
    assert "hooks: not told of publish v3" in caplog.text
    assert not any(thread.name == "hooks" for thread in threading.enumerate())


def test_a_hook_that_ends_in_its_grace_is_left_to(tmp_path, caplog):
    announcer = Announcer([waiting(tmp_path / "started", 0.3)])
    announcer.tell(change(1, tmp_path))
    until((tmp_path / "started").exists, "the hook")
    announcer.close()
    assert "done in" in caplog.text


def test_waiting_for_them_ends_when_told_to(tmp_path, monkeypatch):
    monkeypatch.setattr(announce, "STOP_GRACE_S", 0.1)
    announcer = Announcer([waiting(tmp_path / "started")])
    announcer.tell(change(1, tmp_path))
    announcer.drain((tmp_path / "started").exists)
    assert not announcer._workers[0].busy


def test_each_webhook_is_told_by_itself_and_secrets_are_in_no_log(tmp_path, caplog):
    with serving(200) as good, serving("hang") as bad:
        announcer = Announcer(
            webhooks=[
                Webhook(f"http://127.0.0.1:{bad.server_port}/token-1", secret_env="S"),
                Webhook(f"http://127.0.0.1:{good.server_port}/token-2", secret_env="S"),
            ],
            webhook_timeout_s=60.0,
            environ={"S": SECRET},
        )
        announcer.check()
        announcer.tell(change(1, tmp_path))
        announcer.tell(change(2, tmp_path))
        until(lambda: len(good.requests) == 2, "the good one")
        until(lambda: len(bad.requests) == 1, "the bad one")
        bad.released.set()
        announcer.close()
    assert f"http://127.0.0.1:{good.server_port}: told of publish v2" in caplog.text
    assert "told to stop" in caplog.text
    assert SECRET not in caplog.text
    assert "token" not in caplog.text


def test_a_secret_that_is_not_there_is_found_at_the_start_and_undoes_nothing(tmp_path, caplog):
    announcer = Announcer(webhooks=[Webhook("http://127.0.0.1:1/", secret_env="S")], environ={})
    with pytest.raises(KeyFileError, match="environment variable S"):
        announcer.check()
    announcer.tell(change(1, tmp_path))
    announcer.drain()
    assert "environment variable S holds 0 bytes" in caplog.text


def test_hooks_do_not_inherit_the_variable_of_a_secret(tmp_path):
    file = tmp_path / "told"
    code = f"import os; open({str(file)!r}, 'w').write(str('S' in os.environ) + str('PLAIN' in os.environ))"
    webhook = Webhook("http://127.0.0.1:1/", secret_env="S")
    announcer = Announcer([[sys.executable, "-c", code]], webhooks=[webhook], environ={"S": "x", "PLAIN": "y"})
    announcer.tell(change(1, tmp_path))
    until(file.exists, "the hook")
    announcer.close()
    assert file.read_text() == "FalseTrue"


def test_a_registry_tells_of_what_it_did_and_of_nothing_else(tmp_path):
    models, told = tmp_path / "models", []

    def listen(one):
        # The lock is given back by then: a hook may itself pin or roll back.
        with Registry(models)._changing("listen"):
            told.append((one.event, one.version, one.previous, one.models_dir))

    with Registry(models, on_change=listen) as registry:
        first, second = (registry.publish(registry.stage(build(make_candidate(seed)))) for seed in range(2))
        registry.rollback()
        with pytest.raises(PublishError):
            registry.rollback()
        registry.promote(second)
        registry.pin(second)
        (models / "versions" / first / "manifest.json").write_bytes(b"")
        with pytest.raises(Exception, match=r"manifest\.json"):
            registry.rollback()
    assert told == [
        ("publish", first, None, models),
        ("publish", second, first, models),
        ("rollback", first, second, models),
        ("promote", second, first, models),
    ]


def test_what_a_crash_kept_from_being_told_is_told_by_the_next(tmp_path):
    models, told = tmp_path / "models", []
    with Registry(models) as registry:
        first, second = (registry.publish(registry.stage(build(make_candidate(seed)))) for seed in range(2))
    receipts = models / "receipts.jsonl"
    receipts.write_bytes(receipts.read_bytes().splitlines(keepends=True)[0])
    for _ in range(2):
        with Registry(models, on_change=lambda one: told.append((one.event, one.version, one.previous))) as registry:
            registry.acquire()
    assert told == [("publish", second, first)]


def test_a_models_directory_that_is_gone_is_a_failure_of_the_hook(tmp_path, caplog):
    announcer = Announcer([["true"]])
    announcer.tell(change(1, Path("/nowhere")))
    announcer.drain()
    assert "could not be started" in caplog.text
