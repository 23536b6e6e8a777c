"""The daemon in the foreground, and what is to be known before and beside it: run, status, check, warmup, demo."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamtrain.cli.options import CONFIG, JSON, ROUTERS, configs, print_json_of, print_router

if TYPE_CHECKING:
    from streamtrain.config import Config


@click.command()
@CONFIG
def run(config_file: Path) -> None:
    """Be the daemon, in the foreground."""
    from streamtrain.daemon import Daemon
    from streamtrain.ops.logs import configure
    from streamtrain.ops.memory import share_arenas
    from streamtrain.ops.notify import Notifier

    share_arenas()
    logging.captureWarnings(True)  # of libraries: they quote paths, and stderr is for lines that were escaped
    daemon = Daemon(
        config_file,
        Notifier.from_environ(),
        configure_logs=lambda service: configure(service.log.format, sys.stderr, os.environ),
    )
    failed = True
    try:
        daemon.run()
        failed = False
    finally:
        logging.shutdown()
        if daemon.abandoned:
            # A thread is in the middle of an epoch or of compiling, which nothing can interrupt; nothing waits for it.
            if failed:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(int(failed))


@click.command()
@CONFIG
@ROUTERS
@JSON
def status(config_file: Path, router: str | None, as_json: bool) -> None:
    """Show what is read, what is served, and what was decided last and why."""
    from streamtrain.ops.status import collect, collect_all

    chosen = configs(config_file, router)
    states = {"": collect(chosen[""])} if list(chosen) == [""] else collect_all(chosen)
    if as_json:
        print_json_of(states)
        return
    from streamtrain.ops.tables import print_status

    for name, state in states.items():
        print_router(name)
        if "error" in state:
            click.echo(f"error     {state['error']}")
        else:
            print_status(state)


@click.command()
@CONFIG
@ROUTERS
def check(config_file: Path, router: str | None) -> None:
    """Validate a configuration and print what will be used; every mistake is pointed at in one go."""
    for name, config in configs(config_file, router).items():
        if name:
            click.echo(f"# router {name}:")
        _show(config)
    click.echo(f"# {config_file}: valid")


def _show(config: Config) -> None:
    import yaml

    from streamtrain.config import to_dict
    from streamtrain.train.presets import PRESETS, resolve

    click.echo(yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True), nl=False)
    sizes = {"small": "under 1,000 samples", "medium": "1,000 to 10,000", "large": "over 10,000"}
    chosen = list(PRESETS) if config.training.preset == "auto" else [config.training.preset]
    given = {key: value for key, value in asdict(config.training).items() if value is not None}
    for name in chosen:
        click.echo(f"# training from scratch with preset {name} ({sizes[name]}):")
        for key, value in asdict(resolve(name, 0, given)).items():
            click.echo(f"#   {key}: {value}")


@click.command()
@CONFIG
@ROUTERS
def warmup(config_file: Path, router: str | None) -> None:
    """Compile everything that training will need, so that the service starts fast."""
    from streamtrain.cycle import Cycle

    for name, config in configs(config_file, router).items():
        print_router(name)
        with tempfile.TemporaryDirectory(prefix="streamtrain-") as scratch:
            aside = replace(config.state, directory=Path(scratch))  # the daemon may hold the real one
            with Cycle(replace(config, state=aside)) as cycle:
                click.echo(f"{cycle.warm()} kernels ready")


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--logs", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Replay this log instead.")
def demo(logs: Path | None) -> None:
    """Show the whole flow live, in a minute, in a temporary folder."""
    from streamtrain.showcase import run_demo

    sys.exit(run_demo(logs))
