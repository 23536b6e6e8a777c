"""What was published, and which of it is served: versions, rollback, promote, pin, unpin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from streamtrain.cli.options import CONFIG, JSON, ROUTER, ROUTERS, configs, print_json_of, print_router, stoppable


@click.command()
@CONFIG
@ROUTERS
@JSON
def versions(config_file: Path, router: str | None, as_json: bool) -> None:
    """List the published versions."""
    from streamtrain.outlet import catalog

    found = {name: catalog(config).versions() for name, config in configs(config_file, router).items()}
    if as_json:
        print_json_of({name: [asdict(version) for version in those] for name, those in found.items()})
        return
    from streamtrain.ops.tables import print_versions

    for name, those in found.items():
        print_router(name)
        print_versions(those)


def _change(config_file: Path, router: str | None, change: Callable[[Any], str]) -> None:
    from streamtrain.config import load
    from streamtrain.outlet import Outlet

    outlet = Outlet(load(config_file, router), publishing=False)
    with stoppable() as stopped:
        click.echo(change(outlet.registry))
        outlet.announcer.drain(stopped)


@click.command()
@CONFIG
@ROUTER
@click.argument("version", required=False)
def rollback(config_file: Path, router: str | None, version: str | None) -> None:
    """Serve the previous version again, or the one named."""
    _change(config_file, router, lambda registry: f"serving {registry.rollback(version)}")


@click.command()
@CONFIG
@ROUTER
@click.argument("version", required=False)
@click.option(
    "--from",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Make this fastgrnn.safetensors a version first, as Tiny Dancer's trainRouter writes it.",
)
@click.option("--unscaled", is_flag=True, help="FILE takes the log's plain columns, not router.input_scale times them.")
def promote(config_file: Path, router: str | None, version: str | None, file: Path | None, unscaled: bool) -> None:
    """Serve the version named, or a model file of another trainer, which is not judged."""
    if (version is None) == (file is None):
        raise click.UsageError("promote takes either a VERSION or --from FILE")
    if file is None:
        if unscaled:
            raise click.UsageError("--unscaled says what a --from FILE takes; a version knows it")
        _change(config_file, router, lambda registry: f"serving {registry.promote(version)}")
        return
    from streamtrain.adoption import adopt
    from streamtrain.config import load

    with stoppable() as stopped:
        adopted = adopt(load(config_file, router), file, unscaled=unscaled, should_stop=stopped)
    click.echo(f"serving {adopted.version}, imported from {file} (SHA-256 {adopted.sha256})")
    click.echo(f"rounding its weights to INT8 moves its confidence by at most {adopted.int8_error:.2g}")
    if adopted.other_shape:
        click.echo(f"to fine-tune it instead of training from scratch, set model: {{{', '.join(adopted.other_shape)}}}")


@click.command()
@CONFIG
@ROUTER
@click.argument("version")
def pin(config_file: Path, router: str | None, version: str) -> None:
    """Keep a version whatever `models.keep` says."""
    _change(config_file, router, lambda registry: registry.pin(version) or f"pinned {version}")


@click.command()
@CONFIG
@ROUTER
@click.argument("version")
def unpin(config_file: Path, router: str | None, version: str) -> None:
    """Let retention have a pinned version again."""
    _change(config_file, router, lambda registry: registry.unpin(version) or f"unpinned {version}")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def keygen(file: Path) -> None:
    """Make a key that signs versions (publish.signing_key): FILE, and FILE.pub for the routers."""
    from streamtrain.publish.signing import generate

    public_file = generate(file)
    click.echo(f"private key: {file} (for the trainer alone)\npublic key: {public_file} (for routers)")
