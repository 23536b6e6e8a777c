"""What the daemon and the commands tell of a publish, sign, and record; by real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from make_candidate import make_candidate
from simulated_logs import lines, rows, write_config
from webhook_receiver import serving

from streamtrain.config import ConfigError, load
from streamtrain.model.seal import read_sealed
from streamtrain.model.signature import KeyFileError, read_public_key
from streamtrain.outlet import Outlet, catalog
from streamtrain.publish.artifact import build
from streamtrain.publish.registry import Registry
from streamtrain.publish.signing import generate
from streamtrain.router.router import Router

PATIENCE_S = 120
SECRET = "a-secret-that-nobody-may-see"
PROBE = "[0.8, 0.9, 0.7, 0.85, 0.2]\n"


def command(*words, env=None, text=None):
    return subprocess.run(
        [sys.executable, "-m", "streamtrain", *map(str, words)],
        env=os.environ | (env or {}),
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    return pytest.fail(f"waited {PATIENCE_S} s in vain for {what}")


def hook(file, then="pass"):
    """A command that adds what it is told to a file, as one JSON line."""
    told = "{k: v for k, v in os.environ.items() if k.startswith('STREAMTRAIN_')} | {'pid': os.getpid()}"
    code = f"import json, os, time; print(json.dumps({told}), file=open({str(file)!r}, 'a'), flush=True); {then}"
    return json.dumps([sys.executable, "-c", code])


def told(file):
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def publish(models, n=1, **options):
    with Registry(models, **options) as registry:
        return [registry.publish(registry.stage(build(make_candidate(seed)))) for seed in range(n)]


@pytest.fixture
def daemon():
    """Start daemons; whatever is left of them is killed in the end."""
    started = []

    def start(config, log):
        with log.open("wb") as err:
            words = [sys.executable, "-m", "streamtrain", "run", "--config", str(config)]
            started.append(subprocess.Popen(words, stderr=err))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_once_tells_and_signs_and_shows_no_secret(tmp_path):
    key, file = tmp_path / "key", tmp_path / "told"
    generate(key)
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    with serving(500, 200) as server:
        webhooks = f"[{{url: 'http://127.0.0.1:{server.server_port}/my-token', secret_file: secret}}]"
        config = write_config(tmp_path, f"publish: {{hooks: [{hook(file)}], webhooks: {webhooks}, signing_key: key}}\n")
        (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
        done = command("once", "--config", config, "--json")
    assert done.returncode == 0, done.stderr
    version = json.loads(done.stdout)["decision"]["version"]
    (one,) = told(file)
    assert (one["STREAMTRAIN_EVENT"], one["STREAMTRAIN_VERSION"]) == ("publish", version)
    assert Path(one["STREAMTRAIN_MODEL_PATH"]).is_file()
    assert [json.loads(body)["version"] for _, _, body in server.requests] == [version, version]
    directory = tmp_path / "models" / "versions" / version
    read_sealed(directory, public_key=read_public_key(f"{key}.pub"))
    with Router(tmp_path / "models", poll_interval_s=None, public_key=f"{key}.pub") as router:
        assert router.version == version
    status = command("status", "--config", config, "--json").stdout
    published = b"".join(path.read_bytes() for path in (tmp_path / "models").rglob("*") if path.is_file())
    for shown in (done.stdout, done.stderr, status, published.decode("latin-1")):
        assert SECRET not in shown
        assert "my-token" not in shown


@pytest.mark.slow
def test_a_daemon_that_is_stopped_while_a_hook_hangs_ends_and_so_does_the_hook(tmp_path, daemon):
    file = tmp_path / "told"
    config = write_config(tmp_path, f"publish: {{hooks: [{hook(file, 'time.sleep(3000)')}], hook_timeout: 1h}}\n")
    (tmp_path / "logs" / "a.jsonl").write_bytes(lines(rows(3000)))
    process = daemon(config, tmp_path / "log")
    pid = until(lambda: told(file), "the hook")[0]["pid"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert not Path(f"/proc/{pid}").exists()
    assert "was killed" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_the_daemon_goes_on_while_hooks_and_webhooks_hang_and_a_person_steps_back(tmp_path, daemon, monkeypatch):
    file = tmp_path / "told"
    with serving("hang") as server:
        webhooks = f"[{{url: 'http://127.0.0.1:{server.server_port}/', secret_env: HOOK_SECRET}}]"
        slow = f"publish: {{hooks: [{hook(file, 'time.sleep(3000)')}], hook_timeout: 1h, webhooks: {webhooks}}}\n"
        config = write_config(tmp_path, f"trigger: {{min_new_samples: 1000}}\ngate: {{versus_current: 'off'}}\n{slow}")
        log = tmp_path / "logs" / "a.jsonl"
        log.write_bytes(lines(rows(3000)))
        with monkeypatch.context() as patch:
            patch.setenv("HOOK_SECRET", SECRET)
            process = daemon(config, tmp_path / "log")
            until(lambda: told(file) and server.requests, "the hook and the webhook")
            first = catalog(load(config)).current()
            with log.open("ab") as out:
                out.write(lines(rows(2000, seed=1, first_id=3000)))
            second = until(lambda: (v := catalog(load(config)).current()) != first and v, "a second version")
        quick = write_config(tmp_path, f"publish: {{hooks: [{hook(tmp_path / 'stepped')}]}}\n")
        done = command("rollback", "--config", quick, env={"SUDO_USER": "operator"})
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"serving {first}\n"
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    (one,) = told(tmp_path / "stepped")
    assert (one["STREAMTRAIN_EVENT"], one["STREAMTRAIN_VERSION"]) == ("rollback", first)
    assert one["STREAMTRAIN_PREVIOUS"] == second
    receipt = catalog(load(config)).receipts.read()[-1]
    assert (receipt["event"], receipt["version"], receipt["previous"]) == ("rollback", first, second)
    assert (receipt["uid"], receipt["sudo_user"]) == (os.getuid(), "operator")
    assert SECRET not in (tmp_path / "log").read_text()


def test_two_daemons_on_one_models_directory_refuse_each_other_by_process_id(tmp_path, daemon):
    first = daemon(write_config(tmp_path), tmp_path / "log")
    until(lambda: (tmp_path / "models" / ".owner.lock").exists(), "the first to own the models")
    until(lambda: (tmp_path / "models" / ".owner.lock").read_text(), "its process id")
    other = tmp_path / "other"
    other.mkdir()
    config = write_config(other)
    config.write_text(config.read_text().replace(f"{other}/models", f"{tmp_path}/models"))
    done = command("run", "--config", config)
    assert done.returncode == 1
    assert f"trained into already, by process {first.pid}; stop it first" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_change_by_a_person_has_a_receipt_and_hooks_where_current_moved(tmp_path):
    file = tmp_path / "told"
    first, second = publish(tmp_path / "models", 2)
    config = write_config(tmp_path, f"publish: {{hooks: [{hook(file)}, [/nowhere/at/all]]}}\n")
    for words in (("pin", first), ("rollback",), ("unpin", first), ("promote", second), ("rollback", first)):
        done = command(words[0], "--config", config, *words[1:])
        assert done.returncode == 0, done.stderr
        assert ("could not be started" in done.stderr) == (words[0] in ("rollback", "promote"))
    assert [one["STREAMTRAIN_EVENT"] for one in told(file)] == ["rollback", "promote", "rollback"]
    receipts = catalog(load(config)).receipts.read()[2:]
    assert [(r["event"], r["version"]) for r in receipts] == [
        ("pin", first),
        ("rollback", first),
        ("unpin", first),
        ("promote", second),
        ("rollback", first),
    ]
    assert all(receipt["uid"] == os.getuid() and receipt["user"] for receipt in receipts)


def test_stepping_back_needs_no_secret_and_no_private_key(tmp_path):
    key = tmp_path / "key"
    generate(key)
    first, _ = publish(tmp_path / "models", 2, signer=Outlet(signing_config(tmp_path)).registry._signer)
    key.unlink()
    config = write_config(
        tmp_path,
        "publish: {signing_key: key, public_key: key.pub, webhooks: [{url: 'http://127.0.0.1:1/', secret_file: s}]}\n",
    )
    done = command("rollback", "--config", config)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"serving {first}\n"
    assert "No such file" in done.stderr
    with pytest.raises(KeyFileError, match="No such file"):
        Outlet(load(config))


def signing_config(tmp_path):
    return load(write_config(tmp_path, "publish: {signing_key: key}\n"))


def test_versions_and_score_check_signatures_where_a_key_is_set(tmp_path):
    done = command("keygen", tmp_path / "key")
    assert done.returncode == 0, done.stderr
    assert "BEGIN" not in done.stdout
    assert command("keygen", tmp_path / "key").returncode == 1
    config = write_config(tmp_path, "publish: {signing_key: key}\n")
    models, public = tmp_path / "models", tmp_path / "key.pub"
    (unsigned,) = publish(models)
    damage = {v["version"]: v["damage"] for v in json.loads(command("versions", "--config", config, "--json").stdout)}
    assert "not signed" in damage[unsigned]
    assert command("score", models, text=PROBE).returncode == 0
    done = command("score", models, "--public-key", public, text=PROBE)
    assert done.returncode == 1
    assert "not signed" in done.stderr
    (signed,) = publish(models, signer=Outlet(load(config)).registry._signer)
    damage = {v["version"]: v["damage"] for v in json.loads(command("versions", "--config", config, "--json").stdout)}
    assert damage[signed] is None
    assert command("score", models, "--public-key", public, text=PROBE).returncode == 0
    done = command("rollback", "--config", config)
    assert done.returncode == 1
    assert "not signed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("mode", "text", "why"),
    [
        (0o644, "signing_key: key", "mode 0644"),
        (0o600, "signing_key: key.pub", "expected an Ed25519 private key"),
        (0o600, "webhooks: [{url: 'http://127.0.0.1:1/', secret_env: NOT_SET}]", "variable NOT_SET"),
    ],
)
def test_what_the_daemon_cannot_use_stops_it_at_the_start(tmp_path, mode, text, why):
    generate(tmp_path / "key")
    (tmp_path / "key").chmod(mode)
    (tmp_path / "key.pub").chmod(0o600)
    done = command("run", "--config", write_config(tmp_path, f"publish: {{{text}}}\n"))
    assert done.returncode == 1
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_paths_of_secrets_start_at_the_configuration(tmp_path):
    text = "publish: {signing_key: key, webhooks: [{url: 'http://a/', secret_file: sub/s}]}\n"
    config = load(write_config(tmp_path, text))
    assert config.publish.signing_key == tmp_path / "key"
    assert config.publish.webhooks[0].secret_file == str(tmp_path / "sub" / "s")
    with pytest.raises(ConfigError, match=r"publish\.signing"):
        load(write_config(tmp_path, "publish: {signing: key}\n"))
