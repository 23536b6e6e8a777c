"""The figures that a candidate left when it was judged (`streamtrain.judge.figures`), checked, and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from streamtrain.ops.page.charts import Chart, Dot, Plane, Tick, path_of
from streamtrain.ops.page.words import moment, ratio

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class Bin(msgspec.Struct, frozen=True):
    """Answers that say about the same."""

    n: Count
    share: Share
    said: Share
    happened: Share


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """How some of the samples were answered."""

    n: Count
    accuracy: Share | None
    log_loss: float | None
    base_rate: Share | None
    current_accuracy: Share | None


class Slice(Scored, frozen=True, kw_only=True):
    """Those of one slice; with `others`, those of as many small ones."""

    slice: str | None
    others: Count = 0


class Period(Scored, frozen=True, kw_only=True):
    """Those of a time, in seconds since the epoch."""

    start: float = msgspec.field(name="from")
    stop: float = msgspec.field(name="to")


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """What routing by one threshold would do."""

    threshold: float
    share: Share
    accuracy: Share
    spoilt: Share
    name: str = ""


class Felt(msgspec.Struct, frozen=True):
    """How much log loss it costs to shuffle a feature."""

    feature: str
    loss: float


class Influence(msgspec.Struct, frozen=True):
    """That of the features asked about."""

    n_samples: Count
    n_features: Count
    features: list[Felt]


class Figures(msgspec.Struct, frozen=True):
    """All of them."""

    reliability: list[Bin]
    slices: list[Slice]
    time: list[Period]
    cost: list[Threshold]
    points: list[Threshold]
    influence: Influence


def read_figures(holdout: object) -> Figures | None:
    """Read the figures out of what was measured on the holdout.

    Parameters
    ----------
    holdout : object
        As ``metrics.json`` has it.

    Returns
    -------
    Figures or None
        None where there are none: the version is older, another trainer's, or not as this program writes it.
    """
    found = holdout.get("figures") if isinstance(holdout, dict) else None
    try:
        return None if found is None else msgspec.convert(found, Figures)
    except msgspec.ValidationError:
        return None


def accuracy_epochs_chart(epochs: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Draw training and validation accuracy by epoch; None without two epochs."""
    keys = ("train_accuracy", "val_accuracy")
    rows = [
        (one[keys[0]], one[keys[1]]) for one in epochs if all(isinstance(one.get(key), (int, float)) for key in keys)
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
        (Tick(plane.x(0), "first epoch"), Tick(plane.x(len(rows) - 1), "last epoch")),
        f"Accuracy over the epochs: training from {ratio(rows[0][0])} to {ratio(rows[-1][0])}, validation from "
        f"{ratio(rows[0][1])} to {ratio(rows[-1][1])}.",
    )


def reliability_chart(bins: Sequence[Bin], error: object) -> Chart | None:
    """Draw what happened over what was said; the diagonal is where both are the same."""
    if not bins:
        return None
    plane = Plane(2, [0.0, 1.0], air=0.0)
    places = [(plane.x(one.said), plane.y(one.happened)) for one in bins]
    dots = tuple(
        Dot(*at, "published", f"said {ratio(one.said)}, happened {ratio(one.happened)}, {one.n:,} samples")
        for at, one in zip(places, bins, strict=True)
    )
    diagonal = path_of([(plane.x(0.0), plane.y(0.0)), (plane.x(1.0), plane.y(1.0))])
    return Chart(
        dots,
        (("floor", diagonal), ("line", path_of(places))),
        plane.rows(),
        tuple(Tick(plane.x(at), f"{at:g}") for at in (0.0, 1.0)),
        f"How often the lightweight model was good enough, over the probability given: {len(bins)} bins, expected "
        f"calibration error {ratio(error)}.",
    )


def time_chart(periods: Sequence[Period], floor: float | None, commoner: object) -> Chart | None:
    """Draw accuracy over time, with the current version's, the gate's floor and the commoner answer's."""
    scored = [one for one in periods if one.accuracy is not None]
    if len(scored) < 2:
        return None
    lines = [value for value in (floor, commoner) if isinstance(value, (int, float))]
    shown = [value for one in scored for value in (one.accuracy, one.current_accuracy) if value is not None]
    plane = Plane(len(scored), [*shown, *lines])
    ends = (plane.x(0), plane.x(len(scored) - 1))
    paths = []
    for kind, level in (("base", commoner), ("floor", floor)):
        if isinstance(level, (int, float)):
            paths.append((kind, path_of([(x, plane.y(level)) for x in ends])))
    now = [(plane.x(i), one.current_accuracy) for i, one in enumerate(scored) if one.current_accuracy is not None]
    paths.append(("faint", path_of([(x, plane.y(value)) for x, value in now])))
    ours = [(plane.x(i), plane.y(one.accuracy or 0.0)) for i, one in enumerate(scored)]
    paths.append(("line", path_of(ours)))
    dots = tuple(
        Dot(*at, "published", f"accuracy {ratio(one.accuracy)} on {one.n:,} samples from {moment(one.start)}")
        for at, one in zip(ours, scored, strict=True)
    )
    worst = min(scored, key=lambda one: one.accuracy or 0.0)
    return Chart(
        dots,
        tuple(paths),
        plane.rows(),
        (Tick(ends[0], moment(scored[0].start)[:16]), Tick(ends[1], moment(scored[-1].stop)[:16])),
        f"Accuracy over time in {len(scored)} periods, at worst {ratio(worst.accuracy)} from {moment(worst.start)} on.",
    )


def cost_chart(curve: Sequence[Threshold], points: Sequence[Threshold]) -> Chart | None:
    """Draw the share of right choices over the share of requests that the lightweight model gets."""
    if len(curve) < 2:
        return None
    ordered = sorted(curve, key=lambda one: one.share)
    plane = Plane(2, [one.accuracy for one in (*ordered, *points)])
    dots = tuple(
        Dot(
            plane.x(one.share),
            plane.y(one.accuracy),
            "published" if place else "refused",
            f"{one.name}: {ratio(one.share)} of the requests, accuracy {ratio(one.accuracy)}",
        )
        for place, one in enumerate(points)
    )
    best = max(ordered, key=lambda one: one.accuracy)
    return Chart(
        dots,
        (("line", path_of([(plane.x(one.share), plane.y(one.accuracy)) for one in ordered])),),
        plane.rows(),
        (Tick(plane.x(0.0), "all to the powerful model"), Tick(plane.x(1.0), "all to the lightweight one")),
        f"Share of right choices over the share of requests on the lightweight model, highest with "
        f"{ratio(best.accuracy)} at a share of {ratio(best.share)}.",
    )
