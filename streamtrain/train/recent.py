"""Which recent parts of a window are trained on by themselves: a window that forgets is not a detail.

When the model behind a route is swapped, a router trained on everything so far is at .52 where one trained on the last
2,000 samples is at .69, and one on the last 250 at .63: forgetting too little costs as much as forgetting too much, so
several lengths compete, and what came after a change that was noticed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from streamtrain.types import F64

SHARES = (2, 4, 8)
"""The last half, quarter and eighth."""
MIN_ROWS = 300
"""Of fewer nothing is learned that is worth a candidate."""
MANY = 20_000
"""Of so many, as many passes as for fine-tuning are enough."""


@dataclass(frozen=True, slots=True)
class Part:
    """The end of a window.

    Attributes
    ----------
    name : str
    first_row : int
    fresh : bool
        Train from scratch, although there are weights to go on from.
    bold : bool
        By the preset as it is, not calmly.
    """

    name: str
    first_row: int
    fresh: bool = False
    bold: bool = False


def parts(first_places: NDArray[np.int64], timestamps: F64, since: float | None) -> list[Part]:
    """Choose the parts of a window.

    Parameters
    ----------
    first_places : int64, (M,)
        For each row of the training arrays, the place of its first sample; growing.
    timestamps : float64, (N,)
        Of the samples; growing.
    since : float, optional
        Time of a change.

    Returns
    -------
    list of Part
        Those with rows enough; where it costs little, the longer ones from scratch too. After a change: of what came
        after it, from the current weights and from scratch.
    """
    n = len(first_places)
    chosen = [Part(f"recent-1/{share}", n - n // share) for share in SHARES if n // share >= MIN_ROWS]
    if n <= MANY:
        chosen += [replace(part, fresh=True, bold=True) for part in chosen[:2]]
    if since is None:
        return chosen
    first = int(np.searchsorted(first_places, np.searchsorted(timestamps, since)))
    if n - first < MIN_ROWS or first == 0:
        return chosen
    return [*chosen, Part("since", first), Part("since", first, fresh=True), Part("since", first, True, True)]
