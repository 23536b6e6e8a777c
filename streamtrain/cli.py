"""Commands and exit codes; no logic. 0 done, 1 failed, 2 usage or configuration."""

from __future__ import annotations

import io
import json
import logging
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import click

from streamtrain import __version__

CONFIG = click.option(
    "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), required=True, help="YAML file."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def cli() -> None:
    """Keep a routing model fresh: watch routing logs, fine-tune, judge, publish."""


def main() -> NoReturn:
    """Run a command; what can go wrong in service ends in one line and exit code 1, a wrong configuration in 2."""
    from streamtrain.config import ConfigError
    from streamtrain.dataset.errors import StoreError
    from streamtrain.model.seal import VersionError
    from streamtrain.publish.errors import PublishError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode is no reason to fail
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        sys.exit(1)
    except click.ClickException as mistake:
        mistake.show()
        sys.exit(2)
    except ConfigError as mistake:
        click.echo(str(mistake), err=True)
        sys.exit(2)
    except (StoreError, PublishError, VersionError, OSError, ValueError) as failure:
        click.echo(f"streamtrain: {failure}", err=True)
        sys.exit(1)
    sys.exit(0)


@cli.command()
@CONFIG
def run(config_file: Path) -> None:
    """Be the daemon, in the foreground."""
    from streamtrain.daemon import Daemon
    from streamtrain.ops.notify import Notifier

    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT, stream=sys.stderr)
    Daemon(config_file, Notifier.from_environ()).run()


@cli.command()
@CONFIG
@JSON
def once(config_file: Path, as_json: bool) -> None:
    """Make one full pass over what is there, then exit."""
    from streamtrain.config import load
    from streamtrain.cycle import Cycle
    from streamtrain.ops.tables import print_left_out

    with _stoppable() as stopped, Cycle(load(config_file)) as cycle:
        ingested = cycle.ingest(stopped)
        print_left_out(ingested, cycle.store.quarantine(1000))
        sizes = cycle.intake.splits().sizes
        decision = _learn(cycle, stopped)
    _show_pass(ingested, sizes, _decision(decision), as_json)


@cli.command()
@CONFIG
@JSON
def ingest(config_file: Path, as_json: bool) -> None:
    """Read logs into the dataset only."""
    from streamtrain.config import load
    from streamtrain.intake import Intake
    from streamtrain.ops.tables import print_left_out

    with _stoppable() as stopped, Intake(load(config_file)) as intake:
        report = intake.ingest(stopped)
        print_left_out(report, intake.store.quarantine(1000))
        sizes = intake.splits().sizes
    _show_pass(report, sizes, None, as_json)


@cli.command()
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
        with _stoppable() as stopped, Cycle(config) as cycle:
            cycle.registry.acquire()
            ingested = cycle.intake.ingest_files(logs)
            print_left_out(ingested, cycle.store.quarantine(1000))
            if ingested.refused:
                raise click.UsageError("a log could not be read (see above); nothing was trained")
            sizes = cycle.intake.splits().sizes
            decision = _learn(cycle, stopped)
    _show_pass(ingested, sizes, _decision(decision), as_json)


@cli.command()
@CONFIG
@JSON
def status(config_file: Path, as_json: bool) -> None:
    """Show what is read, what is served, and what was decided last and why."""
    from streamtrain.config import load
    from streamtrain.ops.status import collect

    state = collect(load(config_file))
    if as_json:
        _print_json(state)
        return
    from streamtrain.ops.tables import print_status

    print_status(state)


@cli.command()
@CONFIG
@JSON
def versions(config_file: Path, as_json: bool) -> None:
    """List the published versions."""
    from streamtrain.config import load
    from streamtrain.outlet import catalog

    found = catalog(load(config_file)).versions()
    if as_json:
        _print_json([asdict(version) for version in found])
        return
    from streamtrain.ops.tables import print_versions

    print_versions(found)


def _change(config_file: Path, change: Callable[[Any], str]) -> None:
    from streamtrain.config import load
    from streamtrain.outlet import Outlet

    outlet = Outlet(load(config_file), publishing=False)
    with _stoppable() as stopped:
        click.echo(change(outlet.registry))
        outlet.announcer.drain(stopped)


@cli.command()
@CONFIG
@click.argument("version", required=False)
def rollback(config_file: Path, version: str | None) -> None:
    """Serve the previous version again, or the one named."""
    _change(config_file, lambda registry: f"serving {registry.rollback(version)}")


