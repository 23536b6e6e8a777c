"""CSV and TSV: every record once, whatever happens to the file, and none taken for another."""

import csv
import gzip
import io
import os
import random
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import zstandard
from log_yard import Yard, lines, once
from table_maker import NAMES, header, record, records
from trajectories import decision, outcome

from streamtrain.dataset.window import load
from streamtrain.ingest.schema import Schema, VectorField

RESTARTS = pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
PACKED = {"": bytes, ".gz": gzip.compress, ".zst": lambda data: zstandard.ZstdCompressor().compress(data)}


def again(yard, restart):
    if restart:
        yard.restart()
    return yard.run()


def held(yard):
    return load(yard.store, 1 << 40)


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t"), ("a.csv", ";"), ("a.log", ",")])
def test_every_value_arrives_exactly(yard, name, delimiter, packed):
    chance = random.Random(1)
    values = [[chance.random() for _ in range(5)] for _ in range(3000)]
    table = "".join(
        delimiter.join([f"id{i}", *map(repr, row), "true" if i % 3 else "0.25", str(1_763_838_000_123 + i)]) + "\n"
        for i, row in enumerate(values)
    )
    named = delimiter.join(["id", *yard.schema.features, "lightweight_successful", "timestamp"]) + "\n"
    yard.write(name + packed, PACKED[packed]((named + table).encode()))
    report = yard.run()
    assert (report.lines, report.samples, report.quarantined, report.pending) == (3000, 3000, 0, 0)
    samples = held(yard)
    np.testing.assert_array_equal(samples.features, np.array(values, np.float32))
    np.testing.assert_array_equal(samples.labels, [1.0 if i % 3 else 0.25 for i in range(3000)])
    np.testing.assert_array_equal(samples.timestamps, (1_763_838_000_123 + np.arange(3000)) / 1000)
    assert yard.run().lines == 0


def test_a_table_and_json_of_the_same_records_are_the_same_samples(yard):
    records_ = [
        {
            "id": f"réq,{i}\n" if i % 7 == 0 else i if i % 2 else f"r{i}",
            "session": f'"{i // 3}"',
            **{name: (i * 31 + place) % 97 / 97 for place, name in enumerate(yard.schema.features)},
            "lightweight_successful": i % 3 == 0,
            "timestamp": f"2026-11-23T10:00:{i % 60:02d}.5Z",
            "weight": 0.5 * i if i % 5 else None,
        }
        for i in range(500)
    ]
    schema = replace(yard.schema, session="session", weight="weight")
    text = io.StringIO()
    table = csv.DictWriter(text, records_[0], lineterminator="\r\n")
    table.writeheader()
    table.writerows(records_)
    other = Yard(yard.root / "other", schema) if (yard.root / "other").mkdir() is None else None
    change(yard, schema)
    yard.write("a.csv", text.getvalue().encode())
    yard.run()
    import json

    other.write("a.jsonl", b"".join(json.dumps(one).encode() + b"\n" for one in records_))
    other.run()
    one, two = held(yard), held(other)
    for name in ("features", "labels", "timestamps", "keys", "groups", "weights"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), name)
    shutil.copy(other.logs / "a.jsonl", yard.logs)
    assert (yard.run().samples, len(held(yard).keys)) == (0, 500)
    other.close()


def change(yard, schema):
    yard.schema = schema
    yard.restart()


@RESTARTS
def test_an_appended_table_is_read_on(yard, restart):
    yard.write("a.csv", header()[:20])
    assert again(yard, restart).lines == 0
    yard.append("a.csv", header()[20:])
    assert again(yard, restart).lines == 0
    for number in range(0, 50, 5):
        whole = record(number + 4)
        yard.append("a.csv", records(range(number, number + 4)) + whole[:9])
        report = again(yard, restart)
        assert report.pending == 1
        yard.append("a.csv", whole[9:])
        again(yard, restart)
    assert yard.seen() == once(range(50))
    assert yard.store.counts().n_quarantined == 0


@RESTARTS
@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_a_rotated_table_compressed_afterwards_is_not_read_twice(yard, restart, packed):
    live = yard.write("app.csv", header() + records(range(100)))
    yard.run()
    yard.append("app.csv", records(range(100, 120)))
    live.rename(yard.logs / "app.csv.1")
    yard.write("app.csv", header() + records(range(120, 130)))
    again(yard, restart)
    data = (yard.logs / "app.csv.1").read_bytes() + records(range(130, 135))
    (yard.logs / "app.csv.1").unlink()
    yard.write("app.csv.1" + packed, PACKED[packed](data))
    yard.append("app.csv", records(range(135, 140)))
    report = again(yard, restart)
    assert yard.seen() == once(range(140))
    assert (report.recognised, report.lost_bytes, yard.store.counts().n_quarantined) == (1, 0, 0)


