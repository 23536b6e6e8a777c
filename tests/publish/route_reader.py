"""A process that serves from a models directory with the Python router and writes down what it answered.

Usage: route_reader.py MODELS POLL_S [PUBLIC_KEY]. A line on stdout for each version that it comes to, with its answers
to `PROBES`; within a version, every further answer is compared with the first. Ends when stdin is closed, with one line
that counts.
"""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import select
import sys
from pathlib import Path
from typing import ClassVar

from probes import PROBES

from streamtrain.router.router import NoModelError, Router

_WARM_SWAPS = 50


class Mallinfo(ctypes.Structure):
    """What glibc says of its heap."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def live_bytes() -> int:
    """What is allocated and not freed; exact where PYTHONMALLOC=malloc."""
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Mallinfo
    found = libc.mallinfo2()
    return int(found.uordblks + found.hblkhd)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    rows = PROBES.tolist()
    looked = swaps = without = differing = 0
    warm_live = warm_resident = 0
    key = sys.argv[3] if len(sys.argv) > 3 else None
    with Router(sys.argv[1], poll_interval_s=float(sys.argv[2]), public_key=key) as router:
        version, first = "", []
        while not select.select([sys.stdin], [], [], 0.0005)[0]:
            looked += 1
            try:
                decision = router.route(rows[looked % len(rows)])
            except NoModelError:
                without += 1
                continue
            if decision.version == version:
                differing += decision.confidence != first[looked % len(rows)]
                continue
            # One version for all rows, although the router may swap meanwhile.
            model = router.model
            version, first = model.version or "", [model.score(row) for row in rows]
            sys.stdout.write(json.dumps({"version": version, "scores": first}) + "\n")
            sys.stdout.flush()
            swaps += 1
            if swaps == _WARM_SWAPS:
                warm_live, warm_resident = live_bytes(), resident_bytes()
        told = {"looked": looked, "swaps": swaps, "without": without, "differing": differing}
        told |= {"grown_bytes": live_bytes() - warm_live, "resident_grown_bytes": resident_bytes() - warm_resident}
        sys.stdout.write(json.dumps(told | {"failures": dict(router._failures)}) + "\n")


main()
