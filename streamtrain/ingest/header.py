"""The header of a delimited table: whether there is one, what parts its fields, and what they are called."""

from __future__ import annotations

import csv
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

DELIMITERS: Final = (",", "\t", ";")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_SUFFIXES: Final = (".csv", ".tsv")


@dataclass(frozen=True, slots=True)
class Header:
    """The first record of a delimited table.

    Attributes
    ----------
    delimiter : str
    names : tuple of str
        Of the columns, without the blanks around them.
    text : bytes
        As it stands in the file, without its end.
    stop : int
        Offset of what follows it.
    """

    delimiter: str
    names: tuple[str, ...]
    text: bytes
    stop: int


def header_line(begin: bytes | bytearray) -> tuple[int, int] | None:
    """Find the first record that isn't blank in the beginning of a file.

    Returns
    -------
    tuple of int or None
        Where it starts and ends (at its newline, or where the beginning ends); None where it is no header, because
        it is JSON or there is nothing.
    """
    start = 3 if begin.startswith(_BYTE_ORDER_MARK) else 0
    while start < len(begin) and begin[start] in b"\r\n":
        start += 1
    if start == len(begin) or begin[start : start + 64].lstrip()[:1] in (b"{", b"[", b""):
        return None
    stop = begin.find(b"\n", start)
    return start, len(begin) if stop < 0 else stop


def read_header(begin: bytes, fields: Collection[str], telling: Collection[str], path: str) -> Header | None:
    """Read the header of a delimited table, if it is one.

    The names of the schema tell which delimiter it has. Where none of them is there, only the name of the file says
    that it should be a table.

    Parameters
    ----------
    begin : bytes
        First bytes of the content, with all of its first line.
    fields, telling : collection of str
        Names that the schema reads, and those that hardly occur elsewhere.
    path : str

    Returns
    -------
    Header or None
    """
    found = header_line(begin)
    if found is None:
        return None
    start, end = found
    raw = begin[start:end].rstrip(b"\r")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return None
    best: tuple[int, int, str, tuple[str, ...]] | None = None
    for delimiter in DELIMITERS:
        try:
            names = tuple(name.strip() for name in next(csv.reader([text], delimiter=delimiter, strict=True)))
        except (csv.Error, StopIteration):
            continue
        there = set(names)
        score = len(there.intersection(fields)) if not there.isdisjoint(telling) and len(names) > 1 else 0
        if best is None or (score, len(names)) > best[:2]:
            best = (score, len(names), delimiter, names)
    if best is None or not (best[0] or (best[1] > 1 and named_as_table(path))):
        return None
    return Header(best[2], best[3], raw, min(end + 1, len(begin)))


def named_as_table(path: str) -> bool:
    """Tell by a file's name whether it should be delimited: `a.csv`, `a.tsv.gz`, `a.csv.1`."""
    name = path.rpartition("/")[2].lower()
    return any(name.endswith(suffix) or f"{suffix}." in name for suffix in _SUFFIXES)
