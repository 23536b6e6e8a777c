"""A yard for every test that wants one, and programs run where calls can be made to fail."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from log_yard import Yard

HERE = Path(__file__).parent


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def run_beside(tmp_path_factory, unavailable) -> Callable[..., Any]:
    """`run_beside(script, *arguments)`: run a program of this folder with `faulty_io.c` preloaded; what it prints."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        unavailable("no C compiler for the library that makes calls fail")
    library = tmp_path_factory.mktemp("faulty") / "faulty_io.so"
    subprocess.run(
        [str(compiler), "-shared", "-fPIC", "-O1", "-Wall", "-o", library, HERE / "faulty_io.c", "-ldl"], check=True
    )
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), str(HERE.parent)]),
    }

    def run(script: str, *arguments: object) -> Any:
        command = [sys.executable, str(HERE / script), *map(str, arguments)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr[-4000:]
        return json.loads(ended.stdout)

    return run
