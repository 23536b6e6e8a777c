"""The daemon in the foreground, and what is to be known before and beside it: run, status, check, warmup, demo."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamtrain.cli.options import CONFIG, JSON, ROUTERS, configs, print_json, print_json_of, print_router
from streamtrain.cli.progress import shown_bars

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
@click.option(
    "--watch", "watching", is_flag=True, help="Go on: redrawn on a terminal; elsewhere one line a change, or JSON."
)
@click.option(
    "--interval",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0.1, 3600.0),
    metavar="SECONDS",
    help="Time between two looks of --watch.",
)
def status(config_file: Path, router: str | None, as_json: bool, watching: bool, interval: float) -> None:
    """Show what is read, what is served, and what was decided last and why."""
    from streamtrain.ops.status import collect, collect_all

    chosen = configs(config_file, router)
    if watching:
        from streamtrain.cli.watch import watch
        from streamtrain.ops.tables import status_text

        watch(lambda: collect_all(chosen), status_text, as_json, interval)
        return
    states = {"": collect(chosen[""])} if list(chosen) == [""] else collect_all(chosen)
    if as_json:
        print_json_of(states)
        return
    from streamtrain.ops.tables import print_states

    print_states(states)


@click.command()
@CONFIG
@ROUTERS
@JSON
def check(config_file: Path, router: str | None, as_json: bool) -> None:
    """Validate a configuration and print what will be used; every mistake is pointed at in one go."""
    from streamtrain.config import ConfigError, to_dict

    try:
        chosen = configs(config_file, router)
        _check_golden(config_file, chosen)
    except ConfigError as error:
        if not as_json:
            raise
        mistakes = [asdict(mistake) | {"value": shown(mistake.value)} for mistake in error.mistakes]
        print_json({"file": str(config_file), "valid": False, "mistakes": mistakes})
        raise click.exceptions.Exit(2) from error
    if as_json:
        used = {
            name: {"config": to_dict(config), "presets": _presets(config), "notes": _notes(config)}
            for name, config in chosen.items()
        }
        told = used[""] if list(used) == [""] else {"routers": used}
        print_json({"file": str(config_file), "valid": True} | told)
        return
    for name, config in chosen.items():
        if name:
            click.echo(f"# router {name}:")
        _show(config)
        for note in _notes(config):
            click.echo(f"# note: {note}")
    click.echo(f"# {config_file}: valid")


def _check_golden(config_file: Path, chosen: Mapping[str, Config]) -> None:
    """Read the golden cases too, as every training does.

    Raises
    ------
    ConfigError
    """
    from streamtrain.config import ConfigError
    from streamtrain.config.mistakes import Mistake
    from streamtrain.ingest.golden import GoldenError, read_golden

    mistakes = []
    for name, config in chosen.items():
        golden = config.gate.golden
        if golden is None:
            continue
        try:
            read_golden(golden, config.schema)
        except GoldenError as error:
            key = f"routers.{name}.gate.golden" if name else "gate.golden"
            mistakes.append(Mistake(key, str(golden), "a file of golden cases", str(error)))
    if mistakes:
        raise ConfigError(config_file, mistakes)


def shown(value: object) -> object:
    """Cut a value of a wrong configuration, which may be anything, to what can be written as JSON and read."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)[:200]


def _presets(config: Config) -> dict[str, dict[str, object]]:
    """Return what training from scratch will use, by preset: the one set, or each that `auto` may choose."""
    from streamtrain.train.presets import PRESETS, resolve

    chosen = list(PRESETS) if config.training.preset == "auto" else [config.training.preset]
    given = {key: value for key, value in asdict(config.training).items() if value is not None}
    return {name: asdict(resolve(name, 0, given)) for name in chosen}


def _notes(config: Config) -> list[str]:
    """Say what the samples that are at hand lack, if any are."""
    from streamtrain.dataset.errors import StoreError
    from streamtrain.dataset.exploration import explore
    from streamtrain.dataset.store import Store

    try:
        with Store(config.state.directory / "state.db", config.schema.digest, readonly=True) as store:
            read = (store.read(chunk) for chunk in store.chunks())
            found = explore(((one.weights, one.propensities) for one in read), config.dataset.max_propensity_weight)
    except StoreError:
        return []  # nothing was read yet; what else is wrong, the commands that need it say
    return [found.text] if (found.n_samples and found.status != "some") or found.warning else []


def _show(config: Config) -> None:
    import yaml

    from streamtrain.config import to_dict

    click.echo(yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True), nl=False)
    sizes = {"small": "under 1,000 samples", "medium": "1,000 to 10,000", "large": "over 10,000"}
    for name, settings in _presets(config).items():
        click.echo(f"# training from scratch with preset {name} ({sizes[name]}):")
        for key, value in settings.items():
            click.echo(f"#   {key}: {value}")


@click.command()
@CONFIG
@ROUTERS
@JSON
def warmup(config_file: Path, router: str | None, as_json: bool) -> None:
    """Compile everything that training will need, so that the service starts fast."""
    from streamtrain.cycle import Cycle

    told = {}
    for name, config in configs(config_file, router).items():
        with tempfile.TemporaryDirectory(prefix="streamtrain-") as scratch:
            aside = replace(config.state, directory=Path(scratch))  # the daemon may hold the real one
            with shown_bars() as bars, Cycle(replace(config, state=aside), on_progress=bars.step) as cycle:
                told[name] = {"kernels": cycle.warm()}
        if not as_json:
            print_router(name)
            click.echo(f"{told[name]['kernels']} kernels ready")
    if as_json:
        print_json_of(told)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--logs", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Replay this log instead.")
def demo(logs: Path | None) -> None:
    """Show the whole flow live, in a minute, in a temporary folder."""
    from streamtrain.showcase import run_demo

    sys.exit(run_demo(logs))
