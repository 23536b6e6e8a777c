"""A file in which every line fails is one finding with its likely cause, not thousands of bad lines."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import msgspec

from streamtrain.ingest.decode import BadLine, Decoded
from streamtrain.ingest.pile import Pile
from streamtrain.reading import Quarantined, Source

_HELD: Final = 1000  # examples in memory while it is not known whether a good line follows
_KEYS: Final = 20
_KEY_CHARACTERS: Final = 60
_MISSING: Final = re.compile(r"missing required field '(.*)'", re.DOTALL)


@dataclass(slots=True)
class _Suspect:
    """A source of which no line was good so far."""

    rows: list[Quarantined] = field(default_factory=list)
    n: int = 0
    told: bool = False


class Findings:
    """Watch sources from their first line on for a good one.

    Parameters
    ----------
    pile : Pile
        Where lines and findings go.
    """

    def __init__(self, pile: Pile) -> None:
        self._pile = pile
        self._suspects: dict[int, _Suspect] = {}

    def clear(self) -> None:
        """Suspect nothing."""
        self._suspects.clear()

    def begin(self, source: Source) -> None:
        """Watch a source that is read from its start."""
        self._suspects[source.key] = _Suspect()

    def add(self, source: Source, start: int, end: int, decoded: Decoded) -> None:
        """Add the lines of the bytes [start, end) of a source to the pile."""
        suspect = self._suspects.get(source.key)
        if suspect is None:
            self._pile.add(source, start, end, decoded)
            return
        if decoded.n_lines > len(decoded.bad):
            del self._suspects[source.key]
            self._pile.add(source, start, end, decoded, before=suspect.rows)
            return
        self._pile.add(source, start, end, decoded, keep=False)
        suspect.n += len(decoded.bad)
        room = 0 if suspect.told else _HELD - len(suspect.rows)
        suspect.rows += [quarantined(source, line) for line in decoded.bad[: max(0, room)]]

    def tell(self, source: Source) -> None:
        """Put what is known of a source into the pile, because that is committed, or its end was reached."""
        suspect = self._suspects.get(source.key)
        if suspect is None or suspect.told or not suspect.n:
            return
        if suspect.n == 1:
            del self._suspects[source.key]
            self._pile.keep(suspect.rows)
            return
        first = suspect.rows[0]
        reason = f"every line fails ({suspect.n} so far): {cause(first)}"
        self._pile.keep([Quarantined(first.source, first.path, first.offset, reason, first.line)])
        suspect.rows, suspect.told = [], True


def quarantined(source: Source, bad: BadLine) -> Quarantined:
    """Say of a bad line where it comes from."""
    return Quarantined(source.key, source.path, bad.offset, bad.reason, bad.line)


def cause(line: Quarantined) -> str:
    """Say what is likely to be wrong with a file, going by its first line.

    Parameters
    ----------
    line : Quarantined

    Returns
    -------
    str
        Its reason; where a field is missing, with the fields that are there.
    """
    missing = _MISSING.search(line.reason)
    if missing is None:
        return line.reason
    try:
        record = msgspec.json.decode(line.line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return line.reason  # cut off at 4 KiB
    keys = [key[:_KEY_CHARACTERS] for key in record] if isinstance(record, dict) else []
    listed = ", ".join(keys[:_KEYS]) + (f" and {len(keys) - _KEYS} more" if len(keys) > _KEYS else "")
    return f"no field {missing[1]!r}; the keys are: {listed or 'none'}"
