"""Points in a plane of fixed size, for inline SVG: geometry only, the templates draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamtrain.ops.page.words import moment, ratio

WIDTH, HEIGHT = 720, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 26
_MOST = 80


@dataclass(frozen=True, slots=True)
class Dot:
    """A point with what it stands for."""

    x: float
    y: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A line across, or a word below."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn: dots, paths (each with a class), and ticks."""

    dots: tuple[Dot, ...]
    paths: tuple[tuple[str, str], ...]
    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]
    summary: str
    width: int = WIDTH
    height: int = HEIGHT


def accuracy_chart(history: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Draw the accuracy of candidates one after the other, with the floor that the gate held each against.

    Parameters
    ----------
    history : sequence of mapping
        "time", "outcome", "version", "accuracy" and "floor", the oldest first.

    Returns
    -------
    Chart or None
        None where nothing was scored yet.
    """
    scored = [one for one in history if one["accuracy"] is not None][-_MOST:]
    if not scored:
        return None
    floors = [one["floor"] for one in scored]
    plane = Plane(len(scored), [one["accuracy"] for one in scored] + [one for one in floors if one is not None])
    dots, line = [], []
    for i, one in enumerate(scored):
        published = one["outcome"] == "published"
        name = one["version"] if published and one["version"] else one["outcome"]
        at = (plane.x(i), plane.y(one["accuracy"]))
        title = f"{name}: accuracy {ratio(one['accuracy'])}, {moment(one['time'])}"
        dots.append(Dot(*at, "published" if published else "refused", title))
        if published:
            line.append(at)
    steps = _steps([(plane.x(i), None if one is None else plane.y(one)) for i, one in enumerate(floors)])
    n_published = sum(one["outcome"] == "published" for one in scored)
    return Chart(
        tuple(dots),
        (("floor", steps), ("line", path_of(line))),
        plane.rows(),
        tuple(Tick(plane.x(i), moment(scored[i]["time"])[:10]) for i in sorted({0, len(scored) - 1})),
        f"Holdout accuracy of the last {len(scored)} candidates, {n_published} of them published; the latest has "
        f"{ratio(scored[-1]['accuracy'])}.",
    )


def prequential_chart(found: Mapping[str, Any]) -> Chart | None:
    """Draw the accuracy on samples as they came, with alarms of drift; None without at least two points."""
    points = [one for one in found["points"] if all(map(math.isfinite, one))]
    if len(points) < 2:
        return None
    first, last = points[0][0], points[-1][0]
    span = max(last - first, 1e-9)
    plane = Plane(2, [value for _, value in points])

    def across(time_s: float) -> float:
        return plane.x(min(1.0, max(0.0, (time_s - first) / span)))

    alarms = [one for one in found["alarms"] if first <= one[0] <= last]
    return Chart(
        tuple(Dot(across(time_s), _TOP, "alarm", f"{what}, {moment(time_s)}") for time_s, what in alarms),
        (("line", path_of([(across(time_s), plane.y(value)) for time_s, value in points])),),
        plane.rows(),
        (Tick(across(first), moment(first)[:16]), Tick(across(last), moment(last)[:16])),
        f"Accuracy on new samples over time, now {ratio(found['accuracy'])}, with {len(alarms)} alarms of drift.",
    )


def loss_chart(epochs: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Draw training and validation loss by epoch; None without epochs."""
    rows = [
        (one["train_loss"], one["val_loss"])
        for one in epochs
        if all(isinstance(one.get(key), (int, float)) for key in ("train_loss", "val_loss"))
    ]
    if len(rows) < 2:
        return None
    plane = Plane(len(rows), [value for row in rows for value in row])
    paths = tuple(
        (kind, path_of([(plane.x(i), plane.y(row[column])) for i, row in enumerate(rows)]))
        for column, kind in ((0, "faint"), (1, "line"))
    )
    return Chart(
        (),
        paths,
        plane.rows(),
        (Tick(plane.x(0), "epoch 1"), Tick(plane.x(len(rows) - 1), f"epoch {len(rows)}")),
        f"Loss over {len(rows)} epochs: training from {rows[0][0]:.4f} to {rows[-1][0]:.4f}, validation from "
        f"{rows[0][1]:.4f} to {rows[-1][1]:.4f}.",
    )


class Plane:
    """Maps indices and values to places, with a little air above and below, in steps of the grid."""

    def __init__(self, n: int, values: Sequence[float], air: float = 0.25) -> None:
        low, high = min(values), max(values)
        step = _nice(max(high - low, 0.02 if high else 0.01) / 3)
        self._low = math.floor(low / step - air) * step
        self._high = math.ceil(high / step + air) * step
        self._step = step
        self._n = max(1, n - 1)
        self._single = n == 1

    def x(self, i: float) -> float:
        """Place of an index."""
        share = 0.5 if self._single else i / self._n
        return round(_LEFT + 8 + share * (WIDTH - _LEFT - _RIGHT - 16), 1)

    def y(self, value: float) -> float:
        """Place of a value."""
        share = (value - self._low) / (self._high - self._low)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    def rows(self) -> tuple[Tick, ...]:
        """Lines across, at round values."""
        n = round((self._high - self._low) / self._step)
        return tuple(
            Tick(self.y(self._low + i * self._step), f"{self._low + i * self._step:.4g}") for i in range(n + 1)
        )


def _nice(step: float) -> float:
    """Round a step up to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step * (1 - 1e-9))


def path_of(points: Sequence[tuple[float, float]]) -> str:
    """Draw lines from point to point."""
    return " ".join(f"{'L' if i else 'M'}{x:g} {y:g}" for i, (x, y) in enumerate(points))


def _steps(points: Sequence[tuple[float, float | None]]) -> str:
    """Draw a level for each point, as wide as to the next; gaps where there is none."""
    drawn, before = [], None
    for i, (x, y) in enumerate(points):
        end = points[i + 1][0] if i + 1 < len(points) else x + 8
        if y is None:
            before = None
            continue
        drawn.append(f"{'M' if before is None else 'L'}{x - 8 if i == 0 else x:g} {y:g} L{end:g} {y:g}")
        before = y
    return " ".join(drawn)
