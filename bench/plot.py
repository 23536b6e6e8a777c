"""Tables as pictures: bars on a logarithmic axis for speeds, dots for what was learned; SVG written by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT, TOP = 900, 190, 120, 64
BAR, GAP = 17, 15
COLOURS = {
    "streamtrain": "#1a7f5a",
    "Tiny Dancer": "#c2571a",
    "PyTorch": "#7a4fb5",
    "scikit-learn MLP": "#4579b2",
    "the machine's limit": "#b9c2ca",
}
INK, FAINT = "#1f2529", "#dfe4e8"


@dataclass(frozen=True)
class Bar:
    """Samples per second of one contestant, and what to write beside it."""

    who: str
    rate: float
    note: str


@dataclass(frozen=True)
class Group:
    """Bars of one shape."""

    title: str
    bars: Sequence[Bar]


def bars(title: str, subtitle: str, groups: Sequence[Group]) -> str:
    """The picture as SVG text."""
    rates = [bar.rate for group in groups for bar in group.bars]
    low, high = math.floor(math.log10(min(rates))), math.log10(max(rates)) + 0.05
    height = TOP + sum(len(group.bars) * BAR + GAP for group in groups) + 46
    span = WIDTH - LEFT - RIGHT

    def along(rate: float) -> float:
        return LEFT + span * (math.log10(rate) - low) / (high - low)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(20, 26, title, size=16, weight=600),
        _text(20, 45, subtitle, colour="#5b666e"),
    ]
    bottom = height - 40
    for power in range(low, math.floor(high) + 1):
        x = along(10.0**power)
        out.append(f'<line x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{bottom}" stroke="{FAINT}"/>')
        out.append(_text(x, bottom + 18, _short(10.0**power), anchor="middle", colour="#5b666e"))
    y = TOP
    for group in groups:
        out.append(_text(LEFT - 12, y + len(group.bars) * BAR / 2 + 4, group.title, anchor="end", weight=600))
        for bar in group.bars:
            end = along(bar.rate)
            out.append(
                f'<rect x="{LEFT}" y="{y + 1:.1f}" width="{end - LEFT:.1f}" height="{BAR - 3}" rx="2" '
                f'fill="{COLOURS[bar.who]}"/>'
            )
            label = f"{bar.who} {_short(bar.rate)}" + (f" · {bar.note}" if bar.note else "")
            inside = end - LEFT > span * 0.55
            colour = ("#ffffff" if bar.who != "the machine's limit" else INK) if inside else INK
            at, anchor = (end - 6, "end") if inside else (end + 6, "start")
            out.append(_text(at, y + BAR - 5, label, anchor=anchor, colour=colour))
            y += BAR
        y += GAP
    out.append("</svg>")
    return "\n".join(out) + "\n"


@dataclass(frozen=True)
class Dot:
    """A figure of one contestant."""

    who: str
    value: float
    colour: str
    ours: bool = False


def dots(title: str, subtitle: str, panels: Sequence[tuple[str, Sequence[tuple[str, Sequence[Dot]]]]]) -> str:
    """Figures of everybody as SVG text: panels side by side with an axis each, a line for each data set.

    `panels` are names with the same lines: titles with their dots.
    """
    lines = [name for name, _ in panels[0][1]]
    row, left, gap, top = 34, 200, 36, 84
    span = (WIDTH - left - 30 - gap * (len(panels) - 1)) / len(panels)
    height = top + row * len(lines) + 34
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(20, 26, title, size=16, weight=600),
        _text(20, 45, subtitle, colour="#5b666e"),
    ]
    names = {dot.who: dot for _, shown in panels for _, one in shown for dot in one}
    for number, dot in enumerate(names.values()):
        x = 20 + number % 4 * 220
        out.append(_dot(x + 4, 60 + number // 4 * 15, dot))
        out.append(_text(x + 14, 64 + number // 4 * 15, dot.who))
    shift = (len(names) - 1) // 4 * 15
    for index, (name, shown) in enumerate(panels):
        start = left + index * (span + gap)
        values = [dot.value for _, one in shown for dot in one if dot.value == dot.value]
        low, high = math.floor(min(values) * 10) / 10, math.ceil(max(values) * 10) / 10

        def along(value: float, start: float = start, low: float = low, high: float = high) -> float:
            return start + span * (value - low) / (high - low)

        bottom = top + shift + row * len(lines)
        out.append(_text(start + span / 2, bottom + 32, name, anchor="middle", weight=600))
        for tick in range(round((high - low) * 10) + 1):
            x = along(low + tick / 10)
            out.append(f'<line x1="{x:.1f}" y1="{top + shift}" x2="{x:.1f}" y2="{bottom}" stroke="{FAINT}"/>')
            out.append(_text(x, bottom + 16, f"{low + tick / 10:.1f}", anchor="middle", colour="#5b666e"))
        for number, (line, one) in enumerate(shown):
            y = top + shift + row * (number + 0.5)
            if index == 0:
                out.append(_text(left - 12, y + 4, line, anchor="end"))
            out.append(f'<line x1="{start:.1f}" y1="{y}" x2="{start + span:.1f}" y2="{y}" stroke="{FAINT}"/>')
            out += [
                _dot(along(dot.value), y, dot)
                for dot in sorted(one, key=lambda dot: dot.ours)
                if dot.value == dot.value
            ]
    text = "\n".join([*out, "</svg>"]) + "\n"
    return text.replace(f'0 0 {WIDTH} {height}"', f'0 0 {WIDTH} {height + shift + 8}"').replace(
        f'height="{height}"', f'height="{height + shift + 8}"'
    )


def _dot(x: float, y: float, dot: Dot) -> str:
    ring = f' stroke="{INK}" stroke-width="1.2"' if dot.ours else ' fill-opacity="0.75"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{5 if dot.ours else 4}" fill="{dot.colour}"{ring}/>'


def _short(rate: float) -> str:
    for unit, name in ((1e9, "G/s"), (1e6, "M/s"), (1e3, "k/s")):
        if rate >= unit:
            return f"{rate / unit:.3g} {name}"
    return f"{rate:.3g}/s"


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = INK, size: int = 12, weight: int = 400
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )
