"""A process that serves from a models directory with the Python router and writes down what it answered.

Usage: route_reader.py MODELS POLL_S [PUBLIC_KEY]. A line on stdout for each version that it comes to, with its answers
to `PROBES`; within a version, every further answer is compared with the first. Ends when stdin is closed, with one line
that counts.
"""

from __future__ import annotations

import gc
import json
import resource
import select
import sys
from pathlib import Path

from probes import PROBES

from streamtrain.router.router import NoModelError, Router

_WARM_SWAPS = 50


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    rows = PROBES.tolist()
    looked = swaps = without = differing = 0
    resident = 0
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
                resident = resident_bytes()
        told = {"looked": looked, "swaps": swaps, "without": without, "differing": differing}
        told["grown_bytes"] = resident_bytes() - resident
        sys.stdout.write(json.dumps(told | {"failures": router._follower._failures}) + "\n")


main()
