"""The table of speeds as a picture: bars on a logarithmic axis, SVG written by hand."""

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
