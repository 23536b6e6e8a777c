"""The daemon in the foreground, and what is to be known before and beside it: run, status, check, warmup, demo."""

from __future__ import annotations

import logging
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import click

from streamtrain.cli.options import CONFIG, JSON, print_json

_LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


@click.command()
@CONFIG
def run(config_file: Path) -> None:
    """Be the daemon, in the foreground."""
    from streamtrain.daemon import Daemon
    from streamtrain.ops.notify import Notifier

    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT, stream=sys.stderr)
    Daemon(config_file, Notifier.from_environ()).run()


@click.command()
@CONFIG
@JSON
def status(config_file: Path, as_json: bool) -> None:
    """Show what is read, what is served, and what was decided last and why."""
    from streamtrain.config import load
    from streamtrain.ops.status import collect

    state = collect(load(config_file))
    if as_json:
        print_json(state)
        return
    from streamtrain.ops.tables import print_status

    print_status(state)


@click.command()
@CONFIG
def check(config_file: Path) -> None:
    """Validate a configuration and print what will be used; every mistake is pointed at in one go."""
    import yaml

    from streamtrain.config import load, to_dict
    from streamtrain.train.presets import PRESETS, resolve

    config = load(config_file)
    click.echo(yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True), nl=False)
    sizes = {"small": "under 1,000 samples", "medium": "1,000 to 10,000", "large": "over 10,000"}
    chosen = list(PRESETS) if config.training.preset == "auto" else [config.training.preset]
    given = {key: value for key, value in asdict(config.training).items() if value is not None}
    for name in chosen:
        click.echo(f"# training from scratch with preset {name} ({sizes[name]}):")
        for key, value in asdict(resolve(name, 0, given)).items():
            click.echo(f"#   {key}: {value}")
    click.echo(f"# {config_file}: valid")


@click.command()
@CONFIG
def warmup(config_file: Path) -> None:
    """Compile everything that training will need, so that the service starts fast."""
    from streamtrain.config import load
    from streamtrain.cycle import Cycle

    config = load(config_file)
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
