"""The machine that a run was made on, and the one thread that every contestant gets."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
OUT = REPOSITORY / "bench" / "out"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
PACKAGES = ("numpy", "numba", "torch", "scikit-learn")
_WIDTHS = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}


def allow_one_thread() -> None:
    """Start this program again with one thread for every library, if it was not started so: they read it at import."""
    wanted = dict.fromkeys(THREADS, "1")
    if any(os.environ.get(name) != "1" for name in THREADS):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})
    os.environ.setdefault("NUMBA_CACHE_DIR", str(REPOSITORY / ".cache" / "numba"))


def describe() -> dict[str, str]:
    """What a reader needs to judge the figures by."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "processors": f"{len(os.sched_getaffinity(0))} visible, one thread used by each contestant",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "versions": ", ".join([f"Python {platform.python_version()}", *_packages(), *_node()]),
        "other load": f"{os.getloadavg()[0]:.2f} runnable tasks on average in the minute before the run",
    }


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"model name\s*:\s*(.+)", text)
    name = found.group(1).strip() if found else platform.processor() or platform.machine()
    flags = set(text.split())
    widest = next((label for flag, label in _WIDTHS.items() if flag in flags), None)
    return f"{name} ({widest})" if widest else name


def _packages() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} (not installed)")
    return found


def _node() -> list[str]:
    node = shutil.which("node")
    if node is None:
        return ["Node (not installed)"]
    return [f"Node {subprocess.run([node, '--version'], capture_output=True, text=True, check=True).stdout.strip()}"]