@RESTARTS
def test_copytruncate_with_a_new_header(yard, restart):
    live = yard.write("app.csv", header() + records(range(30)))
    yard.run()
    yard.append("app.csv", records(range(30, 40)))
    shutil.copyfile(live, yard.logs / "app.csv.1")
    os.truncate(live, 0)
    again(yard, restart)
    yard.append("app.csv", header() + records(range(40, 90)))
    again(yard, restart)
    assert yard.seen() == once(range(90))


def test_columns_in_another_order_and_others_between(yard):
    yard.write("a.csv", header() + records(range(10)))
    order = [6, 2, 0, 5, 1, 3, 4]
    other = "note," + ",".join(NAMES[place] for place in order) + "\n"
    for number in range(10, 20):
        values = record(number).decode().strip().split(",")
        other += f"n{number}," + ",".join(values[place] for place in order) + "\n"
    yard.write("b.csv", other.encode())
    yard.run()
    assert yard.seen() == once(range(20))
    assert set(map(tuple, held(yard).features[:, 1:].tolist())) == {(0.5, 0.25, 0.75, 0.125)}


def test_a_header_alone_is_no_finding(yard):
    for name, data in (("a.csv", header()), ("b.csv", header().rstrip()), ("c.csv.gz", gzip.compress(header()))):
        yard.write(name, data)
    report = yard.run()
    assert (report.lines, report.samples, report.quarantined) == (0, 0, 0)
    assert yard.store.quarantine() == []
    yard.append("a.csv", record(1))
    yard.append("b.csv", b"\n" + record(2))
    yard.run()
    assert yard.seen() == once([1, 2])


