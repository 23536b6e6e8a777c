"""What was published, and which of it is served: versions, rollback, promote, pin, unpin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from streamtrain.cli.options import (
    CONFIG,
    JSON,
    MAYBE_VERSION,
    ROUTER,
    ROUTERS,
    VERSION,
    configs,
    print_json,
    print_json_of,
    print_router,
    stoppable,
)
from streamtrain.cli.progress import shown_bars

_SERVING = ("rollback", "promote")


@click.command()
@CONFIG
@ROUTERS
@JSON
@MAYBE_VERSION
@click.option(
    "--report",
    "report",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Write VERSION's report (or that of the last candidate `refused`) as one HTML file.",
)
def versions(config_file: Path, router: str | None, as_json: bool, version: str | None, report: str | None) -> None:
    """List the published versions, or write the report of one (the current one if VERSION is not given)."""
    from streamtrain.outlet import catalog

    if report is not None:
        _write_report(config_file, router, version, report, as_json)
        return
    if version is not None:
        raise click.UsageError("VERSION says of which one --report is to be written")
    found = {name: catalog(config).versions() for name, config in configs(config_file, router).items()}
    if as_json:
        print_json_of({name: [asdict(version) for version in those] for name, those in found.items()})
        return
    from streamtrain.ops.tables import print_versions

    for name, those in found.items():
        print_router(name)
        print_versions(those)


def _write_report(config_file: Path, router: str | None, version: str | None, file: str, as_json: bool) -> None:
    """Write the report of a version to a file, or to stdout for `-`."""
    from streamtrain.config import load
    from streamtrain.ops.page.report import REFUSED, report_of
    from streamtrain.outlet import catalog
    from streamtrain.publish.catalog import is_version
    from streamtrain.publish.durable import write_file
    from streamtrain.publish.errors import NoVersionError

    if version is None and (is_version(file) or file == REFUSED):
        version, file = file, ""  # `versions --report VERSION`
    found = catalog(load(config_file, router))
    version = version or found.current()
    if version is None:
        raise NoVersionError(f"{found.models_dir} has no current version; nothing was published yet")
    page = report_of(found, version)
    if file == "-":
        click.echo(page, nl=False)
        return
    target = Path(file or f"streamtrain-{version}.html")
    write_file(target, page)
    if as_json:
        print_json({"version": version, "report": str(target), "bytes": len(page)})
        return
    click.echo(f"report of {version}: {target}")


def _change(config_file: Path, router: str | None, event: str, change: Callable[[Any], str], as_json: bool) -> None:
    """Change what is current, or pinned; `change` returns the version that it was done to."""
    from streamtrain.config import load
    from streamtrain.outlet import Outlet

    outlet = Outlet(load(config_file, router), publishing=False)
    with stoppable() as stopped:
        previous = outlet.registry.current() if event in _SERVING else None
        version = change(outlet.registry)
        if as_json:
            more = {"previous": previous} if event in _SERVING else {}
            print_json({"event": event, "version": version} | more)
        else:
            click.echo(f"{'serving' if event in _SERVING else f'{event}ned'} {version}")
        outlet.announcer.drain(stopped)
    stopped.leave()


@click.command()
@CONFIG
@ROUTER
@JSON
@MAYBE_VERSION
def rollback(config_file: Path, router: str | None, as_json: bool, version: str | None) -> None:
    """Serve the previous version again, or the one named."""
    _change(config_file, router, "rollback", lambda registry: str(registry.rollback(version)), as_json)


@click.command()
@CONFIG
@ROUTER
@JSON
@MAYBE_VERSION
@click.option(
    "--from",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Make this fastgrnn.safetensors a version first, as Tiny Dancer's trainRouter writes it.",
)
@click.option("--unscaled", is_flag=True, help="FILE takes the log's plain columns, not router.input_scale times them.")
def promote(
    config_file: Path, router: str | None, as_json: bool, version: str | None, file: Path | None, unscaled: bool
) -> None:
    """Serve the version named, or a model file of another trainer, which is not judged."""
    if (version is None) == (file is None):
        raise click.UsageError("promote takes either a VERSION or --from FILE")
    if file is None:
        if unscaled:
            raise click.UsageError("--unscaled says what a --from FILE takes; a version knows it")
        _change(config_file, router, "promote", lambda registry: str(registry.promote(version)), as_json)
        return
    from streamtrain.adoption import adopt
    from streamtrain.config import load

    with stoppable() as stopped, shown_bars() as bars:
        bars.begin(f"importing {file.name}")
        adopted = adopt(load(config_file, router), file, unscaled=unscaled, should_stop=stopped)
    if as_json:
        print_json(
            {"event": "promote", "version": adopted.version, "previous": adopted.previous}
            | {"imported": {"path": str(file), "sha256": adopted.sha256}}
            | {"int8_error": adopted.int8_error, "other_shape": adopted.other_shape}
        )
        stopped.leave()
        return
    click.echo(f"serving {adopted.version}, imported from {file} (SHA-256 {adopted.sha256})")
    click.echo(f"rounding its weights to INT8 moves its confidence by at most {adopted.int8_error:.2g}")
    if adopted.other_shape:
        click.echo(f"to fine-tune it instead of training from scratch, set model: {{{', '.join(adopted.other_shape)}}}")
    stopped.leave()


@click.command()
@CONFIG
@ROUTER
@JSON
@VERSION
def pin(config_file: Path, router: str | None, as_json: bool, version: str) -> None:
    """Keep a version whatever `models.keep` says."""
    _change(config_file, router, "pin", lambda registry: registry.pin(version) or version, as_json)


@click.command()
@CONFIG
@ROUTER
@JSON
@VERSION
def unpin(config_file: Path, router: str | None, as_json: bool, version: str) -> None:
    """Let retention have a pinned version again."""
    _change(config_file, router, "unpin", lambda registry: registry.unpin(version) or version, as_json)


@click.command()
@JSON
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def keygen(file: Path, as_json: bool) -> None:
    """Make a key that signs versions (publish.signing_key): FILE, and FILE.pub for the routers."""
    from streamtrain.publish.signing import generate

    public_file = generate(file)
    if as_json:
        print_json({"private_key": str(file), "public_key": str(public_file)})
        return
    click.echo(f"private key: {file} (for the trainer alone)\npublic key: {public_file} (for routers)")
