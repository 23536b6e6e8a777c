"""What is kept of a row that is no sample: it and the names of its columns, so that it can be read again by itself.

Two lines, where a line of JSON Lines is one: a header and a record of CSV, or names and values as JSON arrays. A row
of a database has its row number before the others.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from streamtrain.ingest.decode import KEPT_BYTES, Decoded
from streamtrain.ingest.header import Header, read_header
from streamtrain.ingest.rows import Rows

ROW_NUMBER: Final = "(row number)"


def keep_delimited(header: Header, record: bytes) -> bytes:
    """Keep a record of a delimited table.

    Returns
    -------
    bytes
        Header and record; where these are too long, as much of the record's first line as fits.
    """
    record = record.rstrip(b"\r")
    whole = header.text + b"\n" + record
    return whole if len(whole) < KEPT_BYTES else record.partition(b"\n")[0][:KEPT_BYTES]


def keep_values(names: Sequence[str], values: Sequence[Any], number: int | None = None) -> bytes:
    """Keep a row of values.

    Parameters
    ----------
    names : sequence of str
    values : sequence
    number : int, optional
        Of a row in a database.

    Returns
    -------
    bytes
        Its first 4 KiB.
    """
    first, second = [*names], [*values]
    if number is not None:
        first, second = [ROW_NUMBER, *first], [number, *second]
    encoded = [msgspec.json.encode(part, enc_hook=str) for part in (first, [_plain(value) for value in second])]
    return b"\n".join(encoded)[:KEPT_BYTES]


def read_kept(rows: Rows, line: bytes, source: int, offset: int) -> Decoded | None:
    """Read a kept row again.

    Parameters
    ----------
    rows : Rows
        Of the present schema.
    line : bytes
        As it was kept.
    source, offset : int
        Where it came from.

    Returns
    -------
    Decoded or None
        None where it is still no record, or would not be known again: what a database's row without an id is known by
        is more than is kept of it.
    """
    first, _, second = line.partition(b"\n")
    if first.startswith(b"["):
        try:
            names, values = msgspec.json.decode(first, type=list[str]), msgspec.json.decode(second, type=list[Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if names[:1] == [ROW_NUMBER]:
            if rows.identified not in names and not rows.joins:
                return None
            names, values = names[1:], values[1:]
            if rows.identified is not None and not rows.joins and not values[names.index(rows.identified)]:
                return None
    else:
        header = read_header(first + b"\n", rows.fields, rows.telling, ".csv")
        if header is None:
            return None
        try:
            text = second.decode()
            (found,) = csv.reader(text.splitlines(keepends=True), delimiter=header.delimiter, strict=True)
        except (csv.Error, UnicodeDecodeError, ValueError):
            return None
        names, values = list(header.names), [value or None for value in found]
    layout = rows.layout(names)
    if layout.problem is not None or len(names) != len(values):
        return None
    starts = np.array([offset], np.int64)
    samples, halves, wrong = rows.read(layout, [values], starts, starts + max(1, len(second)), source)
    return None if wrong else Decoded(samples, (), 1, halves)


def _plain(value: Any) -> Any:
    """Make a value one that JSON has: not every number is, nor every text."""
    if isinstance(value, bytes):
        return value[:KEPT_BYTES].decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return value[:KEPT_BYTES].encode("utf-8", "backslashreplace").decode()
    return value
