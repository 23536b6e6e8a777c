"""Lines that could not be read: quarantine list, show, retry."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from streamtrain.cli.options import CONFIG, JSON, ROUTER, print_json
from streamtrain.cli.progress import shown_bars


@click.group()
def quarantine() -> None:
    """Look at lines that could not be read."""


@quarantine.command(name="list")
@CONFIG
@ROUTER
@JSON
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="At most so many.")
def quarantine_list(config_file: Path, router: str | None, as_json: bool, limit: int) -> None:
    """List the latest, with file, offset and reason."""
    from streamtrain.config import load
    from streamtrain.dataset.store import Store

    config = load(config_file, router)
    with Store(config.state.directory / "state.db", config.schema.digest, readonly=True) as store:
        rows = store.quarantine(limit)
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    from streamtrain.ops.tables import print_quarantine

    print_quarantine(rows)


@quarantine.command(name="show")
@CONFIG
@ROUTER
@JSON
@click.argument("number", type=click.IntRange(1))
def quarantine_show(config_file: Path, router: str | None, as_json: bool, number: int) -> None:
    """Show one line with everything that is known of it."""
    from streamtrain.config import load
    from streamtrain.dataset.store import Store

    config = load(config_file, router)
    with Store(config.state.directory / "state.db", config.schema.digest, readonly=True) as store:
        row = store.quarantined(number)
    if row is None:
        raise click.BadParameter(f"there is no quarantined line {number}; `quarantine list` has the numbers")
    if as_json:
        print_json(asdict(row))
        return
    from streamtrain.ops.tables import print_quarantined

    print_quarantined(row)


@quarantine.command(name="retry")
@CONFIG
@ROUTER
@JSON
def quarantine_retry(config_file: Path, router: str | None, as_json: bool) -> None:
    """Decode the lines again under the schema of today, and ingest those that now work."""
    from streamtrain.config import load
    from streamtrain.intake import Intake

    with shown_bars() as bars, Intake(load(config_file, router)) as intake:
        bars.begin("decoding quarantined lines", intake.store.n_quarantined(), "lines")
        report = asdict(intake.retry(bars.reach))
    if as_json:
        print_json(report)
    else:
        click.echo("  ".join(f"{value:,} {name}" for name, value in report.items()))
