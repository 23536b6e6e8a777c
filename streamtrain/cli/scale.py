"""What outgrows one machine: backfill, sweep."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from streamtrain.cli.options import CONFIG, JSON, ROUTER, stoppable
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
