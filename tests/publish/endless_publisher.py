"""Publishes, rolls back, promotes, pins and refuses in a models directory until it is killed, and then goes on.

Usage: endless_publisher.py MODELS SEED CALLS KEY. The work is done in a child process, and in a new one when that was
killed. Two children in three kill themselves at their nth system call, n counted on through 1..CALLS, so that every
failpoint gets its turn; the others wait to be killed from outside. Each child's process id is a line on stdout.

Version vN is the candidate of seed N, so that whoever knows the name of a version knows what it must answer.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
from pathlib import Path

from fault import Fault
from make_candidate import TINY_DANCER_SCALE, make_candidate

from streamtrain.publish.artifact import build
from streamtrain.publish.catalog import number
from streamtrain.publish.registry import PublishError, Registry
from streamtrain.publish.signing import Signer, read_signing_key
from streamtrain.types import Decision


class Next:
    """A clock whose time is the number of the next version."""

    registry: Registry

    def __call__(self) -> float:
        names = self.registry.names()
        return number(names[-1]) + 1 if names else 1


def candidate(seed: int) -> dict[str, bytes]:
    return build(make_candidate(seed, input_scale=TINY_DANCER_SCALE))


def publish_until_killed(models: str, chance: random.Random, fault: Fault | None, signer: Signer) -> None:
    clock = Next()
    registry = clock.registry = Registry(models, keep=4, clock=clock, signer=signer)
    if fault is not None:
        # What it starts with is among the calls: cleaning up and taking the locks.
        fault.install()
    while True:
        action = chance.random()
        try:
            if action < 0.5:
                registry.publish(registry.stage(candidate(int(clock()))))
            elif action < 0.55:
                registry.refuse(Decision("rejected", None, "worse"), registry.stage(candidate(0)))
            elif action < 0.7:
                registry.promote(chance.choice(registry.names() or ["v1"]))
            elif action < 0.75 and registry.names():
                pinned = sorted(registry.pins())
                registry.unpin(pinned[0]) if pinned else registry.pin(registry.names()[0])
            else:
                registry.rollback()
        except PublishError as error:
            if not any(known in str(error) for known in ("no version", "has no versions", "no current version")):
                raise


def main() -> None:
    models, seed, n_calls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    signer = read_signing_key(Path(sys.argv[4]))
    calls = itertools.cycle(range(1, n_calls + 1))
    for nth in itertools.count():
        fault = Fault(next(calls), "KILL") if nth % 3 else None
        child = os.fork()
        if child == 0:
            publish_until_killed(models, random.Random(f"{seed} {nth}"), fault, signer)
        sys.stdout.write(f"{child} {'itself' if fault else 'outside'}\n")
        sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            sys.exit(1)


main()
