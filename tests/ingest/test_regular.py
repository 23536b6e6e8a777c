"""Lines that are alike: what is read without decoding is, to the last bit, what decoding gives; the rest is left."""

import json
import random
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamtrain.ingest.decode import Decoder
from streamtrain.ingest.regular import RegularLines
from streamtrain.ingest.schema import TRAJECTORY, Schema, VectorField
from streamtrain.ingest.slices import SliceNames
from streamtrain.types import Samples

NOW = 1234.5
GUIDE = Schema()
FULL = Schema(
    features=("a", "b c"),
    label="y",
    timestamp="t",
    id="id",
    session="s",
    teacher="q",
    weight="w",
    propensity="p",
    slice="task",
)
# Numbers of every form, and what looks like one.
NUMBERS = [
    *(
        "0",
        "1",
        "-1",
        "0.0",
        "-0",
        "-0.0",
        "1.0",
        "0.5",
        "-0.25",
        "7",
        "12",
        "00",
        "01.5",
        "1.",
        ".5",
        "-",
        "+1",
        "1e5",
    ),
    *("1E-05", "9.7e-05", "9.7E-05", "9.7e+05", "2e", "0e0", "-0e0", "1e400", "1e-400", "0.12345678", "0.123456789"),
    *("0.1234567890123456", "0.12345678901234567", "0.30000000000000004", "9.007199254740993", "3.4028236e38"),
    *(
        "9007199254740993",
        "12345678",
        "123456789",
        "1234567890123456",
        "12345678901234567890",
        "1" * 400,
        "0." + "3" * 99,
    ),
    *(
        "1763838000",
        "1763838000.123",
        "1763838000123",
        "1763838000.123456",
        "99999999.99999999",
        "1.5.5",
        "1_0",
        "0x1p3",
    ),
    *("NaN", "Infinity", "true", "false", "null", "tru", "truee", '"1"', "[]", "{}", "", " 1", "1 ", "１"),
]
TEXTS = [
    *(
        '""',
        '"r"',
        '"req-000000000001"',
        '"req-000000000002"',
        '"req-00000000001"',
        '"12345678"',
        '"a b"',
        '"é"',
        '"e\\u0301"',
    ),
    *(
        '"a\\"b"',
        '"a\\\\"',
        '"\\n"',
        '"\t"',
        '"\x7f"',
        '"\x1f"',
        '"',
        '"a',
        "5",
        "-5",
        "0",
        "05",
        "123456789012",
        "1.5",
        "true",
    ),
    *(
        "null",
        "[1]",
        '{"id":1}',
        '"' + "x" * 127 + '"',
        '"' + "x" * 128 + '"',
        '"' + "x" * 300 + '"',
        '"\x00"',
        '"}"',
        '",\\"',
    ),
]
TIMES = [
    *(
        '"2026-11-23T10:00:00.123Z"',
        '"2026-11-23T10:00:00.124Z"',
        '"2026-02-29T10:00:00.123Z"',
        '"2024-02-29T23:59:59.999Z"',
    ),
    *(
        '"2026-11-23T10:00:60.000Z"',
        '"2026-11-23T24:00:00.000Z"',
        '"1969-11-23T10:00:00.123Z"',
        '"2026-00-23T10:00:00.123Z"',
    ),
    *(
        '"2026-11-23T10:00:00Z"',
        '"2026-11-23T10:00:00.123456Z"',
        '"2026-11-23T10:00:00.123+00:00"',
        '"2026-11-23 10:00:00.123Z"',
    ),
    *(
        '"2026-11-23t10:00:00.123z"',
        '"2026-11-23T10:00:00.12\\"Z"',
        '"2026-11-23T10:00:00.123Y"',
        '"9999-12-31T23:59:59.999Z"',
    ),
    *('"2026-11-23T10:00:00.123+01:00"', '"1970-01-01T00:00:00.000Z"', '"2026-11-23T1a:00:00.123Z"', '"yesterday"'),
]


def decoded_both_ways(text: bytes, schema: Schema):
    """Decode as the daemon does, and without looking for lines that are alike; how many of them there were."""
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == 10)
    if not text.endswith(b"\n"):
        ends = np.append(ends, len(text))
    names = SliceNames(), SliceNames()
    ours, plain = (Decoder(schema, lambda: NOW, noted) for noted in names)
    plain._regular = None
    n_alike = 0
    read = ours._regular.read

    def counted(*arguments):
        nonlocal n_alike
        found = read(*arguments)
        n_alike += 0 if found is None else int(found[1].sum())
        return found

    ours._regular.read = counted
    both = ours.decode_lines(text, ends, 9, 1000), plain.decode_lines(text, ends, 9, 1000)
    assert names[0].take() == names[1].take()
    return *both, n_alike


