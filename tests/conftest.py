"""What every test may rely on: the repository's own compile cache, skips that CI doesn't allow, the shared data."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
from pathlib import Path

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
PEERS = ("torch", "sklearn", "onnx", "onnxruntime")

# The float64 oracle and the hand-driven kernel lie beside this file; appended, so that they hide nothing.
sys.path.append(str(REPOSITORY / "tests"))


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled kernels in the repository, not in the home folder of whoever runs it; give no test a deadline."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # In the background of a shell SIGINT is ignored, and by all that is started from here.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("NUMBA_CACHE_DIR", str(REPOSITORY / ".cache" / "numba"))
    hypothesis.settings.register_profile("unhurried", hypothesis.settings(), deadline=None)
    hypothesis.settings.load_profile("unhurried")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine can't run, and say why; in CI that is a failure."""
    for marker in item.iter_markers():
        missing = _missing(marker.name)
        if missing is not None:
            unavailable(missing)


def unavailable(reason: str) -> None:
    """Skip the running test for `reason`, or fail it where ``CI=true``."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"skipped, which CI doesn't allow: {reason}", pytrace=False)
    pytest.skip(reason)


def _missing(marker: str) -> str | None:
    if marker == "needs_peers":
        absent = [name for name in PEERS if importlib.util.find_spec(name) is None]
        return f"not installed: {', '.join(absent)} (the extra `peers`)" if absent else None
    if marker == "needs_data":
        return None if SHARED_DATA.is_dir() else "no shared routing outcomes at ../shared/data"
    if marker == "needs_npm":
        return None if shutil.which("npm") else "no npm on the path"
    if marker == "needs_browser":
        return None if Path("/usr/bin/chromium").exists() else "no /usr/bin/chromium (Debian's package chromium)"
    if marker == "needs_root":
        return None if os.geteuid() == 0 and shutil.which("systemctl") else "needs root and systemd"
    return None


@pytest.fixture(scope="session", name="unavailable")
def unavailable_fixture():
    """`unavailable(reason)`: skip the running test, or fail it in CI."""
    return unavailable


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared routing outcomes."""
    if not SHARED_DATA.is_dir():
        unavailable("no shared routing outcomes at ../shared/data")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_dancer_folder(unavailable):
    """A folder in which Node finds the released Tiny Dancer, installed by npm once and kept."""
    from npm_folder import TINY_DANCER, npm_folder

    return npm_folder(unavailable, TINY_DANCER)
