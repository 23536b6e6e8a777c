"""Where a process is killed: before and after the steps of the commit path, or at any moment, counted in calls."""

import os
import signal
import sys

from streamtrain.dataset import chunks, ledger
from streamtrain.dataset import store as store_module
from streamtrain.dataset.keys import KeyIndex
from streamtrain.dataset.store import Store
from streamtrain.ingest import ingestor as ingestor_module
from streamtrain.ingest.decode import Decoder
from streamtrain.ingest.pile import Pile
from streamtrain.ingest.recognise import Recogniser
from streamtrain.ingest.register import Register

# The commit path from opening to closing; each is killed before and after.
POINTS = {
    "connect": (store_module, "connect"),
    "scan": (ingestor_module, "scan"),
    "find the source": (Recogniser, "find"),
    "decode": (Decoder, "decode_lines"),
    "note the source": (Register, "put_source"),
    "note the file": (Register, "put_file"),
    "note what is gone": (Register, "put_absent"),
    "take the pile": (Pile, "take"),
    "collect changes": (Register, "changes"),
    "commit": (Store, "commit"),
    "tell duplicates": (KeyIndex, "fresh"),
    "insert a chunk": (chunks, "insert"),
    "merge chunks": (chunks, "merge_small"),
    "delete chunks": (chunks, "delete"),
    "write sources": (ledger, "write_sources"),
    "write files": (ledger, "write_files"),
    "write quarantine": (ledger, "write_quarantined"),
    "add keys": (KeyIndex, "add"),
    "checkpoint": (Store, "sync"),
    "close": (Store, "close"),
}


def kill_at(point: str, after: bool, times: int) -> None:
    """Make this process end when it passes a point so many times."""
    owner, name = POINTS[point]
    original = getattr(owner, name)
    left = times

    def wrapped(*arguments, **named):
        nonlocal left
        left -= 1
        if not left and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


def kill_at_event(number: int) -> None:
    """Make this process end at the Nth call or return of a function from here on, Python's or C's."""
    left = number

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
