"""Repeats an operation on a models directory and breaks it at its 1st, 2nd, 3rd, … system call, until it gets through.

Usage: fault_injector.py TEMPLATE WORK OPERATION KILL|ERRNO|ERRNO+. Prints one JSON object.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import traceback
from pathlib import Path

from fault import Fault
from make_candidate import make_candidate

from streamtrain.model.seal import VersionError
from streamtrain.publish.artifact import build
from streamtrain.publish.registry import PublishError, Registry
from streamtrain.router.load import load
from streamtrain.types import Decision

DECISION = Decision("published", None, "good", 0.9)
FILES = build(make_candidate(9))


def operate(registry: Registry, operation: str, oldest: str) -> None:
    if operation == "publish":
        registry.publish(registry.stage(FILES), DECISION)
    elif operation == "refuse":
        registry.refuse(Decision("rejected", None, "bad"), registry.stage(FILES))
    elif operation == "rollback":
        registry.rollback()
    else:
        registry.pin(oldest)


def in_child(models: Path, operation: str, fault: Fault) -> int:
    registry = Registry(models, keep=3)
    current, oldest = registry.current(), registry.names()[0]
    fault.install()
    failed = ""
    try:
        operate(registry, operation, oldest)
    except (PublishError, VersionError) as error:
        failed = str(error)
    fault.armed = False
    if not fault.struck:
        # It got through without reaching the nth call.
        return 9
    if failed and "; " not in failed:
        return 3
    Registry(models).verify()
    if failed and Registry(models).current() != current:
        return 4
    operate(registry, operation, oldest)
    return in_receipts(registry, operation, failed)


def in_receipts(registry: Registry, operation: str, failed: str) -> int:
    """What failed is told by a receipt, once one can be written again."""
    receipts = registry.receipts.read()[4:]
    told = [r["reason"] for r in receipts if r.get("outcome") == "failed"]
    if operation == "refuse":
        # Here a refusal is what is recorded; one that could not be is written after all, with the next.
        return 0 if len([r for r in receipts if r.get("outcome") == "rejected"]) >= 1 else 5
    if told != ([failed] if failed else []):
        sys.stderr.write(f"{operation}: {failed!r} but receipts say {told}\n")
        return 6
    done = [r for r in receipts if r.get("outcome") != "failed"]
    return 0 if len(done) == (1 if failed else 2) else 7


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
            code = 99
            try:
                code = in_child(models, operation, Fault(len(outcomes) + 1, kind))
            except Exception:  # noqa: BLE001 - the forked child must end here, whatever it is
                traceback.print_exc()
            os._exit(code)
        outcomes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        after(models, operation)
        shutil.rmtree(models)
    sys.stdout.write(json.dumps(outcomes))


main()
