"""What commands share: the options that most take, how one JSON object is printed, and how a long one is stopped."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from streamtrain.config import Config

CONFIG = click.option(
    "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), required=True, help="YAML file."
)
ROUTER = click.option("--router", metavar="NAME", help="One of the file's `routers`, where there are several.")
ROUTERS = click.option("--router", metavar="NAME", help="One of the file's `routers`; without, all of them.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def configs(config_file: Path, router: str | None) -> dict[str, Config]:
    """Read the configuration of one router, or of all: by name, "" for the only one of a file without `routers`."""
    from streamtrain.config import load, load_service

    return dict(load_service(config_file).routers) if router is None else {"": load(config_file, router)}


def print_json_of(told: dict[str, Any]) -> None:
    """Print what was told of each router: an object for one without a name, {"routers": {name: object}} for others."""
    print_json(told[""] if list(told) == [""] else {"routers": told})


def print_router(name: str) -> None:
    """Say of which router the next lines are."""
    if name:
        click.echo(f"router    {name}")


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