def check(text: bytes, schema: Schema = GUIDE) -> int:
    ours, plain, n_alike = decoded_both_ways(text, schema)
    assert (ours.n_lines, ours.bad, ours.halves) == (plain.n_lines, plain.bad, plain.halves)
    for column in fields(Samples):
        got, expected = getattr(ours.samples, column.name), getattr(plain.samples, column.name)
        assert got.dtype == expected.dtype, column.name
        assert got.shape == expected.shape, column.name
        assert got.tobytes() == expected.tobytes(), column.name
    return n_alike


def guide_line(number: int, chance: random.Random, **other) -> str:
    record = {"id": f"req-{number:012x}", "timestamp": f"2026-11-23T10:{number // 60 % 60:02}:{number % 60:02}.123Z"}
    record |= {name: round(chance.random(), 6) for name in GUIDE.feature_names}
    return json.dumps(record | {"lightweight_successful": chance.random() < 0.5} | other)


def full_line(chance: random.Random, **given: str) -> str:
    """Every field of a schema that has all of them, as JSON text, and two that no one asks for."""
    tokens = {
        "a": f"{chance.random():.4f}",
        "b c": f"{chance.uniform(-900, 900):.3f}",
        "id": str(chance.randrange(10**9, 10**10)),
        "s": f'"session {chance.randrange(1000)}"',
        "note": '"' + "n" * chance.randrange(40) + '"',
        "n": "null",
        "y": f"{chance.random():.2f}",
        "t": f"{1763838000 + chance.random() * 1000:.3f}",
        "q": f"{chance.random():.5f}",
        "w": str(chance.randrange(1, 9)),
        "p": f"{chance.uniform(0.1, 1):.3f}",
        "retries": str(chance.randrange(3)),
        "task": f'"task {chance.randrange(20)}"',
    }
    return "{" + ", ".join(f'"{name}": {token}' for name, token in (tokens | given).items()) + "}"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":"), (" ,\t", " : ")])
def test_lines_of_a_log_are_all_read_so(end, separators):
    chance = random.Random(1)
    records = [json.loads(guide_line(number, chance)) for number in range(500)]
    text = "".join(json.dumps(record, separators=separators) + end for record in records).encode()
    assert check(text) == 500
    assert check(text[: -len(end)] + b"\n") >= 499


def test_every_kind_of_field_is_read_so():
    chance = random.Random(2)
    text = "\n".join(full_line(chance) for _ in range(500)).encode()
    assert check(text, FULL) == 500


@pytest.mark.parametrize("values", [["1", "25", "-3"], ["1.50", "0.25"], ["true", "false"], ['"a"', '""', '"b c"']])
def test_slices_of_every_kind_are_read_so(values):
    chance = random.Random(10)
    text = "\n".join(full_line(chance, task=chance.choice(values)) for _ in range(500)).encode()
    assert check(text, FULL) > 300


def test_optional_fields_may_lack():
    chance = random.Random(3)
    lines = [
        json.dumps({"a": round(chance.random(), 3), "b c": 1, "y": True, "id": None, "more": "x" * (number % 9)})
        for number in range(100)
    ]
    assert check("\n".join(lines).encode(), FULL) == 100