@cli.command()
@CONFIG
@click.argument("version")
def promote(config_file: Path, version: str) -> None:
    """Serve the version named."""
    _change(config_file, lambda registry: f"serving {registry.promote(version)}")


@cli.command()
@CONFIG
@click.argument("version")
def pin(config_file: Path, version: str) -> None:
    """Keep a version whatever `models.keep` says."""
    _change(config_file, lambda registry: registry.pin(version) or f"pinned {version}")


@cli.command()
@CONFIG
@click.argument("version")
def unpin(config_file: Path, version: str) -> None:
    """Let retention have a pinned version again."""
    _change(config_file, lambda registry: registry.unpin(version) or f"unpinned {version}")


@cli.command()
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


@cli.command()
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


@cli.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--public-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Refuse what it did not sign."
)
def score(model: Path, public_key: Path | None) -> None:
    """Read feature vectors as JSON lines and write a score for each.

    MODEL is a models directory, a version's directory or a model file. A line is an array of features, or an object
    with every feature by name. A line that can't be scored gives {"error": …}, and exit code 1 at the end.
    """
    from streamtrain.model.signature import read_public_key
    from streamtrain.router.lines import score_lines
    from streamtrain.router.load import load

    loaded = load(model, None if public_key is None else read_public_key(public_key))
    failed = score_lines(loaded, sys.stdin.buffer, sys.stdout)
    if failed:
        sys.exit(1)


@cli.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def keygen(file: Path) -> None:
    """Make a key that signs versions (publish.signing_key): FILE, and FILE.pub for the routers."""
    from streamtrain.publish.signing import generate

    public_file = generate(file)
    click.echo(f"private key: {file} (for the trainer alone)\npublic key: {public_file} (for routers)")


@cli.group()
def quarantine() -> None:
    """Look at lines that could not be read."""


@quarantine.command(name="list")
@CONFIG
@JSON
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1))
def quarantine_list(config_file: Path, as_json: bool, limit: int) -> None:
    """List the latest, with file, offset and reason."""
    from streamtrain.config import load
    from streamtrain.dataset.store import Store

    config = load(config_file)
    with Store(config.state.directory / "state.db", config.schema.digest, readonly=True) as store:
        rows = store.quarantine(limit)
    if as_json:
        _print_json([asdict(row) for row in rows])
        return
    from streamtrain.ops.tables import print_quarantine

    print_quarantine(rows)


@quarantine.command(name="show")
@CONFIG
@JSON
@click.argument("number", type=click.IntRange(1))
def quarantine_show(config_file: Path, as_json: bool, number: int) -> None:
    """Show one line with everything that is known of it."""
    from streamtrain.config import load
    from streamtrain.dataset.store import Store

    config = load(config_file)
    with Store(config.state.directory / "state.db", config.schema.digest, readonly=True) as store:
        row = store.quarantined(number)
    if row is None:
        raise click.BadParameter(f"there is no quarantined line {number}; `quarantine list` has the numbers")
    if as_json:
        _print_json(asdict(row))
        return
    from streamtrain.ops.tables import print_quarantined

    print_quarantined(row)


@quarantine.command(name="retry")
@CONFIG
@JSON
def quarantine_retry(config_file: Path, as_json: bool) -> None:
    """Decode the lines again under the schema of today, and ingest those that now work."""
    from streamtrain.config import load
    from streamtrain.intake import Intake

    with Intake(load(config_file)) as intake:
        report = asdict(intake.retry())
    if as_json:
        _print_json(report)
    else:
        click.echo("  ".join(f"{value:,} {name}" for name, value in report.items()))


@cli.command(context_settings={"ignore_unknown_options": True})
@click.option("--logs", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Replay this log instead.")
def demo(logs: Path | None) -> None:
    """Show the whole flow live, in a minute, in a temporary folder."""
    from streamtrain.showcase import run_demo

    sys.exit(run_demo(logs))


@contextmanager
def _stoppable() -> Iterator[Callable[[], bool]]:
    """Let the first SIGINT or SIGTERM end a long command in good order, and the next one at once."""
    asked = threading.Event()

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
        _print_json(told)
        return
    from streamtrain.ops.tables import print_pass

    print_pass(ingested, window, decision)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, default=str))
