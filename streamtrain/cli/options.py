"""What commands share: the options that most take, how one JSON object is printed, and how a long one is stopped."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streamtrain.cli.completion import complete_routers, complete_versions

if TYPE_CHECKING:
    from streamtrain.config import Config

CONFIG = click.option(
    "--config", "config_file", type=click.Path(path_type=Path, dir_okay=False), required=True, help="YAML file."
)
INTERRUPTED = 130
"""Exit code after SIGINT."""
ROUTER = click.option(
    "--router",
    metavar="NAME",
    shell_complete=complete_routers,
    help="One of the file's `routers`, where there are several.",
)
ROUTERS = click.option(
    "--router",
    metavar="NAME",
    shell_complete=complete_routers,
    help="One of the file's `routers`; without, all of them.",
)
VERSION = click.argument("version", shell_complete=complete_versions)
MAYBE_VERSION = click.argument("version", required=False, shell_complete=complete_versions)
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
    click.echo(as_json_text(value))


def as_json_text(value: Any) -> str:
    """Write a value as one line of JSON."""
    # In ASCII, and without its one control character: file names and lines may hold what a terminal would obey.
    return json.dumps(value, default=str).replace("\x7f", "\\u007f")


class Stop:
    """Whether a command was asked to stop, and by which signal; it is asked by calling it."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Tell whether to stop."""
        return self._asked.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait, no longer than until asked; tells whether to stop."""
        return self._asked.wait(seconds)

    @property
    def is_interrupt(self) -> bool:
        """Whether it was asked by Ctrl-C."""
        return self.signal == signal.SIGINT

    def ask(self, number: int, frame: object) -> None:
        """Ask it to stop; a handler of signals. The next one ends the process at once."""
        self.signal = number
        self._asked.set()
        signal.signal(number, signal.SIG_DFL)

    def leave(self) -> None:
        """End the command here if it was asked to, once what it did was told.

        Raises
        ------
        Exit
            With 130 after SIGINT, as shells have it, and 1 after SIGTERM.
        """
        if self.signal is not None:
            raise click.exceptions.Exit(INTERRUPTED if self.is_interrupt else 1)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Let the first SIGINT or SIGTERM end a long command in good order, and the next one at once."""
    stop = Stop()
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
