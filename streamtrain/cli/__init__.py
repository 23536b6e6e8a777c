"""Commands and exit codes; no logic. 0 done, 1 failed, 2 usage or configuration, 130 interrupted by Ctrl-C."""

from __future__ import annotations

import io
import os
import sys
from typing import NoReturn

import click

from streamtrain import __version__
from streamtrain.cli import completion, fleet, passes, quarantine, registry, replaying, scale, service, serving
from streamtrain.cli.options import INTERRUPTED


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def cli() -> None:
    """Keep a routing model fresh: watch routing logs, fine-tune, judge, publish."""


def main() -> NoReturn:
    """Run a command; what can go wrong in service ends in one line and exit code 1, a wrong configuration in 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode is no reason to fail
    try:
        code = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = _nobody_reads()
    sys.exit(code)


def _run() -> int:
    from streamtrain.config import ConfigError
    from streamtrain.dataset.errors import StoreError
    from streamtrain.fleet.errors import FleetError
    from streamtrain.model.seal import VersionError
    from streamtrain.publish.errors import PublishError

    try:
        # Outside of its standalone mode click returns the code that a command ended itself with.
        code = cli.main(prog_name=completion.PROGRAM, complete_var=completion.VARIABLE, standalone_mode=False)
    except click.Abort as reason:
        return INTERRUPTED if isinstance(reason.__cause__, KeyboardInterrupt) else 1
    except click.ClickException as mistake:
        mistake.show()
        return 2
    except ConfigError as mistake:
        click.echo(str(mistake), err=True)
        return 2
    except BrokenPipeError:
        raise
    except (StoreError, PublishError, VersionError, FleetError, OSError, ValueError) as failure:
        click.echo(f"streamtrain: {failure}", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _nobody_reads() -> int:
    """Whoever read the output has gone, as `head` does; what Python still holds of it must not fail once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return 1


for _command in (
    *(service.run, service.status, service.check, service.warmup, service.demo),
    *(passes.once, passes.ingest, passes.train),
    *(registry.versions, registry.rollback, registry.promote, registry.pin, registry.unpin, registry.keygen),
    *(replaying.replay, scale.backfill, scale.sweep, fleet.push, fleet.pull),
    *(serving.score, serving.export, quarantine.quarantine, completion.completion),
):
    cli.add_command(_command)
