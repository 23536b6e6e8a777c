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
    click.echo(json.dumps(value, ensure_ascii=False, default=str))
