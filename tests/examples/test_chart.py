"""The demo's picture: a valid PNG that shows what it is given, and the same in a terminal."""

from __future__ import annotations

import importlib
import struct
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.fixture
def chart() -> ModuleType:
    return importlib.import_module("chart")


def pixels_of(png: bytes) -> NDArray[np.uint8]:
    """A second, plain reading of the format: 8 bits of RGB, no filter."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        data = png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length)[0] == zlib.crc32(kind + data)
        chunks[kind] = data
        at += 12 + length
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, colour) == (8, 2)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:].reshape(height, width, 3)


def a_story(chart: ModuleType) -> object:
    story = chart.Story("Title", "subtitle", floor=0.85)
    story.bins = [chart.Bin(at + 0.5, 0.9 if at < 10 else 0.5, 0.6) for at in range(20)]
    story.marks = [chart.Mark(1.0, 0.91, "v1"), chart.Mark(12.0, 0.75, None)]
    story.swaps = [(1.0, "v1")]
    story.change = 10.0
    return story


def test_the_png_shows_every_part_in_its_colour(chart: ModuleType) -> None:
    pixels = pixels_of(chart.draw(a_story(chart)))
    assert pixels.shape == (chart.HEIGHT, chart.WIDTH, 3)
    inside = pixels[chart.TOP : chart.BOTTOM, chart.LEFT : chart.RIGHT]
    for colour in (chart.BLUE, chart.GREEN, chart.RED, chart.AMBER):
        assert (inside == colour).all(axis=2).sum() > 50
    rows, columns = np.nonzero((inside == chart.BLUE).all(axis=2))
    left, right = columns < inside.shape[1] * 0.4, columns > inside.shape[1] * 0.6
    assert rows[left].mean() < rows[right].mean() - 100  # accuracy falls: further down


def test_every_letter_has_its_own_strokes() -> None:
    lettering = importlib.import_module("lettering")
    drawn = {tuple(map(tuple, np.concatenate(lettering.glyph(c)[1]))) for c in lettering.GLYPHS if c != " "}
    assert len(drawn) == len(lettering.GLYPHS) - 3  # the space; × is drawn like X, and I like l
    assert lettering.width("two words", 12.0) > lettering.width("words", 12.0) > 0.0


def test_the_terminal_plot_fits_and_shows_both_verdicts(chart: ModuleType) -> None:
    lines = chart.terminal_plot(a_story(chart), columns=80, rows=12).plain.split("\n")
    assert len(lines) == 14
    assert max(map(len, lines)) <= 80
    assert "●" in "".join(lines)
    assert "✕" in "".join(lines)
    assert lines[0].startswith(" 100 % ┤")


def test_a_story_without_a_single_request_can_be_drawn(chart: ModuleType) -> None:
    empty = chart.Story("Title", "", floor=0.85)
    assert pixels_of(chart.draw(empty)).shape == (chart.HEIGHT, chart.WIDTH, 3)
    assert chart.terminal_plot(empty, 60, 8).plain
