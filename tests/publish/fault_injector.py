"""Repeats an operation on a models directory and breaks it at its 1st, 2nd, 3rd, … system call, until it gets through.

Usage: fault_injector.py TEMPLATE WORK OPERATION KILL|ERRNO. Prints one JSON object. The interpreter's audit hook tells
before each system call that concerns a path; what it does not tell (fsync, write) is wrapped here.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from make_candidate import make_candidate

from streamtrain.model.seal import VersionError
from streamtrain.publish.artifact import build
from streamtrain.publish.registry import PublishError, Registry
from streamtrain.router.load import load
from streamtrain.types import Decision

CALLS = {"open", "os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.scandir", "os.listdir"}
DECISION = Decision("published", None, "good", 0.9)
FILES = build(make_candidate(9))


class Fault:
    """Breaks the nth call."""

    def __init__(self, nth: int, kind: str) -> None:
        self.left = nth
        self.kind = kind
        self.armed = True
        self.path = ""

    def strike(self, path: str) -> None:
        if not self.armed:
            return
        self.left -= 1
        if self.left:
            return
        self.armed = False
        if self.kind == "KILL":
            os.kill(os.getpid(), signal.SIGKILL)
        code = getattr(errno, self.kind)
        raise OSError(code, os.strerror(code), path)

    def install(self) -> None:
        sys.addaudithook(lambda event, args: self.strike(str(args[0])) if event in CALLS else None)
        for name in ("fsync", "write"):
            setattr(os, name, self._wrap(getattr(os, name)))

    def _wrap(self, call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object) -> object:
            self.strike(f"descriptor {args[0]}")
            return call(*args)

        return wrapped


def operate(registry: Registry, operation: str) -> None:
    if operation == "publish":
        registry.publish(registry.stage(FILES), DECISION)
    elif operation == "refuse":
        registry.refuse(Decision("rejected", None, "bad"), registry.stage(FILES))
    elif operation == "rollback":
        registry.rollback()
    else:
        registry.pin(registry.names()[0])


def in_child(models: Path, operation: str, fault: Fault) -> int:
    registry = Registry(models, keep=3)
    fault.install()
    try:
        operate(registry, operation)
    except (PublishError, VersionError) as error:
        fault.armed = False
        if "; " not in str(error):
            return 3
    if fault.armed:
        # It got through without reaching the nth call.
        return 9
    fault.armed = False
    load(models)
    operate(registry, operation)
    return 0


def after(models: Path, operation: str) -> None:
    """What must hold whatever happened, and that the next one can go on from it."""
    with Registry(models, keep=3) as registry:
        registry.verify()
        load(models)
        for name in registry.names():
            registry.verify(name)
        registry.acquire()
        assert not list((models / ".staging").iterdir())
        assert not list(models.glob(".new-*"))
        recorded = {receipt["version"] for receipt in registry.receipts.read()}
        assert recorded >= set(registry.names()), (recorded, registry.names())
        registry.publish(registry.stage(FILES), DECISION)
        registry.verify()
        assert len(registry.names()) <= 4


def main() -> None:
    template, work, operation, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    logging.disable(logging.CRITICAL)
    with Registry(template, keep=3) as registry:
        for _ in range(4):
            registry.publish(registry.stage(FILES), DECISION)
    outcomes: list[int] = []
    while not outcomes or outcomes[-1] != 9:
        models = work / f"models-{len(outcomes)}"
        shutil.copytree(template, models, symlinks=True)
        child = os.fork()
        if child == 0:
            os._exit(in_child(models, operation, Fault(len(outcomes) + 1, kind)))
        outcomes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        after(models, operation)
        shutil.rmtree(models)
    sys.stdout.write(json.dumps(outcomes))


main()
