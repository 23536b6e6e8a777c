"""One pass over a directory, as an ordinary user, in a process of its own; says what it saw, opened and took of memory.

Arguments: folder with `logs`. Prints JSON.
"""

import ctypes
import json
import re
import sys
from pathlib import Path

from log_yard import Yard

from streamtrain.ingest.schema import Schema


def drop_privileges() -> None:
    """Root may read everything; without its capabilities it is an owner like any other."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "capset")


def main() -> None:
    root = Path(sys.argv[1])
    drop_privileges()
    opened: set[str] = set()
    sys.addaudithook(lambda event, arguments: opened.add(str(arguments[0])) if event == "open" else None)
    yard = Yard.__new__(Yard)
    yard.root, yard.logs, yard.now, yard.store = root, root / "logs", None, None
    yard.schema, yard.options = Schema(id="id"), {}
    yard.restart()
    opened.clear()
    report = yard.run()
    paths = sorted(opened)
    again = yard.run()
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    quarantine = yard.store.quarantine(10_000)
    seen = yard.seen()
    yard.close()
    json.dump(
        {
            "seen": sorted(seen),
            "most": max(seen.values()),
            "refused": {Path(path).name: reason for path, reason in report.refused},
            "quarantine": [[Path(row.path).name, row.offset, row.reason] for row in quarantine],
            "longest": max(len(row.line) for row in quarantine),
            "opened": paths,
            "again": again.lines,
            "peak_mb": int(peak[1]) / 1024 if peak else 0,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
