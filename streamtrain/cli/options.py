"""What commands share: the options that most take, how one JSON object is printed, and how a long one is stopped."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
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
