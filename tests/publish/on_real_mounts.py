"""Publishes into file systems that are really full, and really read-only. For a mount namespace of its own, as root.

Usage: unshare --mount on_real_mounts.py WORK full|read-only. Prints one JSON object.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

from fault import Fault
from make_candidate import make_candidate

from streamtrain.publish.artifact import build
from streamtrain.publish.registry import PublishError, Registry
from streamtrain.router.load import load
from streamtrain.types import Decision

DECISION = Decision("published", None, "good", 0.9)
FILES = build(make_candidate(9))
PAGE_BYTES = 4096


def mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def publish(registry: Registry) -> str | None:
    """Why it failed; None if it did not."""
    try:
        registry.publish(registry.stage(FILES), DECISION)
    except PublishError as error:
        return str(error)
    return None


def check(models: Path, current: str | None) -> None:
    registry = Registry(models)
    registry.verify()
    load(models)
    assert registry.current() == current, (registry.current(), current)


def told(registry: Registry) -> list[object]:
    return [receipt["reason"] for receipt in registry.receipts.read() if receipt.get("outcome") == "failed"]


def full(work: Path) -> dict[str, object]:
    """With 0, 1, 2, … pages left, until it gets through."""
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", work)
    models, reasons, n_pages = work / "models", [], 0
    while True:
        with Registry(models, keep=2) as registry:
            for _ in range(3):
                assert publish(registry) is None
            current, before = registry.current(), len(told(registry))
            ballast = work / "ballast"
            leave(ballast, n_pages)
            reason = publish(registry)
            check(models, current if reason else registry.current())
            ballast.unlink()
            if reason is None:
                return {"reasons": reasons}
            reasons.append(reason)
            assert publish(registry) is None
            assert told(registry)[before:] == [reason]
        n_pages += 1


def leave(ballast: Path, n_pages: int) -> None:
    """Fill the file system up, but for some pages."""
    with ballast.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * PAGE_BYTES)
        except OSError:
            size = stream.tell()
        stream.truncate(size - size % PAGE_BYTES - n_pages * PAGE_BYTES)


def read_only(work: Path) -> dict[str, object]:
    """Read-only from before the nth call on, for every n, until it gets through; then writable again."""
    mount("-t", "tmpfs", "tmpfs", work)
    models = work / "models"
    outcomes: list[str | None] = []
    while True:
        child = os.fork()
        if child == 0:
            os._exit(read_only_from(models, len(outcomes) + 1, work / "reason"))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 9:
            return {"reasons": outcomes}
        assert code == 0, code
        outcomes.append(json.loads((work / "reason").read_text()))


def read_only_from(models: Path, nth: int, note: Path) -> int:
    with Registry(models, keep=3) as registry:
        assert publish(registry) is None
        assert publish(registry) is None
        current, before = registry.current(), len(told(registry))

        def remount() -> None:
            # A second mount upon itself: the first one can't be made read-only while its locks are open.
            mount("--bind", models, models)
            mount("-o", "remount,ro,bind", models)

        fault = Fault(nth, "", remount)
        fault.install()
        reason = publish(registry)
        fault.armed = False
        if not fault.struck:
            return 9
        check(models, current if reason else registry.current())
        subprocess.run(["umount", models], check=True)
        check(models, current if reason else registry.current())
        assert publish(registry) is None
        assert told(registry)[before:] == ([reason] if reason else [])
        note.write_text(json.dumps(reason))
    return 0


def main() -> None:
    logging.disable(logging.CRITICAL)
    work = Path(sys.argv[1])
    # What is mounted here is nobody else's.
    mount("--make-rprivate", "/")
    sys.stdout.write(json.dumps({"full": full, "read-only": read_only}[sys.argv[2]](work)))


main()
