"""The numbers of many decoded rows → arrays, without visiting each Python object.

Through MessagePack, where a float64 always takes nine bytes and a bool one: rows of the same kinds take the same number
of bytes, and their encoding can be read as a table. That takes half the time of collecting the objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np

from streamtrain.types import F64

FLOAT_BYTES: Final = 9  # 0xcb and eight bytes, big-endian
BOOL_BYTES: Final = 1  # 0xc2 or 0xc3
_FLOAT: Final = 0xCB
_TRUE: Final = 0xC3


class Table:
    """Attributes of rows that can be read together.

    Parameters
    ----------
    features : sequence of str
        Attributes that hold a float each, or the one that holds a list of D floats.
    dim : int
        Number of features D.
    listed : bool
        They are in a list.
    others : sequence of str
        Attributes that hold a float or a bool each.
    """

    def __init__(self, features: Sequence[str], dim: int, listed: bool, others: Sequence[str]) -> None:
        names = [*features, *others]
        self._row = attrgetter(*names)
        self._dim = dim
        # attrgetter of one name gives what it holds, of several a tuple, which is encoded with a header.
        self._start = (_header_bytes(len(names)) if len(names) > 1 else 0) + (_header_bytes(dim) if listed else 0)
        self._pack = msgspec.msgpack.Encoder()

    def read(self, rows: list[Any], widths: Sequence[int]) -> tuple[F64, list[F64]] | None:
        """Read all rows.

        Parameters
        ----------
        rows : list, (N,)
        widths : sequence of int
            What each of the others is thought to hold throughout: `FLOAT_BYTES` or `BOOL_BYTES`.

        Returns
        -------
        features : float64, (N, D)
        others : list of float64 arrays, (N,)
            None instead of both if the others are not what they were thought to be.
        """
        if not rows:
            return np.empty((0, self._dim)), [np.empty(0) for _ in widths]
        n, n_features = len(rows), self._dim * FLOAT_BYTES
        stride = self._start + n_features + sum(widths)
        packed = self._pack.encode(list(map(self._row, rows)))
        first = len(packed) - n * stride
        if first != _header_bytes(n):
            return None
        others: list[F64] = []
        place = first + self._start + n_features
        for width in widths:
            tags = np.ndarray((n,), np.uint8, packed, place, (stride,))
            # A row whose tags are right has the right length, so that the next one begins where it is looked for.
            if width == BOOL_BYTES and np.all(tags | 1 == _TRUE):
                others.append((tags == _TRUE).astype(np.float64))
            elif width == FLOAT_BYTES and np.all(tags == _FLOAT):
                others.append(np.ndarray((n,), ">f8", packed, place + 1, (stride,)).astype(np.float64))
            else:
                return None
            place += width
        shape, strides = (n, self._dim), (stride, FLOAT_BYTES)
        return np.ndarray(shape, ">f8", packed, first + self._start + 1, strides).astype(np.float64), others


def _header_bytes(size: int) -> int:
    """Length of the header of an array in MessagePack."""
    return 1 if size < 16 else 3 if size < 1 << 16 else 5
