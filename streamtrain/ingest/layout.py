"""Lines that differ in their values only → columns, over the bytes of all lines at once.

A log is written by one program, so that its lines mostly have the same fields in the same order with the same spaces.
The text around the values is then known, and is compared instead of parsed; what stands between must be, byte for byte,
one JSON value of the kind that was there in the line that the layout was learned from. As that line is valid JSON, so
are the others, with the same fields. Whatever is not certain to be so is no match, and is left to the JSON decoder.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamtrain.ingest.values import NUMBER, Kind, Spans, Values
from streamtrain.types import F64, U64, Bools

I64 = NDArray[np.int64]

_SPACE: Final = rb"[ \t\r]*"
_PLAIN: Final = rb'[^"\\\x00-\x1f]*'
_OPEN: Final = re.compile(_SPACE + rb"\{")
_KEY: Final = re.compile(_SPACE + rb'"(' + _PLAIN + rb')"' + _SPACE + rb":" + _SPACE)
_VALUE: Final = re.compile(
    rb"(?P<null>null)|(?P<truth>true|false)|(?P<number>" + NUMBER + rb')|"(?P<text>' + _PLAIN + rb')"'
)
_COMMA: Final = re.compile(_SPACE + rb",")
_CLOSE: Final = re.compile(_SPACE + rb"\}" + _SPACE + rb"\Z")
_FRACTION: Final = re.compile(rb"[0-9]\.[0-9]{1,16}\Z")
_WHOLE: Final = re.compile(rb"(?:0|[1-9][0-9]*)\Z")
_MOST_FIELDS: Final = 64
_MOST_CONSTANT: Final = 128  # bytes of text between two values, so that no comparison goes beyond the padding


@dataclass(frozen=True, slots=True)
class Matches:
    """What lines of one layout hold.

    Attributes
    ----------
    lines : bool, (L,)
        Which lines match; N of them.
    words : uint64
        `digits.words_of` the text.
    numbers : dict of str to float64, (N,)
        Columns of numbers, and of truths as 0 and 1.
    texts : dict of str to Spans
        Of texts, and of what is wanted as it is spelled.
    """

    lines: Bools
    words: U64
    numbers: dict[str, F64]
    texts: dict[str, Spans]


@dataclass(frozen=True, slots=True)
class _Field:
    before: bytes  # constant text since the value before
    name: str
    kind: Kind
    size: int  # of a text that is SIZED


class Layout:
    """Fields of a line with the text around their values.

    Attributes
    ----------
    names : frozenset of str
        Fields that have a value which is not null.
    """

    def __init__(self, fields: tuple[_Field, ...], after: bytes) -> None:
        self._fields = fields
        self._after = after
        self.names = frozenset(field.name for field in fields)

    @classmethod
    def of(cls, line: bytes, identities: Collection[str] = (), sized: Collection[str] = ()) -> Layout | None:
        """Learn a layout.

        Parameters
        ----------
        line : bytes
            One valid JSON value, without its newline.
        identities : collection of str
            Fields of which a whole number is wanted as text.
        sized : collection of str
            Fields whose text is of the same size in every line. What it holds is not looked at: it matches only if the
            caller finds that it has neither quotes, backslashes nor control characters.

        Returns
        -------
        Layout or None
            None where the line is no object of plain values, has a field twice, or much text without a value.
        """
        opened = _OPEN.match(line)
        if opened is None:
            return None
        fields: list[_Field] = []
        names: set[bytes] = set()
        since, place = 0, opened.end()
        while True:
            key = _KEY.match(line, place)
            value = None if key is None else _VALUE.match(line, key.end())
            if key is None or value is None or key[1] in names or len(names) == _MOST_FIELDS:
                return None
            names.add(key[1])
            place = value.end()
            if value.lastgroup != "null":
                name = key[1].decode(errors="replace")
                kind = _kind(value, name in identities, name in sized)
                start, end = value.span(value.lastgroup or 0)
                if start - since > _MOST_CONSTANT:
                    return None
                fields.append(_Field(line[since:start], name, kind, end - start))
                since = end
            comma = _COMMA.match(line, place)
            if comma is None:
                break
            place = comma.end()
        if _CLOSE.match(line, place) is None or len(line) - since > _MOST_CONSTANT:
            return None
        return cls(tuple(fields), line[since:])

    def match(
        self, data: NDArray[np.uint8], starts: I64, ends: I64, wanted: Collection[str], spelled: str | None = None
    ) -> Matches:
        """Read the lines that have this layout.

        Parameters
        ----------
        data : uint8, (n,)
            At least `digits.BEFORE` bytes, lines, and at least `digits.PADDING` zeros.
        starts, ends : int64, (L,)
            Where each begins, and where its newline is.
        wanted : collection of str
            Fields whose columns are asked for.
        spelled : str, optional
            A field of numbers or truths of which the text is asked for too.

        Returns
        -------
        Matches
        """
        reader = Values(data, starts)
        numbers: dict[str, F64] = {}
        texts: dict[str, Spans] = {}
        for field in self._fields:
            places = reader.places
            if field.kind is Kind.FRACTION:
                column = reader.fractions(field.before)
            elif field.kind is Kind.NUMBER:
                column = reader.decimals(field.before)
            elif field.kind is Kind.TRUTH:
                column = reader.truths(field.before)
            else:
                reader.skip(field.before)
                spans = reader.texts(field.kind, field.size)
                if field.name in wanted:
                    texts[field.name] = spans
                continue
            if field.name == spelled:
                begin = places + len(field.before)
                texts[field.name] = Spans(begin, reader.places - begin)
            if field.name in wanted:
                numbers[field.name] = column
        reader.skip(self._after)
        lines = reader.alive & (reader.places == ends)
        if not lines.all():
            numbers = {name: column[lines] for name, column in numbers.items()}
            texts = {name: Spans(spans.starts[lines], spans.sizes[lines]) for name, spans in texts.items()}
        return Matches(lines, reader.words, numbers, texts)


def _kind(value: re.Match[bytes], is_identity: bool, is_sized: bool) -> Kind:
    if value["truth"] is not None:
        return Kind.TRUTH
    if value["text"] is not None:
        return Kind.SIZED if is_sized else Kind.TEXT
    if is_identity and _WHOLE.match(value["number"]):
        return Kind.WHOLE
    return Kind.FRACTION if _FRACTION.match(value["number"]) else Kind.NUMBER
