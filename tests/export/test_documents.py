"""What docs/exports.md shows works as it stands there, and its figures are what the code says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from make_candidate import make_candidate

from streamtrain.export.c_header import to_c_header
from streamtrain.export.source import read_source

PAGE = (Path(__file__).parents[2] / "docs" / "exports.md").read_text(encoding="utf-8")


def example(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)
    return found


def test_the_c_example_compiles(publish, tmp_path, unavailable):
    if shutil.which("cc") is None:
        unavailable("cc is not installed")
    (tmp_path / "model.h").write_text(to_c_header(read_source(publish(make_candidate(1))), sessions=False).text)
    (tmp_path / "main.c").write_text(example("c") + "int main(void) { return 0; }\n")
    flags = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror")
    done = subprocess.run(["cc", *flags, "main.c", "-o", "main"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.needs_peers
def test_the_onnx_example_runs(publish, tmp_path):
    from streamtrain.export.onnx_graph import to_onnx

    (tmp_path / "model.onnx").write_bytes(to_onnx(read_source(publish(make_candidate(1))), sessions=False))
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        names: dict[str, object] = {}
        exec(example("python"), names)
    finally:
        os.chdir(before)
    assert names["confidence"].shape == (1,)


def test_the_sizes_are_those_that_are_printed(publish):
    source = read_source(publish(make_candidate(1)))
    for sessions, row in ((False, "requests by themselves"), (True, "sessions")):
        header = to_c_header(source, sessions=sessions)
        total = header.weight_bytes + header.constant_bytes
        expected = f"| {row} | {header.weight_bytes} + {header.constant_bytes} = {total:,} bytes |"
        assert expected in PAGE
        assert f"| {header.stack_bytes} bytes |" in PAGE
