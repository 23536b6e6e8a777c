"""Decisions and outcomes: joined once, whichever comes first, in whichever file, through restarts and kills."""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import trajectories
from log_yard import Yard
from trajectories import decision, outcome

from streamtrain.dataset.errors import StoreError
from streamtrain.dataset.window import load
from streamtrain.ingest.schema import Schema, VectorField

CHILD = Path(__file__).with_name("join_forever.py")


@pytest.fixture
def pairs(tmp_path):
    yard = Yard(tmp_path, trajectories.schema())
    yield yard
    yard.close()


def labels(yard) -> dict[int, float]:
    window = load(yard.store, 10**6)
    if not len(window.labels):
        return {}
    numbers = window.features[:, 0].astype(int).tolist()
    assert max(Counter(numbers).values(), default=1) == 1
    return dict(zip(numbers, window.labels.tolist(), strict=True))


def expected(numbers) -> dict[int, float]:
    return {number: float(number % 2 == 0) for number in numbers}


def test_a_log_of_decisions_and_outcomes_is_read_unchanged(pairs):
    pairs.write("model-router-trajectories.jsonl", b"".join(decision(i) + outcome(i) for i in range(50)))
    report = pairs.run()
    assert (report.lines, report.samples, report.quarantined, report.pending, report.duplicates) == (100, 50, 0, 0, 0)
    assert labels(pairs) == expected(range(50))
    window = load(pairs.store, 100)
    assert window.features[3].tolist() == [3.0, 0.5, -0.25, 1.0]
    assert window.timestamps[3] == 1_763_838_003.0
    assert len(set(window.groups.tolist())) == 50


def test_outcomes_come_later_in_another_file_before_the_decision_and_never(pairs):
    pairs.write("a.jsonl.1", b"".join(map(decision, range(10))))
    report = pairs.run()
    assert (report.samples, report.pending, report.lines) == (0, 10, 10)
    pairs.restart()
    pairs.write("a.jsonl", b"".join(map(outcome, range(5, 20))))
    report = pairs.run()
    assert (report.samples, report.pending) == (5, 15)
    pairs.restart()
    pairs.append("a.jsonl", b"".join(map(decision, range(10, 15))) + decision(99)[:30])
    report = pairs.run()
    assert (report.samples, report.pending) == (5, 11)
    assert labels(pairs) == expected(range(5, 15))
    assert pairs.store.counts().n_pending == 10


def test_lines_read_twice_are_counted_and_joined_once(pairs):
    both = b"".join(decision(i) + outcome(i) for i in range(20))
    pairs.write("a.jsonl", both)
    pairs.run()
    pairs.restart()
    pairs.write("b.jsonl", b"\n" + both + outcome(3))
    report = pairs.run()
    assert (report.lines, report.samples, report.duplicates, report.pending) == (41, 0, 41, 0)
    assert labels(pairs) == expected(range(20))


def test_the_latest_of_several_that_wait_counts(pairs):
    pairs.write("a.jsonl", decision(1, 10, embedding=[7, 0, 0, 0]) + decision(1, 5) + decision(1, 20))
    pairs.write("b.jsonl", outcome(1, 30, light=False) + outcome(1, 25, light=False))
    assert pairs.run().duplicates == 3
    assert labels(pairs) == {1: 0.0}
    pairs.write("c.jsonl", outcome(2, 30, light=False) + outcome(2, 40, light=True))
    pairs.write("d.jsonl", decision(2, 20))
    pairs.run()
    assert labels(pairs) == {1: 0.0, 2: 1.0}


def test_a_task_that_comes_again_is_another_sample_of_the_same_session(pairs):
    pairs.write("a.jsonl", decision(1, 0) + outcome(1, 1) + decision(1, 500) + outcome(1, 501))
    pairs.write("b.jsonl", decision(1, -500) + outcome(1, -499))  # a file that was late
    assert pairs.run().samples == 3
    window = load(pairs.store, 10)
    assert len(set(window.groups.tolist())) == 1
    assert len(set(window.keys.tolist())) == 3


def test_an_outcome_of_an_earlier_decision_is_not_given_to_a_later_one(pairs):
    pairs.write("a.jsonl", decision(1, 0) + outcome(1, 1) + outcome(1, 2) + decision(1, 500))
    report = pairs.run()
    assert (report.samples, report.pending, report.duplicates) == (1, 1, 1)


def test_without_scores_only_the_cheapest_models_quality_tells(pairs):
    pairs.write(
        "a.jsonl",
        b"".join(decision(i, model="haiku" if i < 4 else "opus") for i in range(6))
        + b"".join(outcome(i, scores=None, quality=0.9 if i % 2 else 0.3) for i in range(6)),
    )
    report = pairs.run()
    assert labels(pairs) == {0: 0.0, 1: 1.0, 2: 0.0, 3: 1.0}
    assert (report.unlabelled, report.pending) == (2, 2)
    # An outcome that says more may still come.
    pairs.append("a.jsonl", outcome(4, 100))
    assert pairs.run().samples == 1
    assert pairs.store.counts().n_unlabelled == 2


def test_what_is_no_half_is_quarantined_with_the_reason(pairs):
    lines = [
        (decision(1, embedding=None), "a decision without 'embedding'"),
        (decision(1, embedding=[1, 2]), "length >= 4"),
        (decision(1, type="feedback"), "type"),
        (decision(1, task_hash=None), "task_hash"),
        (decision(1, ts="yesterday"), "'ts' is 'yesterday'"),
        (outcome(1, scores={"a": 1, "b": 2}), "none has a price"),
        (outcome(1, ts=-5), "'ts' is -5"),
    ]
    pairs.write("a.jsonl", decision(0) + b"".join(text for text, _ in lines) + outcome(0))
    report = pairs.run()
    assert (report.samples, report.quarantined, report.pending) == (1, len(lines), 0)
    rows = pairs.store.quarantine()
    for row, (_, reason) in zip(reversed(rows), lines, strict=True):
        assert reason in row.reason


