"""What commands share: the options that most take, and how one JSON object is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

CONFIG = click.option(
    "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), required=True, help="YAML file."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    # In ASCII, and without its one control character: file names and lines may hold what a terminal would obey.
    click.echo(json.dumps(value, default=str).replace("\x7f", "\\u007f"))
