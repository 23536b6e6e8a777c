"""A service on the disk, made by the real stages, and a front that shows it."""

import socket
from pathlib import Path

from simulated_logs import lines, rows, write_config

from streamtrain.config import load_service
from streamtrain.cycle import Cycle
from streamtrain.ops.board import Activity, Board
from streamtrain.ops.front import Front

NASTY = "<img src=x onerror=alert(1)>\"'&{{7*7}}"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def published(folder: Path, *, passes=3):
    """Versions and refusals by the real cycle, and quarantined lines whose path and content are markup."""
    config = write_config(folder, "gate: {versus_current: 'off', min_accuracy: 0.87}\n")
    log = folder / "logs" / f"{NASTY.replace('/', '')}.jsonl"
    log.write_bytes(b'{"id": "<script>alert(1)</script>", \n' * 3)
    with Cycle(load_service(config).routers[""]) as cycle:
        for i in range(passes):
            with (folder / "logs" / "a.jsonl").open("ab") as out:
                out.write(lines(rows(2000, seed=i, first_id=2000 * i, noise=4.0 if i == 2 else 0.1)))
            cycle.ingest()
            cycle.learn()
        cycle.registry.receipts.append({"event": NASTY, "reason": NASTY, "time": NASTY, "user": NASTY, "rules": "x"})
    return config


def front(config: Path, listen, *, board=None, textfile=None, environ=None):
    board = board or Board()
    service = load_service(config)
    for name in service.routers:
        board.sit_down(name, lambda: Activity(ready=True))
    board.note_ready()
    shown = Front(board, environ or {})
    shown.show(service.routers, listen, textfile)
    return shown