def test_a_session_that_is_the_id():
    chance = random.Random(4)
    lines = [guide_line(number // 2, chance) for number in range(100)]
    assert check("\n".join(lines).encode(), Schema(session="id")) == 100


def test_few_of_many_are_decoded_and_stay_in_their_place():
    chance = random.Random(5)
    lines = [guide_line(number, chance) for number in range(300)]
    lines[7] = lines[7].replace(" ", "")
    lines[8] = '{"id": 5}'
    lines[9] = "no JSON"
    lines[10] = " "
    lines[200] = guide_line(200, chance, similarity_score=1.5e300)
    lines[201] = guide_line(201, chance, lightweight_successful=2)
    lines[299] = lines[299][:-1]
    assert check("\n".join(lines).encode()) == 293


@pytest.mark.parametrize(
    "schema", [TRAJECTORY, Schema(features=VectorField("v", 3)), Schema(scores="s", prices=(("a", 1),))]
)
def test_other_schemas_are_left_alone(schema):
    assert Decoder(schema, lambda: NOW)._regular is None


@pytest.mark.parametrize(
    "schema",
    [Schema(id="lightweight_successful"), Schema(features=("a", "a")), Schema(weight="id"), Schema(slice="id")],
)
def test_a_field_that_is_two_things_is_left_alone(schema):
    assert not RegularLines.possible(schema)


def test_after_another_program_writes_the_log_its_lines_are_learned():
    chance = random.Random(6)
    decoder = Decoder(GUIDE, lambda: NOW)
    calls = []
    plain = decoder._json

    class Counting:
        def decode(self, line):
            return plain.decode(line)

        def decode_lines(self, view):
            calls.append(len(view))
            return plain.decode_lines(view)

    decoder._json = Counting()
    for extra in ({}, {"region": "eu"}):
        for batch in range(20):
            text = "\n".join(guide_line(batch * 100 + line, chance, **extra) for line in range(100)).encode()
            ends = np.append(np.flatnonzero(np.frombuffer(text, np.uint8) == 10), len(text))
            assert len(decoder.decode_lines(text, ends, 1, 0).samples.keys) == 100
    assert 1 <= len(calls) <= 10


# Seeds, so that thousands of lines cost one draw.
@settings(max_examples=150)
@given(st.integers(0, 2**32), st.sampled_from([0.01, 0.1, 0.5]))
@example(27800, 0.5)
def test_mutated_bytes(seed, share):
    chance = random.Random(seed)
    full = chance.random() < 0.5
    lines = [(full_line(chance) if full else guide_line(number, chance)).encode() for number in range(150)]
    for index, line in enumerate(lines):
        if chance.random() < share:
            for _ in range(chance.randrange(1, 3)):
                place = chance.randrange(len(line))
                byte = bytes([chance.choice(b'"\\{}[],:. \t\r0123456789-+eEtfn\x00\x1f\x80\xc3\xffaz')])
                line = line[:place] + chance.choice([byte, b"", byte + line[place : place + 1]]) + line[place + 1 :]
            lines[index] = line
    check(b"\n".join(lines), FULL if full else GUIDE)


@settings(max_examples=150)
@given(st.integers(0, 2**32), st.sampled_from([0.02, 0.3]))
def test_values_of_every_form(seed, share):
    chance = random.Random(seed)
    lines = []
    for _ in range(150):
        given = {}
        for name in ("a", "b c", "y", "t", "q", "w", "p", "retries", "id", "s", "note", "n", "task"):
            if chance.random() < share:
                texts = dict.fromkeys(("id", "s", "note"), TEXTS) | {"t": TIMES + NUMBERS, "task": TEXTS + NUMBERS}
                given[name] = chance.choice(texts.get(name, NUMBERS))
        lines.append(full_line(chance, **given))
    check("\n".join(lines).encode(), FULL)


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.sampled_from([0.05, 1.0]))
def test_times_of_every_form(seed, share):
    chance = random.Random(seed)
    usual = chance.choice(TIMES)
    lines = [full_line(chance, t=chance.choice(TIMES) if chance.random() < share else usual) for _ in range(100)]
    check("\n".join(lines).encode(), FULL)


@settings(max_examples=100)
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=100, max_size=100),
    st.sampled_from([repr, "{:.3f}".format, "{:.9f}".format, "{:.15f}".format, "{:g}".format, "{:.0f}".format]),
)
def test_numbers_round_as_decoding_rounds_them(values, shown):
    check("\n".join(f'{{"a": {shown(value)}, "b c": {shown(value % 1)}, "y": 1}}' for value in values).encode(), FULL)


def test_the_same_fields_twice_or_in_another_order():
    chance = random.Random(8)
    twice = [guide_line(number, chance)[:-1] + ', "similarity_score": 0.5}' for number in range(100)]
    assert check("\n".join(twice).encode()) == 0
    lines = [guide_line(number, chance) for number in range(100)]
    lines[::9] = [json.dumps(dict(reversed(json.loads(line).items()))) for line in lines[::9]]
    assert check("\n".join(lines).encode()) == 88


def test_a_block_that_comes_after_a_longer_one():
    """Nothing of the longer one is left behind the shorter one's end."""
    chance = random.Random(9)
    decoder = Decoder(GUIDE, lambda: NOW)
    for n in (500, 100):
        text = "\n".join(guide_line(number, chance) for number in range(n)).encode()[:-1]
        ends = np.append(np.flatnonzero(np.frombuffer(text, np.uint8) == 10), len(text))
        got = decoder.decode_lines(text, ends, 1, 0)
        assert (len(got.samples.keys), len(got.bad)) == (n - 1, 1)
