"""Pulls once, and is killed before or after a step: ``killed_puller.py URL DIR STEP before|after``."""

import os
import signal
import sys

from streamtrain.fleet import accepted as accepted_module
from streamtrain.fleet import mirror as mirror_module
from streamtrain.fleet import pull as pull_module
from streamtrain.fleet.mirror import Mirror
from streamtrain.fleet.pull import Puller
from streamtrain.publish import registry as registry_module
from streamtrain.publish.ledger import Ledger

STEPS = {
    "acquire": (Mirror, "acquire"),
    "download": (pull_module, "download"),
    "check": (Mirror, "check"),
    "accept": (Mirror, "accept"),
    "write the pointer": (accepted_module, "write_file"),
    "move": (mirror_module, "move_directory"),
    "point": (registry_module, "point_link"),
    "receipt": (Ledger, "record_done"),
    "retire": (Mirror, "_retire"),
    "swap": (Mirror, "swap"),
}


def main() -> None:
    url, models, step, when = sys.argv[1:]
    owner, name = STEPS[step]
    original = getattr(owner, name)

    def killed(*arguments, **named):
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        original(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, killed)
    with Mirror(models, keep=2) as mirror:
        Puller(url, mirror).once()


if __name__ == "__main__":
    main()
