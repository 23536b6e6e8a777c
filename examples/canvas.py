"""A picture to draw on with smooth edges, and its PNG. NumPy and zlib only."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from itertools import pairwise

import lettering
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Point = tuple[float, float]
SMALL_BOX = 2500  # pixels


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
        self, chains: Sequence[NDArray[np.float64]], colour: Colour, thickness: float, alpha: float = 1.0
    ) -> None:
        """Blend once with how much of each pixel is within half a thickness of any chain."""
        if not chains:
            return
        reach = thickness / 2.0 + 1.0
        everything = np.concatenate(chains)
        left, top = np.maximum(np.floor(everything.min(0) - reach), 0).astype(int)
        right, bottom = np.minimum(np.ceil(everything.max(0) + reach) + 1, (self.width, self.height)).astype(int)
        if right <= left or bottom <= top:
            return
        cover = np.zeros((bottom - top, right - left), np.float32)
        for chain in chains:
            # A letter's stroke is many short segments in a small box, faster at once; a curve is better piece by piece.
            small = np.prod(np.ptp(chain, axis=0) + 2.0 * reach) < SMALL_BOX
            pieces = [chain] if small else [np.array(ends) for ends in pairwise(chain)]
            for piece in pieces:
                x0, y0 = np.maximum(np.floor(piece.min(0) - reach).astype(int), (left, top))
                x1, y1 = np.minimum(np.ceil(piece.max(0) + reach).astype(int) + 1, (right, bottom))
                if x0 < x1 and y0 < y1:
                    y, x = np.ogrid[y0:y1, x0:x1]
                    window = cover[y0 - top : y1 - top, x0 - left : x1 - left]
                    np.maximum(window, np.clip(thickness / 2.0 + 0.5 - _distance(piece, x, y), 0.0, 1.0), out=window)
        area = self.pixels[top:bottom, left:right]
        area += (np.array(colour, np.float32) - area) * (cover * np.float32(alpha))[:, :, None]


def _distance(chain: NDArray[np.float64], x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.float64]:
    """Distance of each pixel of a grid to the nearest point of the chain."""
    start, step = chain[:-1, :, None, None], np.diff(chain, axis=0)[:, :, None, None]
    dx, dy = x - start[:, 0], y - start[:, 1]
    length_2 = step[:, 0] ** 2 + step[:, 1] ** 2
    part = np.clip((dx * step[:, 0] + dy * step[:, 1]) / np.where(length_2 > 0.0, length_2, 1.0), 0.0, 1.0)
    distance: NDArray[np.float64] = np.hypot(dx - part * step[:, 0], dy - part * step[:, 1]).min(0)
    return distance


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
