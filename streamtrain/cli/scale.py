"""What outgrows one machine: backfill, sweep."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from streamtrain.cli.options import CONFIG, JSON, ROUTER, print_json, stoppable
from streamtrain.cli.passes import show_passes, told_of_decision, told_of_pass
from streamtrain.cli.progress import shown_bars


def cluster_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which workers work for it, and how its inputs are opened."""
    for option in reversed(
        (
            click.option("--scheduler", metavar="URL", help="Of a running Dask cluster, such as tcp://host:8786."),
            click.option("--workers", type=click.IntRange(1), help="Processes to start here instead.  [default: 1]"),
            click.option("--memory", default="auto", show_default=True, help="Of each of those, such as 1GiB."),
            click.option(
                "--storage-option", "storage", multiple=True, metavar="KEY=VALUE",
                help="For the file system of the URLs, such as anon=true; as often as needed.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def storage_options(given: tuple[str, ...]) -> dict[str, Any]:
    """Read KEY=VALUE pairs; a value that is JSON is what that says, any other is text."""
    import json

    options = {}
    for one in given:
        key, separator, value = one.partition("=")
        if not separator:
            raise click.UsageError(f"--storage-option {one!r}: expected KEY=VALUE")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options


def check_workers(scheduler: str | None, workers: int | None) -> None:
    """Refuse both a running cluster and processes of our own."""
    if scheduler is not None and workers is not None:
        raise click.UsageError("--scheduler and --workers: expected one of them")


@click.command()
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@CONFIG
@ROUTER
@click.option("--models", type=click.Path(path_type=Path, file_okay=False), help="Another models directory.")
@click.option(
    "--part-bytes", type=click.IntRange(1 << 16), default=64 << 20, show_default=True,
    help="Of a plain file for one task. The weights depend on it.",
)  # fmt: skip
@cluster_options
@JSON
def backfill(
    urls: tuple[str, ...],
    config_file: Path,
    router: str | None,
    models: Path | None,
    part_bytes: int,
    scheduler: str | None,
    workers: int | None,
    memory: str,
    storage: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train on a backlog with many workers, and publish if the gate lets it.

    A URL is a file, a pattern or a folder of any file system that fsspec knows: file, s3, gs, http, memory …
    """
    from streamtrain.config import load
    from streamtrain.cycle import Cycle
    from streamtrain.ops.tables import print_left_out
    from streamtrain.scale.backfill import backfill as run
    from streamtrain.scale.cluster import Cluster, StoppedError

    check_workers(scheduler, workers)
    options, config = storage_options(storage), load(config_file, router)
    if models is not None:
        config = replace(config, models=replace(config.models, directory=models))
    with stoppable() as stopped, shown_bars() as bars, Cycle(config) as cycle:
        # First, so that workers find compiled kernels, and a models directory that is in use is told of at once.
        cycle.registry.acquire()
        bars.begin("compiling")
        cycle.warm(stopped)
        try:
            with Cluster(scheduler, workers or 1, memory, stopped) as cluster:
                done = run(cycle, urls, cluster, options, part_bytes, time.time(), stopped, bars.part)
        except StoppedError as reason:
            click.echo(f"streamtrain: {reason}", err=True)
            stopped.leave()
            return
        bars.begin("telling hooks and webhooks")
        cycle.announcer.drain(stopped)
    print_left_out(done.report, done.examples)
    show_passes({"": told_of_pass(done.report, dict(done.sizes), told_of_decision(done.decision))}, as_json)
    stopped.leave()


@click.command()
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@CONFIG
@ROUTER
@click.option(
    "--grid", multiple=True, metavar="KEY=VALUE,…", help="Values to try, or LOW..HIGH to draw from; as often as needed."
)
@click.option("--draws", type=click.IntRange(1), help="So many random settings instead of all combinations.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws.")
@click.option("--samples", type=click.IntRange(100), default=200_000, show_default=True, help="To train on, at most.")
@click.option("--eta", type=click.IntRange(2), default=3, show_default=True, help="One of so many goes on.")
@click.option("--first-epochs", type=click.IntRange(1), default=2, show_default=True, help="On the first rung.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the winner there, as YAML.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw all trials there, as SVG.")
@cluster_options
@JSON
def sweep(
    urls: tuple[str, ...],
    config_file: Path,
    router: str | None,
    grid: tuple[str, ...],
    draws: int | None,
    seed: int,
    samples: int,
    eta: int,
    first_epochs: int,
    out: Path | None,
    plot: Path | None,
    scheduler: str | None,
    workers: int | None,
    memory: str,
    storage: tuple[str, ...],
    as_json: bool,
) -> None:
    """Try settings on logs with many workers: the better ones longer, the best as a YAML preset."""
    from streamtrain.config import load
    from streamtrain.ops.tables import print_trials
    from streamtrain.scale.cluster import Cluster, StoppedError
    from streamtrain.scale.inputs import PART_BYTES, plan
    from streamtrain.scale.loading import read
    from streamtrain.scale.sweep import SettingsError, choices, with_settings
    from streamtrain.scale.sweep import sweep as run
    from streamtrain.scale.sweep_plot import picture

    check_workers(scheduler, workers)
    options, config = storage_options(storage), load(config_file, router)
    try:
        tried = choices(grid, draws, seed)
        for one in tried:
            with_settings(config, one)
    except SettingsError as mistake:
        raise click.UsageError(str(mistake)) from mistake
    with stoppable() as stopped, shown_bars() as bars:
        try:
            with Cluster(scheduler, workers or 1, memory, stopped) as cluster:
                parts = plan(config, urls, options, PART_BYTES, time.time())
                inputs = read(cluster, config, parts, options, bars.part)
                swept = run(config, tried, cluster, inputs, samples, eta, first_epochs, bars.part)
        except StoppedError as reason:
            click.echo(f"streamtrain: {reason}", err=True)
            stopped.leave()
            return
    if out is not None:
        out.write_text(swept.preset, encoding="utf-8")
    if plot is not None:
        plot.write_text(picture(swept.trials), encoding="utf-8")
    if as_json:
        print_json(asdict(swept))
        return
    print_trials([asdict(one) for one in swept.trials])
    click.echo(swept.preset, nl=False)