def test_byte_order_mark_crlf_blank_lines_and_repeated_headers(yard):
    text = b"\n\n" + header() + record(1) + b"\n" + header() + record(2) + b"\r\n\n" + record(3)
    yard.write("a.csv", b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    yard.write(
        "b.csv", header() + b'"' + record(4).replace(b",", b'","').replace(b"\n", b'"\r\n') + header() + record(5)
    )
    report = yard.run()
    assert (report.lines, report.quarantined) == (5, 0)
    assert yard.seen() == once(range(1, 6))


def test_quotes_hold_delimiters_quotes_and_newlines(yard):
    named = b"id,note," + header()
    body = b"".join(
        b'"a,%d","say ""no"", then\n%s",%s' % (number, b"x" * (number % 50), record(number)) for number in range(40_000)
    )
    yard.write("a.csv", named + body)
    report = yard.run()
    assert (report.lines, report.quarantined) == (40_000, 0)
    assert yard.seen() == once(range(40_000))


@RESTARTS
def test_a_record_over_several_lines_waits_for_its_end(yard, restart):
    named, whole = b"note," + header(), b'"one\ntwo\nthree",' + record(1)
    yard.write("a.csv", named + b"x," + record(0))
    for place in range(len(whole)):
        yard.append("a.csv", whole[place : place + 1])
        if place % 3 == 0:
            again(yard, restart)
    report = again(yard, restart)
    assert yard.seen() == once([0, 1])
    assert (report.pending, yard.store.counts().n_quarantined) == (0, 0)


def test_a_quote_without_an_end_costs_its_own_line_only(yard):
    yard.restart(max_line_bytes=4096)
    data = b"note," + header()
    for number in range(2000):
        data += b"%s," % (b'"open' if number in (500, 1998) else b'"a"b' if number == 700 else b"x") + record(number)
    yard.write("a.csv", data)
    yard.run()
    assert yard.seen() == once(number for number in range(2000) if number not in (500, 700, 1998, 1999))
    yard.now = (yard.logs / "a.csv").stat().st_mtime + 11
    yard.restart()
    yard.run()
    assert yard.seen() == once(number for number in range(2000) if number not in (500, 700, 1998))
    reasons = [row.reason for row in yard.store.quarantine()]
    assert reasons[0] == "a quoted field has no end"
    assert reasons[1:] == ["not CSV: ',' expected after '\"'"] * 2


def test_quotes_that_would_be_read_again_and_again_take_one_pass(yard):
    """Each line opens a field that none closes; counted, not timed: it would be 10^10 steps."""
    yard.write("a.csv", b"a,similarity_score\n" + b'a","b\n' * 170_000 + b"x,1\n")
    yard.now = (yard.logs / "a.csv").stat().st_mtime + 11
    report = yard.run()
    assert report.pending == 0
    assert report.quarantined < 20


@pytest.mark.parametrize("extra", [b"", b",1"])
def test_a_wrong_number_of_fields_is_quarantined(yard, extra):
    wrong = record(1).strip() + extra + b"\n" if extra else record(1).rpartition(b",")[0] + b"\n"
    path = yard.write("a.csv", header() + record(0) + wrong + record(2))
    report = yard.run()
    assert (report.lines, report.quarantined) == (3, 1)
    assert yard.seen() == once([0, 2])
    (row,) = yard.store.quarantine()
    assert (row.path, row.offset) == (str(path), len(header() + record(0)))
    assert row.reason == f"{8 if extra else 6} fields, expected 7 as in the header"
    assert row.line == header() + wrong.strip()


BAD = {
    "abc": "'recency_score' is 'abc', expected a number",
    "": "'recency_score' is empty",
    "nan": "'recency_score' is nan, which a 32-bit float can't hold",
    "1e39": "'recency_score' is 1e+39, which a 32-bit float can't hold",
    "1e400": "'recency_score' is inf, which a 32-bit float can't hold",
    "1_0": "'recency_score' is '1_0', expected a number",
    "true": "'recency_score' is 'true', expected a number",
    '"a\0"': "'recency_score' is 'a\\x00', expected a number",
}


@pytest.mark.parametrize("text", BAD)
def test_a_value_that_is_no_number_is_quarantined_with_its_reason(yard, text):
    yard.write("a.csv", header() + record(0) + record(1).replace(b"0.5", text.encode()) + record(2))
    yard.run()
    assert yard.seen() == once([0, 2])
    assert [row.reason for row in yard.store.quarantine()] == [BAD[text]]


def test_other_ways_to_write_a_number_and_a_truth(yard):
    for number, (value, label) in enumerate([(" .5", "True"), ("+0.5", "FALSE"), ("5e-1", "1"), ("0.50 ", "0.0")]):
        yard.append("a.csv", (header() if not number else b"") + record(number).replace(b"0.5", value.encode()))
        yard.write(f"{number}.csv", header() + record(10 + number)[:-2] + label.encode() + b"\n")
    yard.run()
    assert yard.seen() == once([*range(4), *range(10, 14)])
    assert set(held(yard).features[:, 1].tolist()) == {0.5}
    assert sorted(held(yard).labels.tolist()) == [0, 0, 0, 0, 1, 1, 1, 1]


def test_times_of_every_kind_in_one_column(yard):
    kinds = ["1763838000", "1763838001.5", "1763838002000", "2025-11-22T19:00:03Z", "2025-11-22 19:00:04", ""]
    body = b"".join(kind.encode() + record(number)[10:] for number, kind in enumerate(kinds))
    yard.now = 5e9
    yard.write("a.csv", header() + body + b"yesterday" + record(9)[10:])
    yard.run()
    base = 1_763_838_000.0
    assert held(yard).timestamps.tolist() == [base, base + 1.5, base + 2, base + 3, base + 4, 5e9]
    assert yard.store.quarantine()[0].reason.startswith("'timestamp' is 'yesterday', expected seconds")


@pytest.mark.parametrize("name", ["a.csv", "b.tsv.gz"])
def test_a_table_without_a_field_is_one_finding_with_the_likely_cause(yard, name):
    data = b"similarity,recency,ok\n" + b"0.5,0.5,true\n" * 3000
    yard.write(name, gzip.compress(data) if name.endswith("gz") else data)
    report = yard.run()
    assert (report.quarantined, report.samples) == (3000, 0)
    (row,) = yard.store.quarantine()
    assert row.reason == (
        "every line fails (3000 so far): no field 'similarity_score'; the keys are: similarity, recency, ok"
    )


def test_a_field_that_is_there_twice_is_never_guessed(yard):
    yard.write("a.csv", b"similarity_score," + header() + b"1," + record(2) + b"1," + record(3))
    yard.run()
    assert [row.reason for row in yard.store.quarantine()] == [
        "every line fails (2 so far): the field 'similarity_score' is there twice"
    ]


def test_json_under_the_name_of_a_table_and_the_other_way_round(yard):
    yard.write("a.csv", lines(range(5)))
    yard.write("a.jsonl", header() + records(range(5, 10)))
    yard.run()
    assert yard.seen() == once(range(10))


def test_only_json_when_the_configuration_says_so(yard):
    yard.restart(json_only=True)
    yard.write("a.csv", header() + records(range(5)))
    yard.write("b.jsonl", lines(range(5, 10)))
    report = yard.run()
    assert yard.seen() == once(range(5, 10))
    assert report.quarantined == 6


def test_a_last_line_without_its_end_is_taken_only_if_nobody_can_be_writing_it(yard):
    path = yard.write("a.csv", header() + record(1) + record(2)[:-1])
    yard.now = path.stat().st_mtime + 11
    with path.open("ab"):
        assert yard.run().pending == 1
        assert yard.run().pending == 1
    if not leases(path):
        pytest.skip("no leases here")
    assert yard.run().pending == 0
    assert yard.seen() == once([1, 2])
    yard.append("a.csv", b"\n" + record(3))
    yard.run()
    assert yard.seen() == once([1, 2, 3])


def leases(path):
    from streamtrain.ingest.lease import nobody_writes

    descriptor = os.open(path, os.O_RDONLY)
    try:
        return nobody_writes(descriptor)
    finally:
        os.close(descriptor)


def test_a_last_line_whose_last_column_is_not_read_is_taken_after_a_while(yard):
    named = header().strip() + b",note\n"
    path = yard.write("a.csv", named + record(1).strip() + b",x\n" + record(2).strip() + b",cut o")
    with path.open("ab"):
        assert yard.run().pending == 1
        yard.now = path.stat().st_mtime + 11
        assert yard.run().pending == 0
    assert yard.seen() == once([1, 2])


def test_embeddings_and_scores_in_quoted_fields(yard):
    schema = Schema(
        features=VectorField("embedding", 3), scores="scores", prices=(("small", 1.0), ("large", 2.0)), timestamp=None
    )
    change(yard, schema)
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["id", "embedding", "scores"])
    table.writerow(["a", "[0.5, 1, -2e-1]", '{"small": 0.9, "large": 0.92}'])
    table.writerow(["b", "[0.5, 1]", '{"small": 0.9, "large": 0.92}'])
    table.writerow(["c", "[0.5, 1, 2", '{"small": 0.9, "large": 0.92}'])
    table.writerow(["d", "[0.5, 1, 2],[3", '{"small": 0.9, "large": 0.92}'])
    table.writerow(["e", "[0, 0, 0]", '{"small": 0.1, "large": 0.92}'])
    table.writerow(["f", "[0, 0, 0]", '{"small": 0.1}'])
    table.writerow(["g", "[" * 100_000, "{}"])
    yard.write("a.csv", text.getvalue().encode())
    report = yard.run()
    assert (report.samples, report.quarantined) == (2, 5)
    np.testing.assert_array_equal(held(yard).features, np.array([[0.5, 1, -0.2], [0, 0, 0]], np.float32))
    assert held(yard).labels.tolist() == [1.0, 0.0]
    reasons = [row.reason for row in reversed(yard.store.quarantine())]
    assert reasons[0] == "'embedding': Expected 'array' of length >= 3"
    assert all(reason.startswith("'embedding' can't be read") for reason in reasons[1:3])
    assert "fewer than two scores" in reasons[3]


