"""One pass over a directory, as an ordinary user, in a process of its own; says what it saw, opened and took of memory.

Arguments: folder with `logs`. Prints JSON.
"""

import json
import re
import sys
from pathlib import Path

from log_yard import Yard
from ordinary_user import drop_privileges

from streamtrain.ingest.schema import Schema


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
    quarantine = yard.store.quarantine(10_000)
    seen = yard.seen()
    # A million keys in one line are read where lines may be so long; only those that are asked for are looked at.
    yard.logs = root / "wide"
    yard.restart(max_line_bytes=32 << 20)
    wide = yard.run()
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
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
            "wide": [wide.samples, wide.quarantined],
            "peak_mb": int(peak[1]) / 1024 if peak else 0,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
