"""One pass of the flow, or its first half: once, ingest, train."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from streamtrain.cli.options import (
    CONFIG,
    JSON,
    ROUTER,
    ROUTERS,
    configs,
    print_json_of,
    print_router,
    stoppable,
)
from streamtrain.cli.progress import Bars, shown_bars


@click.command()
@CONFIG
@ROUTERS
@JSON
def once(config_file: Path, router: str | None, as_json: bool) -> None:
    """Make one full pass over what is there, then exit."""
    from streamtrain.cycle import Cycle
    from streamtrain.ops.tables import print_left_out

    told = {}
    with stoppable() as stopped:
        for name, config in configs(config_file, router).items():
            with shown_bars() as bars, Cycle(config, on_progress=bars.step) as cycle:
                ingested = cycle.intake.ingest(stopped, bars.reading(cycle.intake.lag))
                quarantined = cycle.store.quarantine(1000)
                sizes = cycle.intake.splits().sizes
                decision = _learn(cycle, stopped, bars)
            print_left_out(ingested, quarantined)
            told[name] = told_of_pass(ingested, sizes, decision)
            if decision is None:
                break
    if all("decision" in one for one in told.values()):
        show_passes(told, as_json)
    stopped.leave()


@click.command()
@CONFIG
@ROUTERS
@JSON
def ingest(config_file: Path, router: str | None, as_json: bool) -> None:
    """Read logs into the dataset only."""
    from streamtrain.intake import Intake
    from streamtrain.ops.tables import print_left_out

    told = {}
    with stoppable() as stopped:
        for name, config in configs(config_file, router).items():
            with shown_bars() as bars, Intake(config) as intake:
                report = intake.ingest(stopped, bars.reading(intake.lag))
                quarantined = intake.store.quarantine(1000)
                bars.begin("cutting the window")
                sizes = intake.splits().sizes
            print_left_out(report, quarantined)
            told[name] = told_of_pass(report, sizes, None)
    show_passes(told, as_json)
    stopped.leave()


@click.command()
@click.argument("logs", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--models", type=click.Path(path_type=Path, file_okay=False), required=True, help="Models directory.")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), help="Schema, training and gate."
)
@ROUTER
@JSON
def train(logs: tuple[Path, ...], models: Path, config_file: Path | None, router: str | None, as_json: bool) -> None:
    """Train once from log files, without a daemon's state, and publish if the gate lets it."""
    from streamtrain.config import load, parse
    from streamtrain.cycle import Cycle
    from streamtrain.ops.tables import print_left_out

    base = parse("logs: {directory: logs}", Path()) if config_file is None else load(config_file, router)
    with tempfile.TemporaryDirectory(prefix="streamtrain-") as scratch:
        config = replace(
            base,
            state=replace(base.state, directory=Path(scratch)),
            models=replace(base.models, directory=models),
            dataset=replace(base.dataset, window=2**31 - 1, max_age_s=None),
        )
        with stoppable() as stopped, shown_bars() as bars, Cycle(config, on_progress=bars.step) as cycle:
            cycle.registry.acquire()
            n_read_bytes = 0

            def on_file(file: Path) -> None:
                nonlocal n_read_bytes
                n_read_bytes += file.stat().st_size
                bars.reach(n_read_bytes)

            bars.begin("reading logs", sum(log.stat().st_size for log in logs), "bytes")
            ingested = cycle.intake.ingest_files(logs, on_file)
            print_left_out(ingested, cycle.store.quarantine(1000))
            if ingested.refused:
                raise click.UsageError("a log could not be read (see above); nothing was trained")
            sizes = cycle.intake.splits().sizes
            decision = _learn(cycle, stopped, bars)
    if decision is not None:
        show_passes({"": told_of_pass(ingested, sizes, decision)}, as_json)
    stopped.leave()


def _learn(cycle: Any, stopped: Callable[[], bool], bars: Bars) -> dict[str, Any] | None:
    """Learn, and tell whoever wants to know of a version; None if it was stopped before a decision."""
    from streamtrain.cycle import Interrupted

    try:
        decision = cycle.learn(stopped)
    except Interrupted as reason:
        click.echo(f"streamtrain: {reason}", err=True)
        return None
    bars.begin("telling hooks and webhooks")
    cycle.announcer.drain(stopped)
    return told_of_decision(decision)


def told_of_decision(decision: Any) -> dict[str, Any]:
    """Tell of a decision in JSON values."""
    return {
        "outcome": decision.outcome,
        "version": decision.version,
        "reason": decision.reason,
        "holdout_accuracy": decision.holdout_accuracy,
        "current_accuracy": decision.current_accuracy,
        "advice": decision.advice,
        "rules": [asdict(rule) for rule in decision.rules],
    }


def told_of_pass(report: Any, window: dict[str, int], decision: dict[str, Any] | None) -> dict[str, Any]:
    """Tell of a pass in JSON values."""
    from streamtrain.intake import SUMMARY

    told: dict[str, Any] = {"ingested": {name: getattr(report, name) for name in SUMMARY}, "window": window}
    return told if decision is None else told | {"decision": decision}


def show_passes(told: dict[str, dict[str, Any]], as_json: bool) -> None:
    """Print what was told of the pass of each router."""
    if as_json:
        print_json_of(told)
        return
    from streamtrain.ops.tables import print_pass

    for name, one in told.items():
        print_router(name)
        print_pass(one["ingested"], one["window"], one.get("decision"))