def test_waiting_is_bounded_by_age_and_expiry_is_counted(pairs):
    pairs.now = time.time()
    pairs.write("a.jsonl", b"".join(map(decision, range(10))))
    assert pairs.run().pending == 10
    pairs.now += 7 * 86400 - 60
    pairs.append("a.jsonl", decision(10))
    assert (pairs.run().pending, pairs.run().expired) == (11, 0)
    pairs.now += 120
    report = pairs.run()
    assert (report.pending, report.expired) == (1, 10)
    assert pairs.run().expired == 0
    assert pairs.store.counts().n_expired == 10
    pairs.append("a.jsonl", b"".join(map(outcome, range(11))))
    assert pairs.run().samples == 1


def test_waiting_is_bounded_by_count(tmp_path):
    from dataclasses import replace

    schema = trajectories.schema()
    yard = Yard(tmp_path, replace(schema, join=replace(schema.join, max_pending=5)))
    yard.write("a.jsonl", b"".join(map(decision, range(8))))
    report = yard.run()
    assert (report.pending, report.expired) == (5, 3)
    yard.append("a.jsonl", b"".join(map(outcome, range(8))))
    assert yard.run().samples == 5
    assert sorted(labels(yard)) == [3, 4, 5, 6, 7]
    yard.close()


def test_a_commit_that_fails_joins_nothing_and_the_next_one_does(pairs):
    pairs.write("a.jsonl", b"".join(map(decision, range(100))))
    pairs.run()
    pairs.append(
        "a.jsonl", b"".join(outcome(i) + decision(1000 + i, embedding=[1000 + i, 0, 0, 0]) for i in range(100))
    )
    pages = pairs.store._db.execute("PRAGMA page_count").fetchone()[0]
    pairs.store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError):
        pairs.run()
    assert labels(pairs) == {}
    pairs.store._db.execute("PRAGMA max_page_count = 1000000")
    report = pairs.run()
    assert (report.samples, report.pending) == (100, 100)


def test_the_label_may_be_a_field_of_the_outcome(tmp_path):
    schema = trajectories.schema(scores=None, quality=None, model=None, prices=(), label="ok", session="user")
    yard = Yard(tmp_path, schema)
    yard.write(
        "a.jsonl",
        b"".join(decision(i, user=f"u{i % 2}") + outcome(i, ok=i % 3 == 0) for i in range(6)) + outcome(9, ok=1.5),
    )
    report = yard.run()
    assert (report.samples, report.quarantined) == (6, 1)
    assert labels(yard) == {i: float(i % 3 == 0) for i in range(6)}
    assert len(set(load(yard.store, 10).groups.tolist())) == 2
    yard.close()


def test_input_ranges_name_the_lines_of_both_halves(pairs):
    pairs.write("a.jsonl", decision(0) + decision(1))
    pairs.run()
    pairs.write("b.jsonl", outcome(1))
    pairs.run()
    ranges = {Path(part.path).name: (part.start, part.end) for part in pairs.store.input_ranges()}
    assert ranges == {"a.jsonl": (len(decision(0)), len(decision(0) + decision(1))), "b.jsonl": (0, len(outcome(1)))}


def test_rows_of_embedding_and_scores(tmp_path):
    yard = Yard(tmp_path, Schema(features=VectorField("embedding", 2), scores="scores", prices=(("l", 9), ("s", 1))))
    rows = [
        {"embedding": [0, 1], "scores": {"s": 0.9, "l": 0.93}},
        {"embedding": [1, 1], "scores": {"s": 0.5, "l": 0.93}, "timestamp": 5},
        {"embedding": [2, 1], "scores": {"s": 0.5}},
        {"embedding": [3, 1], "scores": {"x": 0.5, "y": 1}},
        {"embedding": [4, 1]},
    ]
    yard.write("a.jsonl", b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    report = yard.run()
    assert (report.samples, report.quarantined) == (2, 3)
    assert labels(yard) == {0: 1.0, 1: 0.0}
    yard.close()


def test_killed_at_random_moments(tmp_path):
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    yard = Yard(tmp_path, trajectories.schema())
    yard.close()
    waiting: list[bytes] = []
    number = 0
    for _ in range(15):
        with subprocess.Popen(
            [sys.executable, str(CHILD), str(tmp_path / "state.db"), str(yard.logs)], stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            until = time.monotonic() + chance.uniform(0, 0.1)
            while time.monotonic() < until:
                halves = [(decision(i), outcome(i)) for i in range(number, number + 30)]
                number += 30
                waiting += [half for pair in halves for half in pair]
                chance.shuffle(waiting)
                some = [waiting.pop() for _ in range(len(waiting) // 2)]
                yard.append(f"{chance.choice('ab')}.jsonl", b"".join(some))
            assert child.poll() is None
            child.kill()
    yard.append("c.jsonl", b"".join(waiting))
    yard.restart()
    report = yard.run()
    assert labels(yard) == expected(range(number))
    counts = yard.store.counts()
    assert (counts.n_lines, counts.n_total_ingested, counts.n_duplicates) == (2 * number, number, 0)
    assert (report.pending, counts.n_pending) == (0, 0)
    yard.close()