def test_decisions_and_outcomes_in_two_tables_are_joined(tmp_path):
    from streamtrain.ingest.schema import TRAJECTORY

    yard = Yard(tmp_path, replace(TRAJECTORY, features=VectorField("embedding", 4)))
    import json

    for name, make in (("decisions.csv", decision), ("outcomes.csv", outcome)):
        rows = [json.loads(make(number)) for number in range(30)]
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]))
        table.writeheader()
        for row in rows:
            table.writerow({k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()})
        yard.write(name, text.getvalue().encode())
    report = yard.run()
    assert (report.quarantined, report.samples, report.pending) == (0, 30, 0)
    yard.close()


def test_retry_of_records_that_another_schema_reads(yard):
    bad = [record(10 + number).replace(b"0.5", b"none") for number in range(5)]
    named = b"id,other," + header()
    body = b"".join(b'"%d,\n",%f,' % (number, number / 10) + one for number, one in enumerate(bad))
    path = yard.write("a.csv", named + b"x,1," + record(0) + body + b"y,1,2\n")
    yard.run()
    assert yard.store.counts().n_quarantined == 6
    path.unlink()
    assert yard.ingestor.retry().remaining == 6
    features = (yard.schema.features[0], "other", *yard.schema.features[2:])
    change(yard, replace(yard.schema, features=features))
    report = yard.ingestor.retry()
    assert (report.tried, report.samples, report.duplicates, report.remaining) == (6, 5, 0, 1)
    np.testing.assert_allclose(held(yard).features[:, 1], [0, 0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    yard.write("again.csv", path_text(named, body))
    assert (yard.run().samples, len(held(yard).keys)) == (0, 5)


def path_text(named, body):
    return named + body


def test_retry_without_ids_is_the_record_that_reading_it_again_would_be(yard):
    change(yard, replace(yard.schema, id=None))
    body = b"".join(record(10 + number).replace(b"0.5", b"none") for number in range(5))
    yard.write("a.csv", header() + record(0) + body)
    yard.run()
    change(yard, replace(yard.schema, features=yard.schema.features[:1]))
    assert yard.ingestor.retry().samples == 5
    report = yard.run()
    assert (report.samples, report.duplicates) == (1, 5)


def test_a_long_header_leaves_the_record_alone_in_quarantine(yard):
    named = header().strip() + b"," + b"x" * 5000 + b"\n"
    yard.write("a.csv", named + record(1).strip() + b',"a\nb"\n' + record(2).strip() + b"\n")
    yard.run()
    (row,) = yard.store.quarantine()
    assert row.line == record(2).strip()
    assert yard.ingestor.retry().remaining == 1


HOSTILE = {
    "columns": b",".join(b"c%d" % i for i in range(120_000)) + b"," + header() + b"," * 120_000 + record(1),
    "field": b"note," + header() + b"x" * 500_000 + b"," + record(1) + b"y," + record(1),
    "line": b"note," + header() + b"x" * 3_000_000 + b"," + record(2) + b"y," + record(1),
    "quoted line": b"note," + header() + b'"' + b"x\n" * 600_000 + b'",' + record(2) + b"y," + record(1),
    "bytes": b"note," + header() + b"\xff\xfe," + record(1) + b"y\xff," + record(2).replace(b"0.5", b"\xff") + b'"\xff',
    "zeros": b"note," + header() + b"\0\0," + record(1) + b"\0" * 1000 + b"\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tables(yard, name):
    yard.write("a.csv", HOSTILE[name])
    yard.write("b.csv.gz", gzip.compress(b"x" + HOSTILE[name]))
    yard.now = (yard.logs / "a.csv").stat().st_mtime + 11
    report = yard.run()
    seen = yard.seen()
    assert seen[1] >= 1
    assert set(seen) <= {1, 2}
    assert report.lines == report.samples + report.duplicates + report.quarantined
    assert yard.run().lines == 0


def test_splitting_and_parsing_make_the_same_of_a_table(tmp_path):
    """One quote sends a whole block through the other of the two ways."""
    chosen = random.randrange(1 << 32)
    sys.stdout.write(f"seed {chosen}\n")
    chance = random.Random(chosen)
    odd = ["", " .5", "1e400", "nan", "x", "1,2", "1763838000", "2026-01-01T00:00:00Z", "true", "-1", "007", "\r", "\0"]
    for attempt in range(12):
        body = b""
        for number in range(40):
            fields = record(number).decode().strip().split(",")
            if chance.random() < 0.2:
                fields[chance.randrange(7)] = chance.choice(odd)
            body += (",".join(fields) + "\n").encode()
        results = []
        for last in (b"x,0\n", b'"x",0\n'):
            (folder := tmp_path / f"{attempt}{len(results)}{last[:1].hex()}").mkdir()
            yard = Yard(folder, replace(Schema(), id=None))
            yard.now = 5e9
            yard.write("a.csv", header() + body + last)
            yard.run()
            samples = held(yard)
            results.append(
                (
                    samples.features.tolist(),
                    samples.labels.tolist(),
                    samples.timestamps.tolist(),
                    [(row.offset, row.reason) for row in yard.store.quarantine()],
                )
            )
            yard.close()
        assert results[0] == results[1]
