"""Publishes, rolls back, promotes and refuses in a models directory until it is killed, and then goes on.

Usage: publisher.py MODELS. The work is done in a child process, and in a new one when that was killed; its process id
is written as a line. When a child ends in any other way, this ends too.

Version vN is the candidate of seed N, so that whoever knows the name of a version knows what it must answer.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys

from make_candidate import make_candidate

from streamtrain.publish.artifact import build
from streamtrain.publish.catalog import number
from streamtrain.publish.registry import PublishError, Registry
from streamtrain.types import Decision


class Next:
    """A clock whose time is the number of the next version."""

    registry: Registry

    def __call__(self) -> float:
        names = self.registry.names()
        return number(names[-1]) + 1 if names else 1


def publish_until_killed(models: str, seed: int) -> None:
    chance, clock = random.Random(seed), Next()
    registry = clock.registry = Registry(models, keep=4, clock=clock)
    while True:
        action = chance.random()
        if action < 0.6 or not registry.names():
            registry.publish(registry.stage(build(make_candidate(int(clock())))))
        elif action < 0.75:
            registry.refuse(Decision("rejected", None, "worse"), registry.stage(build(make_candidate(0))))
        elif action < 0.9:
            registry.promote(chance.choice(registry.names()))
        else:
            try:
                registry.rollback()
            except PublishError as error:
                if "no version before" not in str(error):
                    raise


def main() -> None:
    for seed in itertools.count():
        child = os.fork()
        if child == 0:
            publish_until_killed(sys.argv[1], seed)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            sys.exit(1)


main()
