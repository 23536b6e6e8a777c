"""Many files at once: all of them are read, each once, with few descriptors, and afterwards none is opened again."""

import json
import os
import subprocess
import sys

import pytest
from log_yard import line, once

READ_WITH_FEW_DESCRIPTORS = """
import json, resource, sys
from pathlib import Path
from streamtrain.dataset.store import Store
from streamtrain.ingest.ingestor import Ingestor, IngestOptions
from streamtrain.ingest.schema import Schema

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
schema = Schema()
with Store(Path(sys.argv[2]), schema.digest) as store:
    report = Ingestor(store, schema, IngestOptions(Path(sys.argv[1]))).run()
    print(json.dumps([report.samples, report.quarantined, len(report.refused), store.counts().n_samples]))
"""


def test_5000_files_with_64_descriptors(yard, tmp_path):
    for number in range(5000):
        (yard.logs / f"{number}.jsonl").write_bytes(line(number))
    command = [sys.executable, "-c", READ_WITH_FEW_DESCRIPTORS, str(yard.logs), str(tmp_path / "few.db")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout) == [5000, 0, 0, 5000]


@pytest.mark.slow
def test_a_burst_of_20000_files(yard, monkeypatch):
    for number in range(20_000):
        (yard.logs / f"{number}.jsonl").write_bytes(line(number))
        os.utime(yard.logs / f"{number}.jsonl", ns=(1, number))
    yard.run()
    yard.run()  # those that had changed just before the first pass are looked at once more
    assert yard.seen() == once(range(20_000))
    opened = []
    plain = os.open

    def counted(path, *arguments, **named):
        opened.append(path)
        return plain(path, *arguments, **named)

    monkeypatch.setattr(os, "open", counted)
    yard.run()
    assert len(opened) == 1  # the directory
    assert yard.seen() == once(range(20_000))
