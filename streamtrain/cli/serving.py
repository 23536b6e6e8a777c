"""A published model, or a model file, in use: score."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
def score(model: Path) -> None:
    """Read feature vectors as JSON lines and write a score for each.

    MODEL is a models directory, a version's directory or a model file. A line is an array of features, or an object
    with every feature by name. A line that can't be scored gives {"error": …}, and exit code 1 at the end.
    """
    from streamtrain.router.lines import score_lines
    from streamtrain.router.load import load

    failed = score_lines(load(model), sys.stdin.buffer, sys.stdout)
    if failed:
        sys.exit(1)
