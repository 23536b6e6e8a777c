"""A small single-stroke alphabet, so that a plot can be labelled without a font library.

A glyph is its width and its strokes. A stroke is a chain of points, two digits each: x from 0 at the left, y with the
baseline at 3, small letters up to 7, capitals up to 9, descenders down to 1. `~` before a stroke rounds its corners,
`o` rounds and closes it.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

CAP_HEIGHT = 6.0  # units from the baseline to the top of a capital
SPACING = 1.7  # units between glyphs
ROUNDINGS = 3  # times that corners are cut

BOWL = "o4637170604133344"
GLYPHS = {
    " ": "2",
    "a": f"4 4743 {BOWL}",
    "b": "4 0903 o0617374644331304",
    "c": "4 ~4637170604133344",
    "d": f"4 4943 {BOWL}",
    "e": "4 0545 ~454637170604133344",
    "f": "3 ~3929181713 0737",
    "g": f"4 ~474342311102 {BOWL}",
    "h": "4 0903 ~0517374643",
    "i": "0 0703 0909",
    "j": "1 ~171201 1919",
    "k": "3 0903 3704 1533",
    "l": "0 0903",
    "m": "6 0703 ~0517273633 ~3547576663",
    "n": "4 0703 ~0517374643",
    "o": f"4 {BOWL}",
    "p": "4 0701 o0617374644331304",
    "q": f"4 4741 {BOWL}",
    "r": "2 0703 ~051727",
    "s": "4 ~46371706153544331304",
    "t": "3 ~19142333 0737",
    "u": "4 ~0704133345 4743",
    "v": "4 072347",
    "w": "6 0713375367",
    "x": "4 0743 4703",
    "y": "4 0723 ~47231101",
    "z": "4 07470343",
    "A": "6 033963 1555",
    "B": "4 0903 ~093948473606 ~063645443303",
    "C": "5 ~5839290705233354",
    "D": "5 0903 ~092957552303",
    "E": "4 49090343 0636",
    "F": "4 490903 0636",
    "G": "5 ~5839290705233354 545636",
    "H": "4 0903 4943 0646",
    "I": "0 0903",
    "J": "3 ~3934231304",
    "K": "4 0903 4905 1643",
    "L": "4 090343",
    "M": "6 0309356963",
    "N": "5 03095359",
    "O": "6 o2949676543230507",
    "P": "4 0903 ~093948473606",
    "Q": "6 o2949676543230507 4563",
    "R": "4 0903 ~093948473606 2643",
    "S": "4 ~483919080716364544331304",
    "T": "4 0949 2923",
    "U": "4 ~0905041333444549",
    "V": "4 092349",
    "W": "6 0913395369",
    "X": "4 0943 4903",
    "Y": "4 092649 2623",
    "Z": "4 09490343",
    "0": "4 o1939484433130408",
    "1": "2 082923",
    "2": "4 ~081939484703 0343",
    "3": "4 ~08193948473626 ~26364544331304",
    "4": "4 33390545",
    "5": "4 490906 ~0617374644331304",
    "6": "4 ~4839190705 o0617374644331304",
    "7": "4 094913",
    "8": "4 o1939484736160708 o1636454433130405",
    "9": "4 o1939484635150608 ~4744331304",
    "%": "5 0359 o09292707 o35555333",
    ".": "0 0303",
    ",": "0 0302",
    ":": "0 0303 0606",
    ";": "0 0302 0606",
    "-": "3 0535",
    "+": "4 0545 2723",
    "=": "4 0646 0444",
    "/": "3 0239",
    "_": "4 0242",
    "(": "1 ~19070511",
    ")": "1 ~09171501",
    "'": "0 0908",
    "·": "0 0505",
    "×": "4 0743 4703",
    "≥": "4 084604 0343",
    "?": "4 ~08193948472625 2323",
    "!": "0 0905 0303",
}


@cache
def glyph(character: str) -> tuple[float, list[NDArray[np.float64]]]:
    """Width and strokes, each (N, 2) with x to the right and y up from the baseline, in units; `?` where unknown."""
    width, *strokes = GLYPHS.get(character, GLYPHS["?"]).split(" ")
    return float(width), [_points(stroke) for stroke in strokes]


def width(text: str, cap_height: float) -> float:
    """Width of `text` in the units of `cap_height`."""
    advances = sum(glyph(character)[0] + SPACING for character in text)
    return max(advances - SPACING, 0.0) * cap_height / CAP_HEIGHT


def strokes(text: str, cap_height: float) -> list[NDArray[np.float64]]:
    """Strokes of `text`, each (N, 2) with x to the right and y up, from the left end of the baseline."""
    scale, x, out = cap_height / CAP_HEIGHT, 0.0, []
    for character in text:
        glyph_width, lines = glyph(character)
        out += [(line + np.array((x, 0.0))) * scale for line in lines]
        x += glyph_width + SPACING
    return out


def _points(stroke: str) -> NDArray[np.float64]:
    kind, digits = (stroke[0], stroke[1:]) if stroke[0] in "~o" else ("", stroke)
    points = np.array([(int(x), int(y) - 3) for x, y in zip(digits[::2], digits[1::2], strict=True)], np.float64)
    if kind == "o":
        return _rounded(np.concatenate([points, points[:1]]), closed=True)
    return _rounded(points, closed=False) if kind == "~" else points


def _rounded(points: NDArray[np.float64], closed: bool) -> NDArray[np.float64]:
    """Corner cutting (Chaikin 1974): each corner is replaced by points at a quarter and three quarters of its edges."""
    for _ in range(ROUNDINGS):
        start, end = points[:-1], points[1:]
        cut = np.stack([0.75 * start + 0.25 * end, 0.25 * start + 0.75 * end], axis=1).reshape(-1, 2)
        points = np.concatenate([cut, cut[:1]]) if closed else np.concatenate([points[:1], cut, points[-1:]])
    return points
