"""The slice that a record belongs to (its task, its language …) → a hash, and which text each hash stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamtrain.ingest.hashing import NO_TEXT, hash_texts
from streamtrain.types import U64

NO_SLICE: Final = np.uint64(0)
MOST_NAMES: Final = 1000
"""So many names are kept; the samples of a slice without a name are still told apart."""
NAME_CHARACTERS: Final = 200

_ROUNDS: Final = 64
_SLOT_BITS: Final = np.uint64(52)  # the upper 12 bits of a hash choose its slot
_SLOTS: Final = 1 << 12


class SliceNames:
    """Collects the names of slices between two commits."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def note(self, slices: U64, text: Callable[[int], str]) -> None:
        """Note the name of every slice of a batch.

        Parameters
        ----------
        slices : uint64, (N,)
        text : callable
            Gives the text of a row.
        """
        for row in _one_of_each(slices):
            if len(self._names) >= MOST_NAMES:
                return
            value = int(slices[row])
            if value and value not in self._names:
                # Half of a pair of surrogates is no UTF-8, which is what databases and pages hold.
                self._names[value] = text(row).encode("utf-8", "replace").decode()[:NAME_CHARACTERS]

    def take(self) -> Mapping[int, str]:
        """Give out what was noted, and begin anew."""
        names, self._names = self._names, {}
        return names


def of_hashes(hashes: U64) -> U64:
    """Make slices of hashes of texts: an empty text is none.

    Parameters
    ----------
    hashes : uint64, (N,)

    Returns
    -------
    uint64, (N,)
        `NO_SLICE` only for empty texts.
    """
    return np.where(hashes == NO_TEXT, NO_SLICE, np.maximum(hashes, np.uint64(1)))


def of_values(values: list[Any], names: SliceNames) -> U64:
    """Make slices of decoded values, and note their names.

    Parameters
    ----------
    values : list, (N,)
        Of a JSON line what stands there (`msgspec.Raw`), of a table's row its value.
    names : SliceNames

    Returns
    -------
    uint64, (N,)
    """
    texts = list(map(as_text, values))
    slices = of_hashes(hash_texts(texts))
    names.note(slices, texts.__getitem__)
    return slices


def as_text(value: Any) -> str:
    """Write the value of a slice as text, so that it is the same in every format of log.

    Parameters
    ----------
    value : object

    Returns
    -------
    str
        A text itself, a number or a truth as JSON writes it (a number in a JSON line as it stands there); empty for
        what is no plain value, because a line is no worse for it.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, msgspec.Raw):
        return _of_json(bytes(value))
    if isinstance(value, bool | int | float):
        text = msgspec.json.encode(value).decode()
        return "" if text == "null" else text
    return ""


def _of_json(value: bytes) -> str:
    if value[:1] == b'"':
        try:
            return msgspec.json.decode(value, type=str)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""
    return "" if value[:1] in (b"{", b"[", b"n", b"") else value.decode("ascii", "replace")


def _one_of_each(slices: U64) -> list[int]:
    """Find a row of every distinct slice, mostly without sorting; of very many, of some.

    Of each slot one row is taken, and those of the same slice are done; the others go round again.
    """
    found: list[int] = []
    rows: NDArray[np.int64] = np.arange(len(slices))
    slots = (slices >> _SLOT_BITS).view(np.int64)
    for _ in range(_ROUNDS):
        if not len(rows) or len(found) > 2 * MOST_NAMES:
            break
        table = np.full(_SLOTS, -1, np.int64)
        table[slots[rows]] = rows
        found += table[table >= 0].tolist()
        rows = rows[slices[rows] != slices[table[slots[rows]]]]
    return found
