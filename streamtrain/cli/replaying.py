"""A published version made again from its inputs: replay."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamtrain.cli.options import CONFIG, JSON, ROUTER, VERSION, print_json, stoppable
from streamtrain.cli.progress import shown_bars

if TYPE_CHECKING:
    from streamtrain.replay import Replayed


@click.command()
@CONFIG
@ROUTER
@JSON
@click.option(
    "--logs",
    "places",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Look for its logs in this directory too; may be given several times.",
)
@VERSION
def replay(config_file: Path, router: str | None, as_json: bool, places: tuple[Path, ...], version: str) -> None:
    """Make a version again from its logs and compare it bit for bit; say what is missing if that can't be."""
    from streamtrain.config import load
    from streamtrain.replay import replay as make_again

    config = load(config_file, router)
    with stoppable() as stopped, shown_bars() as bars:
        made = make_again(config, version, places, stopped, bars.begin)
    if made is None:
        stopped.leave()
        return
    if as_json:
        print_json(made.to_json())
    else:
        click.echo("\n".join(_lines(made)))
    if not made.identical:
        raise click.exceptions.Exit(1)


def _lines(made: Replayed) -> list[str]:
    parent = "" if made.parent is None else f" from {made.parent}"
    lines = [f"version   {made.version}: {made.origin}{parent}, {made.n_samples:,} samples"]
    for file in made.files:
        lines.append(f"{'same' if file.identical else 'OTHER':9} {file.name}")
        lines.append(f"          {file.recorded} in the manifest")
        lines.append(f"          {file.rebuilt} made now")
    lines += [f"missing   {reason}" for reason in made.missing]
    lines += [f"differs   {difference}" for difference in made.differences]
    if made.identical:
        lines.append("identical: the weights come out bit for bit as they were published")
    elif made.files and made.differences:
        lines.append("not identical; where the environment differs (above), sums may round differently")
    elif made.files:
        lines.append("NOT IDENTICAL, in the same environment: that must not be")
    else:
        lines.append("it can't be made again without what is missing")
    return lines
