"""Against a real HTTP server on this machine, which takes, refuses, hangs, drips, redirects and floods."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
from webhook_receiver import serving

from streamtrain.model.signature import KeyFileError
from streamtrain.publish import webhook as module
from streamtrain.publish.change import Change
from streamtrain.publish.webhook import TRIES, Webhook, deliver, sign, verify

ROOT = Path(__file__).parents[2]
CHANGE = Change("rollback", "v2", "v1", Path("/srv/models"), 1_000_000_000.0)
SECRET = "0123456789abcdef"


class Waits:
    """Takes the place of waiting between tries: keeps the intervals, and stops after `patience`."""

    def __init__(self, patience: int = 99) -> None:
        self.intervals: list[float] = []
        self.patience = patience

    def __call__(self, seconds: float) -> bool:
        self.intervals.append(seconds)
        return len(self.intervals) >= self.patience


def send(url, waits=None, timeout_s=30.0, secret=SECRET):
    return deliver(
        Webhook(url, secret_env="SECRET"),
        CHANGE,
        timeout_s=timeout_s,
        environ={"SECRET": secret}.get,
        clock=lambda: 1_700_000_000.7,
        wait=waits or Waits(),
    )


def at(server, path="/hook?token=t"):
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_it_is_told_once_and_signed():
    with serving(204) as server:
        assert send(at(server)) is None
    ((path, headers, body),) = server.requests
    assert path == "/hook?token=t"
    told = json.loads(body)
    assert told == {
        "id": headers["X-Streamtrain-Delivery"],
        "event": "rollback",
        "version": "v2",
        "previous": "v1",
        "time": "2001-09-09T01:46:40.000Z",
    }
    assert headers["X-Streamtrain-Event"] == "rollback"
    assert headers["X-Streamtrain-Timestamp"] == "1700000000"
    assert verify(
        SECRET.encode(), headers["X-Streamtrain-Timestamp"], body, headers["X-Streamtrain-Signature"], now_s=1.7e9
    )


def test_the_signature_is_the_known_one():
    """Made by `printf '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef`."""
    made = subprocess.run(
        ["openssl", "dgst", "-sha256", "-hmac", SECRET], input=b"1700000000.{}", capture_output=True, check=True
    )
    assert sign(SECRET.encode(), "1700000000", b"{}") == "sha256=" + made.stdout.decode().split()[-1]


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"now_s": 1_700_000_300.0}, True),
        ({"now_s": 1_700_000_301.0}, False),
        ({"now_s": 1_699_999_000.0}, False),
        ({"body": b"{} "}, False),
        ({"timestamp": "1700000001"}, False),
        ({"secret": b"0123456789abcdeg"}, False),
        ({"signature": "sha256=" + "0" * 64}, False),
        ({"signature": "ä"}, False),
        ({"signature": ""}, False),
    ],
)
def test_what_is_genuine(changes, good):
    whole = {"secret": SECRET.encode(), "timestamp": "1700000000", "body": b"{}", "now_s": 1.7e9}
    whole["signature"] = sign(whole["secret"], whole["timestamp"], whole["body"])
    whole |= changes
    assert verify(**whole) is good


def test_the_check_in_the_manual_works():
    page = (ROOT / "docs" / "operating.md").read_text()
    code = re.search(r"test_webhook\.py -->\n```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    names: dict[str, object] = {}
    exec(code[1], names)
    genuine = names["genuine"]
    now = str(int(time.time()))
    headers = {"X-Streamtrain-Timestamp": now, "X-Streamtrain-Signature": sign(b"secret", now, b"{}")}
    assert genuine(b"secret", headers, b"{}")
    assert not genuine(b"secret", headers, b"{ }")
    old = {"X-Streamtrain-Timestamp": "1700000000", "X-Streamtrain-Signature": sign(b"secret", "1700000000", b"{}")}
    assert not genuine(b"secret", old, b"{}")


def test_a_server_in_trouble_is_tried_again_as_the_same_delivery():
    waits = Waits()
    with serving(500, 503, 429, 200) as server:
        assert send(at(server), waits) is None
    assert waits.intervals == [1, 2, 4]
    assert len({headers["X-Streamtrain-Delivery"] for _, headers, _ in server.requests}) == 1
    assert len(server.requests) == 4


def test_it_is_given_up_in_the_end():
    waits = Waits()
    with serving(500) as server:
        assert send(at(server), waits) == "it answered 500; given up after 5 tries"
    assert len(server.requests) == TRIES
    assert waits.intervals == [1, 2, 4, 8]


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_a_plain_no_is_final(status):
    with serving(status) as server:
        assert send(at(server)) == f"it answered {status}"
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(status):
    with serving(status, 200) as server:
        assert "redirects are not followed" in (send(at(server)) or "")
    assert len(server.requests) == 1


def test_nobody_there_is_tried_again():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    waits = Waits()
    assert "refused" in (send(f"http://127.0.0.1:{port}/", waits) or "")
    assert len(waits.intervals) == TRIES - 1


@pytest.mark.parametrize("answer", ["hang", "drip"])
def test_a_try_has_a_limit_however_slowly_it_is_answered(answer):
    waits = Waits()
    with serving(answer, 200) as server:
        assert send(at(server), waits, timeout_s=0.5) is None
    assert waits.intervals == [1]


def test_a_hanging_one_is_given_up():
    with serving("hang") as server:
        assert send(at(server), timeout_s=0.2) == "no answer within 0.2 s; given up after 5 tries"


def test_an_endless_answer_is_not_read():
    with serving("flood") as server:
        assert send(at(server)) is None


def test_nonsense_is_tried_again():
    with serving("nonsense", 200) as server:
        assert send(at(server)) is None
    assert len(server.requests) == 2


def test_told_to_stop_it_waits_no_longer():
    with serving(500) as server:
        assert "told to stop after 2 of 5 tries" in (send(at(server), Waits(2)) or "")
    assert len(server.requests) == 2


def test_a_server_that_nobody_vouches_for_is_not_told(tmp_path):
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", tmp_path / "key", "-out", tmp_path / "cert"]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with serving(200) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = f"https://localhost:{server.server_port}/"
        assert "certificate verify failed" in (send(url) or "")
        assert not server.requests
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
            assert send(url) is None
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (SECRET, 0o644, "mode 0644"),
        (SECRET, 0o602, "mode 0602"),
        ("short", 0o600, "at least 16"),
        (None, 0o600, "No such file"),
    ],
)
def test_a_secret_that_cannot_be_used_is_said_but_not_shown(tmp_path, content, mode, why):
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    with pytest.raises(KeyFileError, match=why) as caught:
        Webhook("http://a/", secret_file=file).secret({}.get)
    assert content is None or content not in str(caught.value)
    assert str(file) in str(caught.value)


def test_white_space_around_a_secret_does_not_count(tmp_path):
    file = tmp_path / "secret"
    file.write_text(f" {SECRET}\n")
    file.chmod(0o600)
    assert Webhook("http://a/", secret_file=file).secret({}.get) == SECRET.encode()
    assert Webhook("http://a/", secret_env="S").secret({"S": f"{SECRET}\n"}.get) == SECRET.encode()
    with pytest.raises(KeyFileError, match="environment variable S holds 0 bytes"):
        Webhook("http://a/", secret_env="S").secret({}.get)


def test_logs_may_not_show_the_path():
    assert Webhook("https://hooks.example.com/T0/secret?x=y").place == "https://hooks.example.com"
    assert Webhook("http://127.0.0.1:80/x").place == "http://127.0.0.1:80"


def test_backoff_has_an_interval_for_every_try():
    assert len(module.BACKOFF_S) == TRIES - 1
