"""Shell completion, by click's own machinery: the script for a shell, and what only the configuration knows."""

from __future__ import annotations

from pathlib import Path

import click

PROGRAM = "streamtrain"
VARIABLE = "_STREAMTRAIN_COMPLETE"
"""Environment variable by which the script asks the program for what may come next."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    bash: eval "$(streamtrain completion bash)" in ~/.bashrc. zsh: the same with zsh in ~/.zshrc, after compinit.
    fish: streamtrain completion fish > ~/.config/fish/completions/streamtrain.fish
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    if made is None:  # pragma: no cover - the three are click's own
        raise click.UsageError(f"this click has no completion for {shell}; install click 8.1 or later")
    click.echo(made(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE).source())


def complete_versions(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of the versions that the configuration named so far has, the newest first."""
    from streamtrain.config import ConfigError, load
    from streamtrain.publish.catalog import Catalog
    from streamtrain.publish.errors import PublishError

    file = context.params.get("config_file")
    if not file:
        return []
    try:
        names = Catalog(load(Path(file), context.params.get("router")).models.directory).names()
    except (ConfigError, PublishError, OSError):
        return []  # the command itself says what is wrong
    return [name for name in reversed(names) if name.startswith(incomplete)]


def complete_routers(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of the routers that the configuration named so far has."""
    from streamtrain.config import ConfigError, load_service

    file = context.params.get("config_file")
    if not file:
        return []
    try:
        names = load_service(Path(file)).routers
    except (ConfigError, OSError):
        return []
    return [name for name in names if name and name.startswith(incomplete)]
