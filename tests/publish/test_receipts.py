from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streamtrain.publish.receipts import Receipts

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "receipts.jsonl"


def test_receipts_come_back_in_order(file):
    receipts = Receipts(file)
    assert receipts.read() == []
    assert receipts.read(3) == []
    for n in range(5):
        receipts.append({"n": n, "text": "ä\nb"})
    assert [receipt["n"] for receipt in receipts.read()] == [0, 1, 2, 3, 4]
    assert [receipt["n"] for receipt in receipts.read(2)] == [3, 4]
    assert receipts.read(0) == []
    assert receipts.read(99) == receipts.read()
    assert file.read_bytes().count(b"\n") == 5


def test_the_newest_are_read_from_the_end_of_a_long_file(file):
    with file.open("w") as stream:
        stream.writelines(json.dumps({"n": n, "padding": "x" * (n % 700)}) + "\n" for n in range(3000))
    for limit in (1, 10, 300, 2999, 3000, 4000):
        expected = list(range(max(0, 3000 - limit), 3000))
        assert [receipt["n"] for receipt in Receipts(file).read(limit)] == expected


def test_a_torn_line_costs_only_itself(file):
    receipts = Receipts(file)
    receipts.append({"n": 1})
    whole = file.read_bytes()
    for length in range(1, len(whole)):
        file.write_bytes(whole + whole[:length])
        assert [r["n"] for r in receipts.read()] in ([1], [1, 1])
        receipts.append({"n": 2})
        found = [receipt["n"] for receipt in receipts.read()]
        # Torn just before its line break, the line is whole and counts.
        assert found == ([1, 1, 2] if length == len(whole) - 1 else [1, 2])


@pytest.mark.parametrize("rubbish", [b"\xff\xfe\n", b"[1]\n", b"\n\n", b"null\n", b"[" * 100_000 + b"\n"])
def test_rubbish_is_skipped(file, rubbish):
    file.write_bytes(b'{"n": 1}\n' + rubbish)
    Receipts(file).append({"n": 2})
    assert [receipt["n"] for receipt in Receipts(file).read()] == [1, 2]


def test_what_json_cannot_hold_writes_nothing(file):
    with pytest.raises(ValueError, match="JSON"):
        Receipts(file).append({"n": float("nan")})
    assert not file.exists()


def test_many_writers_do_not_mix_their_lines(file):
    def write(start):
        for n in range(start, start + 50):
            Receipts(file).append({"n": n, "padding": "x" * n})

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 50, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(receipt["n"] for receipt in Receipts(file).read()) == list(range(150))


def test_a_line_torn_by_a_crash_costs_itself_alone(file):
    file.write_bytes(b'{"n": 1}\n{"n": 2, "pad')
    Receipts(file).append({"n": 3})
    assert file.read_bytes().splitlines()[1].startswith(b'{"n": 2')
    assert [receipt["n"] for receipt in Receipts(file).read()] == [1, 3]


def test_a_write_cut_short_is_an_error_and_is_taken_back(file):
    """A file-size limit makes the kernel itself write half a line, as a full disk does."""
    code = f"""
import resource, signal
from pathlib import Path
from streamtrain.publish.receipts import Receipts
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
receipts = Receipts(Path({str(file)!r}))
receipts.append({{"n": 1}})
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
try:
    receipts.append({{"n": 2, "padding": "x" * 100}})
except OSError as error:
    print(error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
receipts.append({{"n": 3}})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "No space left on device"
    assert len(file.read_bytes().splitlines()) == 2
    assert [receipt["n"] for receipt in Receipts(file).read()] == [1, 3]
