"""``refused.json``: bounded, replaced as a whole, and no harm where it can't be read or written."""

import json
import math

import pytest

from streamtrain.publish.refusals import REFUSED_FILE, keep_refused, read_refused


def test_the_last_ones_are_kept(tmp_path):
    assert read_refused(tmp_path) == []
    for number in range(25):
        keep_refused(tmp_path, {"time": float(number), "metrics": {"nan": math.nan}})
    assert [one["time"] for one in read_refused(tmp_path)] == list(range(15, 25))
    assert read_refused(tmp_path)[0]["metrics"] == {"nan": None}
    assert [file.name for file in tmp_path.iterdir()] == [REFUSED_FILE]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"refused": 5}', b'{"refused": [1, "x"]}', b"[" * 100_000])
def test_what_is_not_ours_counts_as_nothing(tmp_path, content):
    (tmp_path / REFUSED_FILE).write_bytes(content)
    assert read_refused(tmp_path) == []
    keep_refused(tmp_path, {"time": 1.0})
    assert read_refused(tmp_path) == [{"time": 1.0}]


def test_what_can_t_be_written_is_told(tmp_path, caplog):
    keep_refused(tmp_path / "missing", {"time": 1.0})
    assert "could not be kept" in caplog.text
    keep_refused(tmp_path, {"time": 1.0})
    before = json.loads((tmp_path / REFUSED_FILE).read_text())
    (tmp_path / f".new-{REFUSED_FILE}").mkdir()
    keep_refused(tmp_path, {"time": 2.0})
    assert json.loads((tmp_path / REFUSED_FILE).read_text()) == before
