from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from streamtrain.ingest.golden import GoldenError, read_golden
from streamtrain.ingest.schema import TRAJECTORY, Schema, VectorField

SCHEMA = Schema(features=("a", "b"), label="ok")
LINES = b'{"a": 1, "b": 2, "ok": true}\n\n{"b": 0.5, "a": 0, "ok": 0, "why": "asked for"}\r\n{"a": 3, "b": 4, "ok": 1}'


def test_cases_are_lines_as_in_the_log(tmp_path: Path) -> None:
    file = tmp_path / "golden.jsonl"
    file.write_bytes(LINES)
    cases = read_golden(file, SCHEMA)
    assert cases.names == ("line 1", "line 3", "line 4")
    assert cases.samples.features.tolist() == [[1, 2], [0, 0.5], [3, 4]]
    assert cases.samples.labels.tolist() == [1, 0, 1]
    assert len(np.unique(cases.samples.groups)) == 3


def test_an_array_and_sessions(tmp_path: Path) -> None:
    file = tmp_path / "golden.jsonl"
    schema = Schema(features=VectorField("e", 3), label="ok", session="s")
    file.write_bytes(b'{"e": [1, 2, 3], "ok": 1, "s": "x"}\n{"e": [4, 5, 6], "ok": 0, "s": "x"}\n')
    cases = read_golden(file, schema)
    assert cases.samples.features.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert len(np.unique(cases.samples.groups)) == 1
    assert cases.samples.timestamps[0] <= cases.samples.timestamps[1]


def test_of_a_log_that_joins_lines_golden_ones_are_whole(tmp_path: Path) -> None:
    file = tmp_path / "golden.jsonl"
    embedding = ", ".join(["0.5"] * 384)
    file.write_text(f'{{"embedding": [{embedding}], "{TRAJECTORY.label}": 1}}\n')
    assert read_golden(file, TRAJECTORY).samples.features.shape == (1, 384)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"", "it has no case; each line is a JSON object with the features and 'ok'"),
        (b"\n \n", "it has no case"),
        (b'{"a": 1, "b": 2, "ok": true}\n{"a": 1, "ok": true}\n', "line 2: "),
        (b'\n{"a": 1, "b": 2, "ok": 1.5}\n', "line 2: "),
        (b'{"a": 1, "b": 2}\n', "line 1: "),
        (b'{"a": NaN, "b": 2, "ok": 1}\n', "line 1: not JSON: NaN"),
        (b"label,a,b\n1,2,3\n" * 4, "and 3 more"),
        (b'{"a": 1, "b": 2, "ok": "\xff"}\n', "line 1: "),
    ],
)
def test_a_line_that_is_no_case_is_named(tmp_path: Path, text: bytes, complaint: str) -> None:
    file = tmp_path / "golden.jsonl"
    file.write_bytes(text)
    with pytest.raises(GoldenError) as caught:
        read_golden(file, SCHEMA)
    assert complaint in str(caught.value)
    assert str(file) in str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(GoldenError, match="No such file"):
        read_golden(tmp_path / "missing", SCHEMA)
    with pytest.raises(GoldenError, match=r"not a regular file|Is a directory"):
        read_golden(tmp_path, SCHEMA)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GoldenError, match="not a regular file"):
        read_golden(tmp_path / "pipe", SCHEMA)
