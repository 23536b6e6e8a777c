"""The daemon with a part that hangs. Usage: daemon_with_fault.py FAULT --config FILE, where FAULT is a part of it:
epoch, reading, judge, publish (before `current` is replaced) or published (after that).
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from streamtrain.daemon import Daemon
from streamtrain.ops.logs import configure
from streamtrain.ops.notify import Notifier


def hang(*_: object, **__: object) -> None:
    threading.Event().wait()


fault, _, config = sys.argv[1:]
if fault == "epoch":
    from streamtrain.train.fit import Optimiser

    Optimiser.epoch = hang
elif fault == "reading":
    from streamtrain.ingest.reading import FileReader

    FileReader.read = hang
elif fault == "judge":
    from streamtrain import judging

    judging.judge = hang
elif fault == "publish":
    from streamtrain.publish.registry import Registry

    Registry._point = hang
elif fault == "published":
    from streamtrain.publish.registry import Registry

    point = Registry._point
    Registry._point = lambda *words: hang(point(*words))
else:
    sys.exit(f"no such fault: {fault}")
daemon = Daemon(
    Path(config),
    Notifier.from_environ(),
    patience_s=1.0,
    configure_logs=lambda service: configure("json", sys.stderr, os.environ),
)
daemon.run()
# As the command does.
sys.stderr.flush()
os._exit(0) if daemon.abandoned else sys.exit(0)
