"""Tables of numbers: the same as visiting every object, or a refusal where the kinds are not what they should be."""

import msgspec
import numpy as np
import pytest

from streamtrain.ingest.packing import BOOL_BYTES, FLOAT_BYTES, Table

Row = msgspec.defstruct("Row", [("a", float), ("b", float), ("y", bool | float), ("t", float | str | None)])


def rows_of(n, label=float, time=float):
    rng = np.random.default_rng(n)
    return [
        Row(float(rng.normal() * 10.0 ** rng.integers(-300, 300)), -0.0, label(rng.integers(2)), time(rng.random()))
        for _ in range(n)
    ]


@pytest.mark.parametrize("n", [0, 1, 15, 16, 1000, 70_000])
@pytest.mark.parametrize("label", [bool, float])
def test_same_as_visiting_every_object(n, label):
    rows = rows_of(n, label)
    features, others = Table(["a", "b"], 2, False, ["y", "t"]).read(
        rows, (BOOL_BYTES if label is bool else FLOAT_BYTES, FLOAT_BYTES)
    )
    assert features.tolist() == [[row.a, row.b] for row in rows]
    assert others[0].tolist() == [float(row.y) for row in rows]
    assert others[1].tolist() == [row.t for row in rows]
    assert features.dtype == others[0].dtype == others[1].dtype == np.float64


def test_kinds_that_differ_are_refused_wherever_they_are():
    table = Table(["a", "b"], 2, False, ["y", "t"])
    for wrong in (0, 7, 19):
        for value in (True, 0.5):
            rows = rows_of(20, bool if value is not True else float)
            rows[wrong].y = value
            assert table.read(rows, (FLOAT_BYTES, FLOAT_BYTES)) is None
            assert table.read(rows, (BOOL_BYTES, FLOAT_BYTES)) is None
        rows = rows_of(20)
        rows[wrong].t = None
        assert table.read(rows, (FLOAT_BYTES, FLOAT_BYTES)) is None


def test_lengths_that_cancel_are_refused_too():
    """A bool is eight bytes shorter than a float, and a text of sixteen letters eight bytes longer."""
    rows = rows_of(20)
    rows[3].y = True
    rows[4].t = "sixteen letters!"
    assert Table(["a", "b"], 2, False, ["y", "t"]).read(rows, (FLOAT_BYTES, FLOAT_BYTES)) is None
