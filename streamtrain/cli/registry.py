"""What was published, and which of it is served: versions, rollback, promote, pin, unpin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from streamtrain.cli.options import CONFIG, JSON, print_json


@click.command()
@CONFIG
@JSON
def versions(config_file: Path, as_json: bool) -> None:
    """List the published versions."""
    from streamtrain.config import load
    from streamtrain.publish.catalog import Catalog

    found = Catalog(load(config_file).models.directory).versions()
    if as_json:
        print_json([asdict(version) for version in found])
        return
    from streamtrain.ops.tables import print_versions

    print_versions(found)


def _change(config_file: Path, change: Callable[[Any], str]) -> None:
    from streamtrain.config import load
    from streamtrain.publish.registry import Registry

    config = load(config_file)
    click.echo(change(Registry(config.models.directory, keep=config.models.keep)))


@click.command()
@CONFIG
@click.argument("version", required=False)
def rollback(config_file: Path, version: str | None) -> None:
    """Serve the previous version again, or the one named."""
    _change(config_file, lambda registry: f"serving {registry.rollback(version)}")


@click.command()
@CONFIG
@click.argument("version")
def promote(config_file: Path, version: str) -> None:
    """Serve the version named."""
    _change(config_file, lambda registry: f"serving {registry.promote(version)}")


@click.command()
@CONFIG
@click.argument("version")
def pin(config_file: Path, version: str) -> None:
    """Keep a version whatever `models.keep` says."""
    _change(config_file, lambda registry: registry.pin(version) or f"pinned {version}")


@click.command()
@CONFIG
@click.argument("version")
def unpin(config_file: Path, version: str) -> None:
    """Let retention have a pinned version again."""
    _change(config_file, lambda registry: registry.unpin(version) or f"unpinned {version}")
