"""Commands and exit codes; no logic. 0 done, 1 failed, 2 usage or configuration."""

from __future__ import annotations

import io
import sys
from typing import NoReturn

import click

from streamtrain import __version__
from streamtrain.cli import passes, quarantine, registry, service, serving


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def cli() -> None:
    """Keep a routing model fresh: watch routing logs, fine-tune, judge, publish."""


def main() -> NoReturn:
    """Run a command; what can go wrong in service ends in one line and exit code 1, a wrong configuration in 2."""
    from streamtrain.config import ConfigError
    from streamtrain.dataset.errors import StoreError
    from streamtrain.model.seal import VersionError
    from streamtrain.publish.errors import PublishError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode is no reason to fail
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        sys.exit(1)
    except click.ClickException as mistake:
        mistake.show()
        sys.exit(2)
    except ConfigError as mistake:
        click.echo(str(mistake), err=True)
        sys.exit(2)
    except (StoreError, PublishError, VersionError, OSError, ValueError) as failure:
        click.echo(f"streamtrain: {failure}", err=True)
        sys.exit(1)
    sys.exit(0)


for _command in (
    *(service.run, service.status, service.check, service.warmup, service.demo),
    *(passes.once, passes.ingest, passes.train),
    *(registry.versions, registry.rollback, registry.promote, registry.pin, registry.unpin, registry.keygen),
    *(serving.score, serving.export, quarantine.quarantine),
):
    cli.add_command(_command)
