"""A picture to draw on with smooth edges, and its PNG. NumPy and zlib only."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from itertools import pairwise

import lettering
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Point = tuple[float, float]


class Canvas:
    """Pixels, (height, width, 3), with x to the right and y down; lengths are in pixels.

    Parameters
    ----------
    width, height : int
    background : colour
        Red, green, blue in 0..255.
    """

    def __init__(self, width: int, height: int, background: Colour) -> None:
        self.width, self.height = width, height
        self.pixels = np.empty((height, width, 3), np.float32)
        self.pixels[:] = background

    def rectangle(self, left: float, top: float, right: float, bottom: float, colour: Colour, alpha: float = 1) -> None:
        """A filled rectangle, edges on whole pixels."""
        rows, columns = slice(round(top), round(bottom)), slice(round(left), round(right))
        area = self.pixels[rows, columns]
        area += (np.array(colour, np.float32) - area) * np.float32(alpha)

    def line(
        self, points: Sequence[Point], colour: Colour, thickness: float, dash: float = 0.0, alpha: float = 1.0
    ) -> None:
        """A line through the points with round ends; `dash` is the length of dashes and of gaps."""
        chain = np.array(points, np.float64)
        self._stroke(_dashed(chain, dash) if dash else [chain], colour, thickness, alpha)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """A filled circle."""
        self.line([centre, centre], colour, 2.0 * radius)

    def text(
        self, x: float, y: float, text: str, colour: Colour, size: float, anchor: str = "left", bold: bool = False
    ) -> None:
        """Text on the baseline `y`; `size` is the height of a capital, `anchor` the side of the text that `x` is."""
        x -= {"left": 0.0, "middle": 0.5, "right": 1.0}[anchor] * lettering.width(text, size)
        chains = [np.array((x, y)) + chain * (1.0, -1.0) for chain in lettering.strokes(text, size)]
        self._stroke(chains, colour, size * (0.18 if bold else 0.125))

    def png(self) -> bytes:
        """The picture as a PNG file."""
        rows = np.clip(np.rint(self.pixels), 0, 255).astype(np.uint8).reshape(self.height, -1)
        scanlines = np.concatenate([np.zeros((self.height, 1), np.uint8), rows], axis=1)  # filter 0 before each row
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)  # 8 bits of red, green, blue each
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(scanlines.tobytes(), 9)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)

    def _stroke(
        self, chains: Iterable[NDArray[np.float64]], colour: Colour, thickness: float, alpha: float = 1.0
    ) -> None:
        """Blend once with how much of each pixel is within half a thickness of any chain."""
        segments = [segment for chain in chains for segment in pairwise(chain)]
        if not segments:
            return
        reach = thickness / 2.0 + 1.0
        ends = np.array(segments)  # (S, 2 ends, x y)
        left, top = np.maximum(np.floor(ends.min((0, 1)) - reach), 0).astype(int)
        right, bottom = np.minimum(np.ceil(ends.max((0, 1)) + reach) + 1, (self.width, self.height)).astype(int)
        if right <= left or bottom <= top:
            return
        cover = np.zeros((bottom - top, right - left), np.float32)
        for (x0, y0), (x1, y1) in segments:
            a = max(int(min(y0, y1) - reach), top), min(int(max(y0, y1) + reach) + 2, bottom)
            b = max(int(min(x0, x1) - reach), left), min(int(max(x0, x1) + reach) + 2, right)
            if a[0] >= a[1] or b[0] >= b[1]:
                continue
            y, x = np.ogrid[a[0] : a[1], b[0] : b[1]]
            along, length_2 = (x - x0) * (x1 - x0) + (y - y0) * (y1 - y0), (x1 - x0) ** 2 + (y1 - y0) ** 2
            part = np.clip(along / length_2, 0.0, 1.0) if length_2 > 0.0 else 0.0
            distance = np.hypot(x - x0 - part * (x1 - x0), y - y0 - part * (y1 - y0))
            window = cover[a[0] - top : a[1] - top, b[0] - left : b[1] - left]
            np.maximum(window, np.clip(thickness / 2.0 + 0.5 - distance, 0.0, 1.0), out=window)
        area = self.pixels[top:bottom, left:right]
        area += (np.array(colour, np.float32) - area) * (cover * np.float32(alpha))[:, :, None]


def _dashed(chain: NDArray[np.float64], dash: float) -> list[NDArray[np.float64]]:
    """Straight pieces of length `dash` along a chain, with gaps of the same length between them."""
    steps = np.hypot(*np.diff(chain, axis=0).T)
    at = np.concatenate([[0.0], np.cumsum(steps)])
    starts = np.arange(0.0, at[-1], 2.0 * dash)
    ends = np.minimum(starts + dash, at[-1])
    where = [np.stack([np.interp(s, at, chain[:, 0]), np.interp(s, at, chain[:, 1])], axis=-1) for s in (starts, ends)]
    return list(np.stack(where, axis=1))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
