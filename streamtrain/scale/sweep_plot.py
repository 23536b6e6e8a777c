"""The trials of a sweep as a picture: a line for each setting, from rung to rung."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from streamtrain.scale.sweep import Trial

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 900, 420, 70, 250, 50, 50
_INK, _FAINT, _WON = "#1f2529", "#b9c2ca", "#1a7f5a"


def picture(trials: Sequence[Trial]) -> str:
    """Draw trials as SVG; the winner, which is the best on the last rung, in colour.

    Parameters
    ----------
    trials : sequence of Trial
        As in `Swept`.

    Returns
    -------
    str
    """
    losses = [one.loss for one in trials if one.loss is not None]
    low, high = min(losses), max(losses)
    span = max(high - low, 1e-9)
    last = max(one.rung for one in trials)
    best = next(one for one in trials if one.rung == last)

    def place(one: Trial) -> tuple[float, float]:
        across = _LEFT + (_WIDTH - _LEFT - _RIGHT) * (one.rung / last if last else 0.5)
        loss = high if one.loss is None else one.loss
        return across, _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (loss - low) / span

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="system-ui, sans-serif" '
        f'font-size="12"><rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        _text(20, 26, "Validation loss of each setting, rung by rung", 16),
    ]
    for value in (low, (low + high) / 2, high):
        y = _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / span
        out.append(_text(10, y + 4, f"{value:.4f}"))
    for rung in range(last + 1):
        one = next(trial for trial in trials if trial.rung == rung)
        out.append(_text(place(one)[0] - 30, _HEIGHT - 20, f"{max(t.epochs for t in trials if t.rung == rung)} epochs"))
    settings = list({repr(one.settings): one.settings for one in trials}.values())
    for each in sorted(settings, key=lambda one: one == best.settings):
        points = [place(one) for one in trials if one.settings == each and one.loss is not None]
        colour = _WON if each == best.settings else _FAINT
        out.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="'
            + " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            + '"/>'
        )
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in points]
    x, y = place(best)
    for number, (key, value) in enumerate(best.settings.items()):
        out.append(_text(x + 12, y + 4 - 16 * (len(best.settings) - number - 1), f"{key}: {value}"))
    return "\n".join([*out, "</svg>\n"])


def _text(x: float, y: float, text: str, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{_INK}">{escape(text)}</text>'
