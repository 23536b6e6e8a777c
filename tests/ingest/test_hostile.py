"""Everything unpleasant in one directory: the good beside it is read within one scan, and nothing else is touched."""

import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
import zstandard
from log_yard import line, lines
from simulated_logs import write_config

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
ODD_NAME = "odd\n\x1b[31mname\x1b]0;title\x07\x9b31m\x7f[bold].jsonl"
MEMORY_MB = 300
CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")  # of either kind, in any encoding that is shown
ODD_ONES = re.compile(rb"(?:fifo|closed|shut) odd")

# What may stand in a line, and how the reason begins; None where it is a sample.
GOOD = line(0)[:-2]
LINES = [
    (GOOD + b', "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    (b'{"a":' * 100_000, ""),
    (b"[" * 100_000, ""),
    (GOOD + b', "id": "\xff\xfe"}', ""),
    (b"\0" * 500, "not JSON"),
    (GOOD + b', "other": "a\0b"}', ""),
    (GOOD + b', "success_rate": 1e400}', ""),
    (GOOD + b', "success_rate": -1e308}', "'success_rate' is -1e+308"),
    (GOOD + b', "success_rate": ' + b"9" * 5000 + b"}", ""),
    (GOOD + b', "success_rate": NaN}', "not JSON: NaN"),
    (GOOD + b', "success_rate": -Infinity}', "not JSON: NaN"),
    (GOOD + b', "lightweight_successful": 7}', "'lightweight_successful' is 7"),
    (GOOD + b', "timestamp": 1e300}', "'timestamp' is"),
    (GOOD + b', "timestamp": "0000-00-00T00:00:00Z"}', "'timestamp' is"),
    (b"{}", ""),
    (b"null", ""),
    (b'"text"', ""),
    (GOOD + b"}" + GOOD + b"}", ""),
    # Samples all the same; what stands in fields that nobody reads is not looked at.
    (GOOD + b', "other": "\xc3\x28", "similarity_score": 506}', None),
    (GOOD + b', "id": "tiny", "similarity_score": 501, "success_rate": 1e-400}', None),
    (GOOD + b', "id": "long", "similarity_score": 502, "success_rate": 0.' + b"0" * 50_000 + b"1}", None),
    (GOOD + b', "id": "twice", "similarity_score": 1, "similarity_score": 503}', None),
    (GOOD + b', "id": "\\ud83d\\ude00\\u0000", "similarity_score": 504}', None),
    (
        GOOD + b', "id": "keys", "similarity_score": 505' + b"".join(b',"%d":0' % key for key in range(90_000)) + b"}",
        None,
    ),
]


def bomb(size: int, piece: bytes) -> bytes:
    """Much in little, in gzip."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(piece * (1 << 20)) for _ in range(size >> 20)) + packer.flush()


def make(logs: Path, secret: Path) -> None:
    for number in range(10):
        (logs / f"{'abyz'[number % 4]}{number}.jsonl").write_bytes(lines(range(10 * number, 10 * number + 10)))
    (logs / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(range(200, 210)).replace(b"\n", b"\r\n"))
    (logs / ODD_NAME).write_bytes(lines(range(210, 220)) + b"\x1b[31mno JSON \x9b\x07\n")
    (logs / os.fsdecode(b"not\xffutf8.jsonl")).write_bytes(lines(range(220, 230)))
    (logs / "lines.jsonl").write_bytes(b"".join(text + b"\n" for text, _ in LINES))
    keys = GOOD + b"".join(b',"key%d":%d' % (key, key) for key in range(1_000_000)) + b"}\n"
    (logs / "keys.jsonl").write_bytes(keys + lines(range(230, 240)))
    wide = logs.with_name("wide")
    wide.mkdir()
    (wide / "keys.jsonl").write_bytes(keys + line(1)[:-2] + b', "similarity_score": 1e999' + keys[len(GOOD) :])
    # The same odd name on what is refused, and on what is quarantined as a whole.
    os.mkfifo(logs / f"fifo {ODD_NAME}")
    (logs / f"closed {ODD_NAME}").write_bytes(lines(range(810, 820)))
    (logs / f"closed {ODD_NAME}").chmod(0)
    (logs / f"damaged {ODD_NAME}").write_bytes(b"\x1f\x8b" + os.urandom(5000))
    (logs / f"foreign {ODD_NAME}").write_bytes(b"PK\x03\x04")
    (logs / f"shut {ODD_NAME}").mkdir(mode=0)
    os.mkfifo(logs / "fifo.log")
    with socket.socket(socket.AF_UNIX) as one:
        # The path of a socket may not be long.
        here = Path.cwd()
        os.chdir(logs)
        try:
            one.bind("socket.log")
        finally:
            os.chdir(here)
    if os.geteuid() == 0:
        os.mknod(logs / "device.log", 0o020666, os.makedev(1, 5))  # /dev/zero: has no end
    (logs / "link.jsonl").symlink_to(secret)
    (logs / "linked").symlink_to(secret.parent)
    (logs / "loop.jsonl").symlink_to("loop.jsonl")
    (logs / "turn").mkdir()
    (logs / "turn" / "around").symlink_to(logs)
    (logs / "closed.jsonl").write_bytes(lines(range(800, 810)))
    (logs / "closed.jsonl").chmod(0)
    (logs / "shut").mkdir(mode=0)
    with (logs / "sparse.log").open("wb") as file:
        file.truncate(5 << 30)
    (logs / "zeros.jsonl.gz").write_bytes(bomb(512 << 20, b"\0"))
    (logs / "blank.jsonl.gz").write_bytes(bomb(64 << 20, b"\n"))
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    zeros = bytes(1 << 20)
    (logs / "zeros.jsonl.zst").write_bytes(b"".join(packer.compress(zeros) for _ in range(512)) + packer.flush())
    (logs / "half.jsonl.gz").write_bytes(gzip.compress(lines(range(600, 700)))[:100])
    (logs / "not.jsonl.gz").write_bytes(b"\x1f\x8b" + os.urandom(5000))
    (logs / "empty.jsonl").write_bytes(b"")
    (logs / "random.log").write_bytes(os.urandom(100_000))
    # The good files are not only the first.
    for number in range(10):
        os.utime(logs / f"{'abyz'[number % 4]}{number}.jsonl", (2_000_000_000 * (number % 2), 2_000_000_000))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    config = write_config(root)
    secret = root / "elsewhere" / "secret.jsonl"
    secret.parent.mkdir()
    secret.write_bytes(lines(range(900, 910)))
    make(root / "logs", secret)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(HERE.parent)])}
    command = [sys.executable, str(HERE / "read_hostile.py"), str(root)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    yield root, config, json.loads(ended.stdout)
    for path in (root / "logs").glob("shut*"):
        path.chmod(0o700)
    shutil.rmtree(root)


@pytest.mark.slow
def test_what_is_good_is_read_within_one_scan(hostile):
    _, _, report = hostile
    assert report["seen"] == [*range(100), *range(200, 240), *range(501, 507)]
    assert report["most"] == 1
    assert report["again"] == 0
    assert report["wide"] == [1, 1]


@pytest.mark.slow
def test_each_bad_line_is_in_quarantine_with_its_reason(hostile):
    _, _, report = hostile
    reasons = {offset: reason for name, offset, reason in report["quarantine"] if name == "lines.jsonl"}
    offset = 0
    for text, expected in LINES:
        assert (offset in reasons) == (expected is not None), text[:300]
        assert expected is None or reasons[offset].startswith(expected), (text[:300], reasons[offset])
        offset += len(text) + 1
    of = {name: reason for name, _, reason in report["quarantine"]}
    assert of["keys.jsonl"] == of["sparse.log"] == "longer than 1048576 bytes"
    for name in ("zeros.jsonl.gz", "zeros.jsonl.zst"):
        assert "longer than" in of[name] or "swells" in of[name]
    assert "gzip is damaged" in of[f"damaged {ODD_NAME}"]
    assert "this is zip" in of[f"foreign {ODD_NAME}"]
    assert "gzip is damaged" in of["not.jsonl.gz"]
    assert report["longest"] <= 4096


@pytest.mark.slow
def test_what_is_no_log_is_left_alone(hostile):
    _, _, report = hostile
    refused = report["refused"]
    specials = {"fifo.log", f"fifo {ODD_NAME}", "socket.log", "link.jsonl", "loop.jsonl"}
    specials |= {"device.log"} if os.geteuid() == 0 else set()
    assert {name: refused.get(name) for name in specials} == dict.fromkeys(specials, "not a regular file")
    closed = {"closed.jsonl", "shut", f"closed {ODD_NAME}", f"shut {ODD_NAME}"}
    assert all("Permission denied" in refused[name] for name in closed)
    assert set(refused) == specials | closed


@pytest.mark.slow
def test_nothing_outside_is_opened_and_memory_stays_small(hostile):
    root, _, report = hostile
    sys.stdout.write(f"{report['peak_mb']:.0f} MB\n")
    assert report["peak_mb"] < MEMORY_MB
    names = {path.name for path in (root / "logs").iterdir()}
    strange = [
        path
        for path in report["opened"]
        if path not in names and not path.startswith((f"{root}/logs", f"{root}/state"))
    ]
    assert strange == []
    assert not any(re.search("secret|elsewhere|around/|link", path) for path in report["opened"])


def command(config, *words):
    return [sys.executable, str(HERE.parent / "ordinary_user.py"), *words, "--config", str(config)]


@pytest.mark.slow
def test_names_and_lines_are_shown_escaped(hostile):
    """In tables, in JSON, one by one, and where it is said what was left alone."""
    root, config, _ = hostile
    (root / "state").mkdir(exist_ok=True)
    for path in root.glob("state.db*"):
        path.rename(root / "state" / path.name)
    environment = os.environ | {"COLUMNS": "400", "PYTHONPATH": str(REPOSITORY)}
    shown = {}
    for words in (
        ["ingest"],
        ["ingest", "--json"],
        ["quarantine", "list", "--limit", "1000"],
        ["quarantine", "list", "--limit", "1000", "--json"],
        ["status"],
        ["status", "--json"],
    ):
        ended = subprocess.run(command(config, *words), cwd=root, env=environment, capture_output=True, check=False)
        shown[" ".join(words)] = ended.stdout + ended.stderr
        assert ended.returncode == 0, (words, shown[" ".join(words)][-2000:])
    rows = json.loads(shown["quarantine list --limit 1000 --json"])
    (number,) = (row["id"] for row in rows if "/damaged odd" in row["path"])
    for more in ([], ["--json"]):
        words = ["quarantine", "show", str(number), *more]
        ended = subprocess.run(command(config, *words), cwd=root, env=environment, capture_output=True, check=True)
        shown[" ".join(words)] = ended.stdout
    for words, text in shown.items():
        assert not CONTROL.search(text), words
        assert (b"]0;title" in text) == (not words.startswith("status")), words
    assert {b"fifo odd", b"closed odd", b"shut odd"} <= set(ODD_ONES.findall(shown["ingest"]))


@pytest.mark.slow
def test_names_are_escaped_in_the_daemons_log(hostile):
    root, _, _ = hostile
    config = write_config(root, "trigger: {min_samples: 100000}\n")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with (root / "err").open("wb") as err:
        process = subprocess.Popen(command(config, "run"), stderr=err, stdout=err, cwd=root, env=environment)
    try:
        deadline = time.monotonic() + 180
        # All of them: a library's warning may quote one of them before the scan has come to the others.
        while not {b"fifo odd", b"closed odd", b"shut odd"} <= set(ODD_ONES.findall((root / "err").read_bytes())):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
        process.wait(120)
    finally:
        process.kill()
        process.wait()
    told = (root / "err").read_bytes()
    assert not CONTROL.search(told)
    assert {b"fifo odd", b"closed odd", b"shut odd"} <= set(ODD_ONES.findall(told))
