"""One pass of the flow, or its first half: once, ingest, train."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from streamtrain.cli.options import CONFIG, JSON, print_json, stoppable


@click.command()
@CONFIG
@JSON
def once(config_file: Path, as_json: bool) -> None:
    """Make one full pass over what is there, then exit."""
    from streamtrain.config import load
    from streamtrain.cycle import Cycle
    from streamtrain.ops.tables import print_left_out

    with stoppable() as stopped, Cycle(load(config_file)) as cycle:
        ingested = cycle.ingest(stopped)
        print_left_out(ingested, cycle.store.quarantine(1000))
        sizes = cycle.intake.splits().sizes
        decision = _learn(cycle, stopped)
    _show_pass(ingested, sizes, _decision(decision), as_json)


@click.command()
@CONFIG
@JSON
def ingest(config_file: Path, as_json: bool) -> None:
    """Read logs into the dataset only."""
    from streamtrain.config import load
    from streamtrain.intake import Intake
    from streamtrain.ops.tables import print_left_out

    with stoppable() as stopped, Intake(load(config_file)) as intake:
        report = intake.ingest(stopped)
        print_left_out(report, intake.store.quarantine(1000))
        sizes = intake.splits().sizes
    _show_pass(report, sizes, None, as_json)


@click.command()
@click.argument("logs", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--models", type=click.Path(path_type=Path, file_okay=False), required=True, help="Models directory.")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), help="Schema, training and gate."
)
@JSON
def train(logs: tuple[Path, ...], models: Path, config_file: Path | None, as_json: bool) -> None:
    """Train once from log files, without a daemon's state, and publish if the gate lets it."""
    from streamtrain.config import load, parse
    from streamtrain.cycle import Cycle
    from streamtrain.ops.tables import print_left_out

    base = parse("logs: {directory: logs}", Path()) if config_file is None else load(config_file)
    with tempfile.TemporaryDirectory(prefix="streamtrain-") as scratch:
        config = replace(
            base,
            state=replace(base.state, directory=Path(scratch)),
            models=replace(base.models, directory=models),
            dataset=replace(base.dataset, window=2**31 - 1, max_age_s=None),
        )
        with stoppable() as stopped, Cycle(config) as cycle:
            cycle.registry.acquire()
            ingested = cycle.intake.ingest_files(logs)
            print_left_out(ingested, cycle.store.quarantine(1000))
            if ingested.refused:
                raise click.UsageError("a log could not be read (see above); nothing was trained")
            sizes = cycle.intake.splits().sizes
            decision = _learn(cycle, stopped)
    _show_pass(ingested, sizes, _decision(decision), as_json)


def _learn(cycle: Any, stopped: Callable[[], bool]) -> Any:
    from streamtrain.cycle import Interrupted

    try:
        decision = cycle.learn(stopped)
        cycle.announcer.drain(stopped)
        return decision
    except Interrupted as reason:
        click.echo(f"streamtrain: {reason}", err=True)
        raise click.Abort from reason


def _decision(decision: Any) -> dict[str, Any]:
    return {
        "outcome": decision.outcome,
        "version": decision.version,
        "reason": decision.reason,
        "holdout_accuracy": decision.holdout_accuracy,
        "current_accuracy": decision.current_accuracy,
        "advice": decision.advice,
        "rules": [asdict(rule) for rule in decision.rules],
    }


def _show_pass(report: Any, window: dict[str, int], decision: dict[str, Any] | None, as_json: bool) -> None:
    from streamtrain.intake import SUMMARY

    ingested = {name: getattr(report, name) for name in SUMMARY}
    told: dict[str, Any] = {"ingested": ingested, "window": window}
    if decision is not None:
        told["decision"] = decision
    if as_json:
        print_json(told)
        return
    from streamtrain.ops.tables import print_pass

    print_pass(ingested, window, decision)
