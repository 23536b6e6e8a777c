"""The story of a run as a picture: accuracy over time, for the terminal and as a PNG."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import lettering
import numpy as np
from canvas import Canvas, Colour
from rich.text import Text

INK: Colour = (31, 36, 48)
GREY: Colour = (112, 118, 132)
FAINT: Colour = (226, 229, 235)
WHITE: Colour = (255, 255, 255)
BLUE: Colour = (37, 99, 235)
GREEN: Colour = (22, 145, 87)
RED: Colour = (207, 52, 63)
AMBER: Colour = (176, 112, 10)
BAND: Colour = (37, 99, 235)

WIDTH, HEIGHT = 1600, 900
LEFT, RIGHT, TOP, BOTTOM = 110, 1560, 150, 730


@dataclass(frozen=True, slots=True)
class Bin:
    """A second or so of served requests.

    Attributes
    ----------
    at : float
        Middle of it, in seconds since the start.
    right : float
        Share of its requests that were routed right.
    base_rate : float
        Share that the commoner answer, if one knew it, would have got right.
    """

    at: float
    right: float
    base_rate: float


@dataclass(frozen=True, slots=True)
class Mark:
    """One candidate.

    Attributes
    ----------
    at : float
        When its verdict came, in seconds since the start.
    accuracy : float
        On the holdout.
    version : str or None
        None where it was refused.
    """

    at: float
    accuracy: float
    version: str | None


@dataclass
class Story:
    """Everything that the picture shows.

    Attributes
    ----------
    title, subtitle : str
    floor : float
        The gate's `min_accuracy`.
    bins : list of Bin
    marks : list of Mark
    swaps : list of (float, str)
        When the router was first seen serving a version, and which.
    change : float or None
        When the lightweight model was swapped for a weaker one.
    """

    title: str
    subtitle: str
    floor: float
    bins: list[Bin] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    swaps: list[tuple[float, str]] = field(default_factory=list)
    change: float | None = None

    def span(self) -> float:
        """Length of the time axis in seconds, a multiple of 5."""
        ends = [b.at for b in self.bins] + [m.at for m in self.marks] + [10.0]
        return float(np.ceil(max(ends) / 5.0) * 5.0)

    def lowest(self) -> float:
        """Bottom of the accuracy axis, a multiple of 0.1."""
        values = [min(b.right, b.base_rate) for b in self.bins] + [m.accuracy for m in self.marks] + [self.floor, 0.6]
        return float(max(np.floor(min(values) * 10.0 - 1e-9) / 10.0, 0.0))


def draw(story: Story) -> bytes:
    """The PNG, 1600 × 900."""
    canvas = Canvas(WIDTH, HEIGHT, WHITE)
    span, low = story.span(), story.lowest()

    def across(at: float) -> float:
        return LEFT + (RIGHT - LEFT) * at / span

    def up(share: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (share - low) / (1.0 - low)

    canvas.text(LEFT, 58, story.title, INK, 19, bold=True)
    canvas.text(LEFT, 92, story.subtitle, GREY, 12)
    _axes(canvas, span, low, across, up)
    _versions(canvas, story, span, across)

    canvas.line([(LEFT, up(story.floor)), (RIGHT, up(story.floor))], AMBER, 2.0, dash=9)
    canvas.text(RIGHT, up(story.floor) - 9, f"floor of the gate {100 * story.floor:.0f} %", AMBER, 10.5, anchor="right")
    if story.change is not None:
        x = across(story.change)
        canvas.line([(x, TOP + 24), (x, BOTTOM)], RED, 2.0, dash=7)
        canvas.text(x + 10, BOTTOM - 34, "the lightweight model", RED, 11)
        canvas.text(x + 10, BOTTOM - 14, "is swapped for a weaker one", RED, 11)
    if len(story.bins) > 1:
        canvas.line([(across(b.at), up(b.base_rate)) for b in story.bins], GREY, 2.0, alpha=0.75)
        canvas.line([(across(b.at), up(b.right)) for b in story.bins], BLUE, 4.0)
    for mark in story.marks:
        _mark(canvas, across(mark.at), up(mark.accuracy), mark.version is not None)
    _legend(canvas)
    return canvas.png()


def _axes(
    canvas: Canvas, span: float, low: float, across: Callable[[float], float], up: Callable[[float], float]
) -> None:
    for tenth in range(round(low * 10), 11):
        y = up(tenth / 10)
        canvas.line([(LEFT, y), (RIGHT, y)], FAINT, 1.5)
        canvas.text(LEFT - 14, y + 5, f"{tenth * 10} %", GREY, 11, anchor="right")
    for second in range(0, round(span) + 1, 5 if span <= 60 else 10):
        x = across(second)
        canvas.line([(x, BOTTOM), (x, BOTTOM + 7)], GREY, 1.5)
        canvas.text(x, BOTTOM + 28, str(second), GREY, 11, anchor="middle")
    canvas.line([(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)], GREY, 1.5)
    canvas.text((LEFT + RIGHT) / 2, BOTTOM + 62, "seconds since the start", GREY, 11, anchor="middle")
    canvas.text(LEFT, TOP - 14, "accuracy", GREY, 11)


def _versions(canvas: Canvas, story: Story, span: float, across: Callable[[float], float]) -> None:
    """A strip above the plot: which version answers; its boundaries are the router's swaps."""
    edges = [at for at, _ in story.swaps] + [story.bins[-1].at if story.bins else span]
    for number, (start, end) in enumerate(pairwise(edges)):
        left, right = across(start), across(end)
        canvas.rectangle(left, TOP - 4, right, BOTTOM, BAND, alpha=0.035 if number % 2 else 0.075)
        canvas.line([(left, TOP - 4), (left, BOTTOM)], BLUE, 1.0, alpha=0.35)
        name = f"model {number + 1}"
        if right - left > lettering.width(name, 10) + 12:
            canvas.text((left + right) / 2, TOP + 14, name, BLUE, 10, anchor="middle")
    if story.swaps and across(story.swaps[0][0]) - LEFT > 150:
        canvas.text((LEFT + across(story.swaps[0][0])) / 2, TOP + 14, "no model yet", GREY, 10, anchor="middle")


