"""Past one machine: push the current version to an object store, pull it from there."""

from __future__ import annotations

import logging
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamtrain.cli.options import JSON, print_json, stoppable

if TYPE_CHECKING:
    from streamtrain.cli.options import Stop
    from streamtrain.fleet.pull import Outcome, Puller
    from streamtrain.ops.notify import Notifier

_TRIES = 5
_KEEP = click.option(
    "--keep", default=10, show_default=True, type=click.IntRange(2, 500), metavar="N", help="Versions that stay."
)
_TIMEOUT = click.option(
    "--timeout",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0.1, 3600.0),
    metavar="SECONDS",
    help="For a connection, and for silence on one.",
)


@click.command()
@click.argument("models", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("url")
@_KEEP
@_TIMEOUT
@JSON
def push(models: Path, url: str, keep: int, timeout: float, as_json: bool) -> None:
    """Copy DIR's current version to URL (s3://…, gs://…, file:///…) and point to it, for `pull` on other hosts."""
    from streamtrain.fleet.push import push as push_now

    with _libraries():
        done = push_now(models, url, keep=keep, timeout_s=timeout)
    if as_json:
        print_json(asdict(done))
        return
    click.echo(f"{done.result} {done.version}, serial {done.serial}: {len(done.files)} files written")
    if done.removed:
        click.echo(f"removed {', '.join(done.removed)}")


@click.command()
@click.argument("url")
@click.argument("models", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--every",
    type=click.FloatRange(0.1, 86400.0),
    metavar="SECONDS",
    help="Go on until SIGTERM, at such intervals, each up to 20 % shorter or longer.",
)
@_KEEP
@click.option(
    "--public-key", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Refuse what it did not sign."
)
@_TIMEOUT
@click.option("--forget", is_flag=True, help="Take what URL has even if it is older: after it was made anew.")
@JSON
def pull(
    url: str,
    models: Path,
    every: float | None,
    keep: int,
    public_key: Path | None,
    timeout: float,
    forget: bool,
    as_json: bool,
) -> None:
    """Bring the models directory DIR in step with URL (https://…, s3://…), where a trainer's `push` writes.

    DIR is made, and is this command's alone. Whatever comes is verified to the last bit before `current` moves to it.
    """
    from streamtrain.fleet.mirror import Mirror
    from streamtrain.fleet.pull import Puller
    from streamtrain.model.signature import read_public_key
    from streamtrain.ops.notify import Notifier

    key = None if public_key is None else read_public_key(public_key)
    notifier = Notifier.from_environ()
    with stoppable() as stopped, Mirror(models, keep=keep, public_key=key) as mirror:

        def get_on() -> bool:
            notifier.watchdog()
            return stopped()

        with _libraries():
            puller = Puller(url, mirror, timeout, get_on)
        with closing(puller):
            if forget:
                mirror.acquire()
                mirror.forget()
            if every is not None:
                _follow(puller, every, notifier, stopped, as_json)
                return
            outcome = _pull(puller, stopped)
    stopped.leave()
    if outcome is None:
        return
    if as_json:
        print_json(asdict(outcome))
        return
    cost = f"{outcome.requests} requests, {outcome.bytes:,} bytes"
    click.echo(f"serving {outcome.version} ({outcome.result}, serial {outcome.serial}; {cost})")


def _pull(puller: Puller, stopped: Stop) -> Outcome | None:
    """Pull once, and again soon if that fails in a way that may pass; None if told to stop."""
    from streamtrain.fleet.errors import RemoteError, StoppedError
    from streamtrain.fleet.follow import after_failures

    rng = random.Random()  # noqa: S311 - a jitter
    for nth in range(1, _TRIES + 1):
        try:
            return puller.once()
        except StoppedError as reason:
            click.echo(f"streamtrain: {reason}", err=True)
            return None
        except RemoteError as error:
            if nth == _TRIES:
                raise
            pause_s = after_failures(nth, 0.5, rng)
            click.echo(f"streamtrain: {error}; again in {pause_s:.1f} s", err=True)
            if stopped.wait(pause_s):
                return None
    return None


def _follow(puller: Puller, every_s: float, notifier: Notifier, stopped: Stop, as_json: bool) -> None:
    from streamtrain.fleet.follow import follow
    from streamtrain.ops.logs import configure

    def tell(outcome: Outcome) -> None:
        if as_json and outcome.result in ("pulled", "switched"):
            print_json(asdict(outcome))
            sys.stdout.flush()

    configure("auto", sys.stderr, os.environ)
    # Hosts start at the same moment, too.
    rng = random.Random(f"{os.uname().nodename} {os.getpid()} {time.time_ns()}")  # noqa: S311 - a jitter
    try:
        follow(puller, every_s, notifier=notifier, rng=rng, wait=stopped.wait, on_outcome=tell)
    finally:
        logging.shutdown()
    if stopped.is_interrupt:
        stopped.leave()


@contextmanager
def _libraries() -> Iterator[None]:
    """Tell of a library that is missing as of a mistake in using the command: exit code 2."""
    from streamtrain.fleet.errors import MissingLibraryError

    try:
        yield
    except MissingLibraryError as error:
        raise click.UsageError(str(error)) from error
