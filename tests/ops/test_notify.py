from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamtrain.ops.notify import Notifier, watchdog_interval_s


class Systemd:
    """The other end: a datagram socket as systemd has it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.setblocking(False)

    def told(self) -> list[str]:
        return self.socket.recv(65536).decode().split("\n")


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    other = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@streamtrain-test-{os.getpid()}")
    yield other
    other.socket.close()


def test_every_message_arrives_as_one_datagram(systemd: Systemd) -> None:
    notifier = Notifier.from_environ({"NOTIFY_SOCKET": systemd.address})
    assert notifier.ready("watching /var/log/router")
    assert systemd.told() == ["READY=1", "STATUS=watching /var/log/router"]
    assert notifier.ready()
    assert systemd.told() == ["READY=1"]
    assert notifier.status("training, epoch 3 of 30")
    assert systemd.told() == ["STATUS=training, epoch 3 of 30"]
    assert notifier.watchdog()
    assert systemd.told() == ["WATCHDOG=1"]
    assert notifier.stopping("bye")
    assert systemd.told() == ["STOPPING=1", "STATUS=bye"]
    assert notifier.extend_timeout(2.5)
    assert systemd.told() == ["EXTEND_TIMEOUT_USEC=2500000"]


def test_reloading_carries_the_monotonic_clock(systemd: Systemd) -> None:
    assert Notifier(systemd.address, monotonic_ns=lambda: 12_345_678_901).reloading()
    assert systemd.told() == ["RELOADING=1", "MONOTONIC_USEC=12345678"]


def test_a_status_is_one_line_whatever_it_says(systemd: Systemd) -> None:
    notifier = Notifier(systemd.address)
    assert notifier.status("line\nREADY=1\r\x1b[31m\x00 größer \udcff")
    (line,) = systemd.told()
    assert line == "STATUS=line READY=1  [31m  größer  "
    assert notifier.status("x" * 100_000)
    (line,) = systemd.told()
    assert len(line) < 600


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": "@"}):
        notifier = Notifier.from_environ(environ)
        assert notifier.address is None
        assert not notifier.ready("up")
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert Notifier.from_environ().address is None
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    assert Notifier.from_environ().address == "/run/systemd/notify"


def test_a_systemd_that_cannot_be_reached_is_not_an_error(tmp_path: Path) -> None:
    assert not Notifier(str(tmp_path / "gone")).watchdog()
    assert not Notifier("/" + "x" * 200).watchdog()
    (tmp_path / "file").write_text("")
    assert not Notifier(str(tmp_path / "file")).watchdog()


def test_an_empty_status_says_nothing(systemd: Systemd) -> None:
    assert not Notifier(systemd.address).status("")
    with pytest.raises(BlockingIOError):
        systemd.told()


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "77"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "78"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
    ],
)
def test_the_watchdog_is_this_processs_or_none(environ: dict[str, str], interval: float | None) -> None:
    assert watchdog_interval_s(environ, pid=77) == interval
