"""The report of one version, or of a candidate that was refused, as one HTML file that needs nothing else."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from streamtrain import __version__
from streamtrain.ops.page import charts, portraits, words
from streamtrain.ops.page.pages import FOLDER, environment
from streamtrain.publish.catalog import Catalog
from streamtrain.publish.errors import NoVersionError
from streamtrain.publish.refusals import read_refused

REFUSED = "refused"
"""What stands for the last candidate that was refused, where a version is asked for."""


def report_of(catalog: Catalog, version: str) -> bytes:
    """Write the report of a version.

    Parameters
    ----------
    catalog : Catalog
    version : str
        Or `REFUSED`.

    Returns
    -------
    bytes
        HTML, UTF-8.

    Raises
    ------
    NoVersionError, VersionError, OSError
        As `Catalog.report`.
    """
    if version != REFUSED:
        manifest, metrics = catalog.report(version)
        return _render(version, manifest.get("timestamp"), manifest, metrics)
    kept = read_refused(catalog.models_dir)
    if not kept:
        raise NoVersionError(f"{catalog.models_dir} keeps no report of a refused candidate; none was refused yet")
    last = kept[-1]
    return _render(
        "A refused candidate", last.get("time"), _mapping(last.get("manifest")), _mapping(last.get("metrics"))
    )


def _render(title: str, time: object, manifest: dict[str, Any], metrics: dict[str, Any]) -> bytes:
    epochs = [one for one in metrics.get("epochs") or [] if isinstance(one, dict)]
    holdout = metrics.get("holdout") if isinstance(metrics.get("holdout"), dict) else None
    figures = portraits.read_figures(holdout)
    gate = manifest.get("gate") if isinstance(manifest.get("gate"), dict) else None
    rules = [one for one in (gate or {}).get("rules") or [] if isinstance(one, dict)]
    floor = next((one.get("bound") for one in rules if one.get("name") == "min_accuracy"), None)
    error = None if holdout is None else holdout.get("ece")
    drawn: dict[str, charts.Chart | None] = dict.fromkeys(("reliability", "time", "cost"))
    drawn |= {
        "loss": charts.loss_chart(epochs),
        "learned": portraits.accuracy_epochs_chart(epochs),
    }
    if figures is not None and holdout is not None:
        drawn |= {
            "reliability": portraits.reliability_chart(figures.reliability, error),
            "time": portraits.time_chart(
                figures.time, floor if isinstance(floor, (int, float)) else None, holdout.get("majority_accuracy")
            ),
            "cost": portraits.cost_chart(figures.cost, figures.points),
        }
    inputs = manifest.get("inputs")
    page = environment().get_template("report.html")
    return page.render(
        style=Markup((FOLDER / "style.css").read_text() + (FOLDER / "report.css").read_text()),  # noqa: S704 - ours
        title=title,
        time=time,
        manifest=manifest,
        gate=None if gate is None else words.receipt({"event": "candidate", **gate}),
        rules=rules,
        holdout=holdout,
        confusion=_mapping(holdout.get("confusion")) if holdout else {},
        figures=figures,
        drawn=drawn,
        n_epochs=len(epochs),
        n_inputs=len(inputs) if isinstance(inputs, list) else None,
        widest=max((one.loss for one in figures.influence.features), default=0.0) if figures else 0.0,
        program=__version__,
    ).encode()


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
