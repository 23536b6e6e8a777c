"""The sockets that the page answers at: handed over by systemd, or opened for `status.listen`."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

FIRST_DESCRIPTOR = 3
SOCKET_NAME = "status"


def inherited(environ: Mapping[str, str], pid: int) -> list[socket.socket]:
    """Take the listening sockets that systemd hands over (sd_listen_fds(3)).

    Parameters
    ----------
    environ : mapping
        With LISTEN_FDS and LISTEN_PID; with LISTEN_FDNAMES, where one is called "status" only those of that name.
    pid : int
        Of this process.

    Returns
    -------
    list of socket.socket
        Listening TCP and Unix sockets; closing them leaves systemd's own open.
    """
    count = environ.get("LISTEN_FDS", "")
    if not count.isdecimal() or environ.get("LISTEN_PID") != str(pid):
        return []
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found = []
    for number in range(min(int(count), 64)):
        name = names[number] if number < len(names) else ""
        if SOCKET_NAME in names and name != SOCKET_NAME:
            continue
        try:
            # Duplicated: what was handed over stays open for the next opening, such as after a reload.
            one = socket.socket(fileno=os.dup(FIRST_DESCRIPTOR + number))
        except OSError:
            continue
        known = one.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) and one.type == socket.SOCK_STREAM
        if known and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found.append(one)
        else:
            one.close()
    return found


def opened(listen: str) -> socket.socket:
    """Open the socket of `status.listen`.

    Parameters
    ----------
    listen : str
        ``host:port``, ``[address]:port`` or ``unix:/path``. A socket file that nobody answers at is replaced; the new
        one may be used by owner and group.

    Returns
    -------
    socket.socket

    Raises
    ------
    OSError
        If the address is in use, or can't be used.
    """
    if listen.startswith("unix:"):
        return _unix(Path(listen.removeprefix("unix:")))
    host, _, port = listen.rpartition(":")
    family, _, _, _, address = socket.getaddrinfo(
        host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
        one.listen(64)
    except OSError:
        one.close()
        raise
    return one


def _unix(path: Path) -> socket.socket:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        one.bind(str(path))
        path.chmod(0o660)  # before anybody is listened to
        one.listen(64)
    except OSError:
        one.close()
        raise
    return one


def _clear(path: Path) -> None:
    """Remove a socket that a killed process left behind; one that answers, or another file, stays."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
