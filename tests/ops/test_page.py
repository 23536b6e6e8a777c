"""The status page as HTTP: headers, methods, names, sockets, escaping, and what it does when things are broken."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from simulated_logs import write_config

from streamtrain.ops.board import Activity, Board
from streamtrain.ops.page.sockets import inherited, opened
from streamtrain.publish.registry import Registry

sys.path.append(str(Path(__file__).parent))
from page_case import NASTY, free_port, front, published


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("anything.example")
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def ask(port, path, method="GET", headers=None, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    config = published(folder)
    port = free_port()
    shown = front(config, f"127.0.0.1:{port}")
    yield folder, port
    shown.close()


PAGES = (
    "/",
    "/?live=1",
    "/receipts",
    "/receipts?page=2",
    "/receipts?page=x",
    "/quarantine",
    "/status.json",
    "/metrics",
)


@pytest.mark.parametrize("path", [*PAGES, "/healthz", "/readyz", "/style.css", "/icon.svg"])
def test_pages_answer_with_every_security_header(service, path):
    status, headers, body = ask(service[1], path)
    assert status == 200
    assert body
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "Server" not in headers
    head = ask(service[1], path, "HEAD")
    assert head[0] == 200
    assert head[2] == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(service, method):
    status, headers, _ = ask(service[1], "/", method)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("127.0.0.1:80", 200), ("[::1]:9155", 200), ("LOCALHOST:1", 200), ("evil.example", 421),
     ("evil.example:9155", 421), ("127.0.0.1.evil.example", 421), ("localhost:1@evil.example:2", 421), ("", 421)],
)  # fmt: skip
def test_other_names_for_this_machine_are_refused(service, host, status):
    assert ask(service[1], "/", headers={"Host": host})[0] == status


@pytest.mark.parametrize(
    "path", ["/nope", "/versions/", "/versions/v1", "/versions/..%2f..", "/versions/<script>", "/%ff", "/routers/x"]
)
def test_what_is_not_there_is_told_as_text(service, path):
    status, _, body = ask(service[1], path.replace("<", "%3C").replace(">", "%3E"))
    assert status == 404
    assert b"<script" not in body


def test_markup_from_logs_and_receipts_stays_text(service):
    for path in ("/", "/receipts", "/quarantine"):
        body = ask(service[1], path)[2].decode()
        assert "<img src=x" not in body
        assert "<script" not in body
        assert "49" not in body or "{{7*7}}" in body
    assert "&lt;script&gt;alert(1)" in ask(service[1], "/quarantine")[2].decode()
    assert "&lt;img src=x onerror" in ask(service[1], "/receipts")[2].decode()
    assert "&lt;img src=x onerror" in ask(service[1], "/quarantine")[2].decode()


def test_each_version_has_its_report_and_each_receipt_its_words(service):
    folder, port = service
    names = [one.version for one in Registry(folder / "models").versions()]
    assert names
    for name in names:
        status, _, body = ask(port, f"/versions/{name}")
        assert status == 200
        assert b"What the gate said" in body
    assert b"A candidate was refused" in ask(port, "/receipts")[2]


def test_headers_and_bodies_are_bounded(service):
    assert ask(service[1], "/", headers={"X-Long": "x" * 20_000})[0] == 431
    assert ask(service[1], "/", "POST", body=b"x" * 5000)[0] == 413


def test_a_silent_client_keeps_nobody_waiting(service):
    silent = [socket.create_connection(("127.0.0.1", service[1])) for _ in range(20)]
    try:
        for one in silent:
            one.sendall(b"GET / HTTP/1.1\r\nHo")
        assert ask(service[1], "/healthz")[0] == 200
    finally:
        for one in silent:
            one.close()


def test_a_unix_socket_answers_any_name_and_is_removed_in_the_end(tmp_path):
    path = tmp_path / "status.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))  # as after SIGKILL
    shown = front(write_config(tmp_path), f"unix:{path}")
    try:
        assert path.stat().st_mode & 0o777 == 0o660
        connection = UnixConnection(path)
        connection.request("GET", "/status.json")
        assert connection.getresponse().status == 200
        connection.close()
        with pytest.raises(OSError, match="in use"):
            opened(f"unix:{path}")
    finally:
        shown.close()
    assert not path.exists()


def test_an_address_in_use_is_told_and_tried_again(tmp_path, caplog):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        shown = front(write_config(tmp_path), f"127.0.0.1:{port}")
        assert "no status page" in caplog.text
    try:
        shown.show({one.watched.name: one.watched.config for one in shown.overviews}, f"127.0.0.1:{port}", None)
        assert ask(port, "/healthz")[0] == 200
    finally:
        shown.close()


def test_null_switches_it_off(tmp_path):
    before = threading.active_count()
    shown = front(write_config(tmp_path), None)
    assert threading.active_count() == before
    shown.close()


def test_sockets_of_systemd_are_taken_by_name():
    code = (
        "import os, sys; from streamtrain.ops.page.sockets import inherited\n"
        "env = dict(os.environ, LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='other:status')\n"
        "found = inherited(env, os.getpid()); print([one.getsockname()[1] for one in found])"
    )
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    script = 'exec 3<&"$1" 4<&"$2"; exec "$3" -c "$4"'
    numbers = [one.fileno() for one in listeners]
    for number in numbers:
        os.set_inheritable(number, True)
    done = subprocess.run(
        ["bash", "-c", script, "bash", *map(str, numbers), sys.executable, code],
        capture_output=True, text=True, pass_fds=numbers, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == [listeners[1].getsockname()[1]]
    for one in listeners:
        one.close()
    assert inherited({"LISTEN_FDS": "1", "LISTEN_PID": "1"}, 2) == []


def test_views_during_publishes_are_whole(tmp_path):
    config = published(tmp_path, passes=2)
    port = free_port()
    shown = front(config, f"127.0.0.1:{port}")
    answers, ended = [], threading.Event()

    def look():
        while not ended.is_set():
            answers.append(ask(port, "/")[0])
            answers.append(ask(port, "/receipts")[0])

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for one in lookers:
        one.start()
    registry = Registry(tmp_path / "models")
    names = registry.names()
    for i in range(30):
        registry.promote(names[i % len(names)])
    ended.set()
    for one in lookers:
        one.join()
    shown.close()
    assert answers
    assert set(answers) == {200}


@pytest.mark.parametrize("damage", [b"", b"not a database" * 1000, None])
def test_a_damaged_database_is_told_on_the_page(tmp_path, damage):
    config = published(tmp_path, passes=1)
    database = tmp_path / "state" / "state.db"
    whole = bytearray(database.read_bytes())
    if damage is None:
        whole[4096:] = os.urandom(len(whole) - 4096)
        damage = bytes(whole)
    database.write_bytes(damage)
    for name in ("state.db-wal", "state.db-shm"):
        (tmp_path / "state" / name).unlink(missing_ok=True)
    port = free_port()
    shown = front(config, f"127.0.0.1:{port}")
    try:
        status, _, body = ask(port, "/")
        assert status == 200
        state = json.loads(ask(port, "/status.json")[2])
        assert state["current"] is not None
        if damage:
            assert state["health"] == "attention"
            assert b"Needs attention" in body
        assert ask(port, "/quarantine")[0] in (200, 503)
        assert ask(port, "/metrics")[0] == 200
    finally:
        shown.close()
    assert database.read_bytes() == damage


def test_health_follows_the_board(tmp_path):
    board, port = Board(), free_port()
    shown = front(write_config(tmp_path), f"127.0.0.1:{port}", board=board)
    try:
        assert ask(port, "/healthz")[0] == 200
        board.sit_down("", lambda: Activity(training="train", detail="x" + NASTY, trouble="the disk is full"))
        board.note_stalled(("training",))
        board.note_refusal("gate.min_auc = 9: expected less")
        shown.show({"": shown.overviews[0].watched.config}, f"127.0.0.1:{port}", None)
        assert ask(port, "/healthz")[0] == 503
        body = ask(port, "/")[2].decode()
        for text in ("the disk is full", "no progress: training", "gate.min_auc = 9", "Training"):
            assert text in body
    finally:
        shown.close()
