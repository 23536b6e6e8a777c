"""Quarantine: one finding for a file in which every line fails, and a retry that ingests what now works, once."""

import json
import random
from dataclasses import replace

import pytest
import trajectories
from log_yard import Yard, line, lines, once

from streamtrain.dataset.errors import StoreError
from streamtrain.ingest.schema import Schema

OTHER = [json.dumps({"similarity": i, "recency": 0.5, "ok": True}).encode() + b"\n" for i in range(3000)]


def test_a_file_in_which_every_line_fails_is_one_finding_with_the_likely_cause(yard):
    path = yard.write("other.jsonl", b"".join(OTHER))
    yard.write("good.jsonl", lines(range(5)))
    report = yard.run()
    assert (report.lines, report.samples, report.quarantined) == (3005, 5, 3000)
    (row,) = yard.store.quarantine()
    assert (row.path, row.offset, row.line) == (str(path), 0, OTHER[0].rstrip())
    assert row.reason == (
        "every line fails (3000 so far): no field 'similarity_score'; the keys are: similarity, recency, ok"
    )
    yard.append("other.jsonl", b"".join(OTHER[:7]))
    assert yard.run().quarantined == 7
    assert len(yard.store.quarantine()) == 1


def test_it_is_one_finding_over_many_commits(yard):
    yard.restart(commit_bytes=1 << 16)
    yard.write("other.jsonl", b"".join(OTHER) * 10)
    assert yard.run().quarantined == 30_000
    assert len(yard.store.quarantine()) == 1


def test_a_good_line_after_bad_ones_makes_them_lines_of_their_own(yard):
    yard.write("a.jsonl", b"".join(OTHER[:3]) + line(1))
    yard.write("b.jsonl", OTHER[0])
    yard.write("c.jsonl", b"\x00\xff rubbish\n" * 4)
    report = yard.run()
    assert (report.samples, report.quarantined) == (1, 8)
    reasons = [row.reason for row in yard.store.quarantine()]
    assert len(reasons) == 5
    assert sum(reason.startswith("every line fails (4 so far): not") for reason in reasons) == 1
    assert sum("missing required field 'similarity_score'" in reason for reason in reasons) == 4


def test_the_cause_names_few_of_many_keys(yard):
    wide = json.dumps({f"k{i}": i for i in range(100)}).encode() + b"\n"
    yard.write("a.jsonl", wide * 2)
    yard.run()
    assert yard.store.quarantine()[0].reason.endswith("k18, k19 and 80 more")


def changed(yard: Yard, schema: Schema) -> None:
    yard.schema = schema
    yard.restart()


def test_retry_ingests_what_a_new_schema_makes_readable_exactly_once(yard):
    good, bad = lines(range(5)), [line(10 + i).replace(b"similarity_score", b"similarity") for i in range(5)]
    path = yard.write("a.jsonl", good + b"".join(bad) + b"not json\n")
    assert yard.run().quarantined == 6
    path.unlink()
    features = ("similarity", *yard.schema.features[1:])
    assert yard.ingestor.retry().remaining == 6
    changed(yard, replace(yard.schema, features=features))
    report = yard.ingestor.retry()
    assert (report.tried, report.samples, report.duplicates, report.remaining) == (6, 5, 0, 1)
    assert yard.seen() == once(range(10, 15))
    again = yard.ingestor.retry()
    assert (again.tried, again.samples, again.remaining) == (1, 0, 1)
    yard.restart()
    assert yard.seen() == once(range(10, 15))


def test_retry_of_lines_whose_file_was_read_again_adds_nothing(yard):
    bad = [line(10 + i).replace(b"similarity_score", b"similarity") for i in range(5)]
    yard.write("a.jsonl", line(1) + b"".join(bad))
    yard.run()
    changed(yard, replace(yard.schema, features=("similarity", *yard.schema.features[1:])))
    assert yard.run().samples == 5
    report = yard.ingestor.retry()
    assert (report.samples, report.duplicates) == (0, 5)
    assert yard.seen() == once(range(10, 15))


def test_retry_changes_nothing_when_it_cannot_be_committed(yard):
    bad = [line(10 + i).replace(b"similarity_score", b"similarity") for i in range(500)]
    path = yard.write("a.jsonl", line(1) + b"".join(bad))
    yard.run()
    path.unlink()
    changed(yard, replace(yard.schema, features=("similarity", *yard.schema.features[1:])))
    before = yard.store.quarantined_after(0, 1000)
    pages = yard.store._db.execute("PRAGMA page_count").fetchone()[0]
    yard.store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError):
        yard.ingestor.retry()
    assert yard.store.quarantined_after(0, 1000) == before
    assert sum(yard.seen().values()) == 0
    yard.store._db.execute("PRAGMA max_page_count = 1000000")
    assert yard.ingestor.retry().samples == 500


def test_retry_of_halves_joins_them(tmp_path):
    schema = trajectories.schema()
    yard = Yard(tmp_path, schema)
    odd = trajectories.outcome(1, scores={"mini": 1.0, "maxi": 1.0})
    yard.write("a.jsonl", trajectories.decision(1) + odd)
    assert (report := yard.run()).quarantined == 1
    assert report.pending == 1
    changed(yard, replace(schema, prices=(("maxi", 2.0), ("mini", 1.0))))
    (yard.logs / "a.jsonl").write_bytes(trajectories.decision(1))
    yard.run()
    report = yard.ingestor.retry()
    assert (report.samples, report.halves, report.remaining) == (1, 1, 0)
    yard.close()


def test_only_the_beginning_of_a_long_line_is_kept_and_never_retried(yard):
    yard.write("a.jsonl", line(1) + line(2, note="x" * 9000, lightweight_successful=7))
    yard.run()
    (row,) = yard.store.quarantine()
    assert len(row.line) == 4096
    assert yard.ingestor.retry().remaining == 1


def test_the_number_of_lines_kept_is_bounded(yard):
    yard.write("a.jsonl", line(0) + b"".join(b"{%d\n" % random.randrange(10**9) for _ in range(3000)))
    assert yard.run().quarantined == 3000
    assert len(yard.store.quarantine(10_000)) == 1000
    assert yard.store.counts().n_quarantined == 3000
