"""What the C library is asked for, it does, or says that it does not."""

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

from streamtrain.ops.memory import give_back

GLIBC = platform.libc_ver()[0] == "glibc"


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_free_memory_goes_back():
    # Blocks too small for pages of their own, with something behind them that stays: the heap can't just shrink.
    blocks = [np.full(8000, 1.0) for _ in range(1500)]
    kept = blocks[-1]
    full = resident_bytes()
    del blocks
    assert give_back() or not GLIBC
    if GLIBC:
        assert full - resident_bytes() > 50e6
    assert kept[0] == 1.0


def test_heaps_can_be_shared():
    code = "import sys; from streamtrain.ops.memory import share_arenas; sys.exit(not share_arenas())"
    assert (subprocess.run([sys.executable, "-c", code], check=False).returncode == 0) == GLIBC