def _mark(canvas: Canvas, x: float, y: float, published: bool) -> None:
    if published:
        canvas.disc((x, y), 9.5, WHITE)
        canvas.disc((x, y), 7.5, GREEN)
    else:
        for thickness, colour in ((7.5, WHITE), (4.0, RED)):
            canvas.line([(x - 6, y - 6), (x + 6, y + 6)], colour, thickness)
            canvas.line([(x - 6, y + 6), (x + 6, y - 6)], colour, thickness)


def _legend(canvas: Canvas) -> None:
    y, x = HEIGHT - 48.0, float(LEFT)
    entries: list[tuple[str, Callable[[float], None]]] = [
        ("requests routed right", lambda at: canvas.line([(at, y), (at + 32, y)], BLUE, 4.0)),
        ("always the commoner answer", lambda at: canvas.line([(at, y), (at + 32, y)], GREY, 2.0)),
        ("candidate published (on its holdout)", lambda at: _mark(canvas, at + 16, y, published=True)),
        ("candidate refused", lambda at: _mark(canvas, at + 16, y, published=False)),
    ]
    for name, sample in entries:
        sample(x)
        canvas.text(x + 44, y + 5, name, INK, 11)
        x += 44 + lettering.width(name, 11) + 44


def terminal_plot(story: Story, columns: int, rows: int) -> Text:
    """The same in braille dots: eight in a character, four up and two across."""
    plot_columns = columns - 8
    dots = np.zeros((rows * 4, plot_columns * 2), np.uint8)
    colours: dict[tuple[int, int], str] = {}
    span, low = story.span(), story.lowest()

    def cell(at: float, share: float) -> tuple[int, int]:
        row = round((1.0 - (min(max(share, low), 1.0) - low) / (1.0 - low)) * (dots.shape[0] - 1))
        return row, min(round(at / span * (dots.shape[1] - 1)), dots.shape[1] - 1)

    def put(row: int, column: int, style: str) -> None:
        dots[row, column] = 1
        colours[row // 4, column // 2] = style

    for column in range(0, dots.shape[1], 4):
        put(cell(0.0, story.floor)[0], column, "yellow")
    if story.change is not None:
        for row in range(0, dots.shape[0], 2):
            put(row, cell(story.change, low)[1], "red")
    for name, style in (("base_rate", "bright_black"), ("right", "bold blue")):
        points = [cell(b.at, getattr(b, name)) for b in story.bins]
        for (row_0, column_0), (row_1, column_1) in pairwise(points):
            steps = max(abs(row_1 - row_0), abs(column_1 - column_0), 1)
            for step in range(steps + 1):
                put(
                    round(row_0 + (row_1 - row_0) * step / steps),
                    round(column_0 + (column_1 - column_0) * step / steps),
                    style,
                )

    bits = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
    cells = (dots.reshape(rows, 4, plot_columns, 2).transpose(0, 2, 1, 3) * bits).sum((2, 3))
    marks = {
        (r // 4, c // 2): ("●", "bold green") if m.version else ("✕", "bold red")
        for m in story.marks
        for r, c in [cell(m.at, m.accuracy)]
    }
    labels = {cell(0.0, tenth / 10)[0] // 4: tenth * 10 for tenth in range(round(low * 10), 11)}
    text = Text(no_wrap=True)
    for row in range(rows):
        text.append(f"{labels[row]:4} % ┤" if row in labels else "       │", style="bright_black")
        for column in range(plot_columns):
            character, style = marks.get(
                (row, column), (chr(0x2800 + int(cells[row, column])), colours.get((row, column), ""))
            )
            text.append(character, style=style)
        text.append("\n")
    ticks = "".join(f"{f'{span * share:.0f} s':<{plot_columns // 4}}" for share in (0.0, 0.25, 0.5, 0.75))
    text.append("       └" + "─" * plot_columns + "\n", style="bright_black")
    text.append(f"        {ticks}", style="bright_black")
    return text
