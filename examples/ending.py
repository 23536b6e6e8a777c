"""The end of the demo: the plot, what came of it, and where to go from here."""

from __future__ import annotations

import math
import os
from pathlib import Path

from chart import draw, terminal_plot
from rich.table import Table
from rich.text import Text
from serving import Serving
from shape import Shape
from show import STREAMTRAIN, Show, figure


def conclude(show: Show, serving: Serving, exit_code: int, replay: bool) -> dict[str, bool]:
    """Print the plot and what came of it, write the PNG; every promise and whether it was kept."""
    served, story, change = serving.so_far(), show.story, serving.change
    first = story.swaps[0][0] if story.swaps else None
    shares: list[tuple[str, float | None, float | None]] = []
    if first is not None:
        shares.append(("without a model", 0.0, first))
        if replay:
            shares.append(("with one", first, None))
        elif change is not None:
            shares.append(("before the change", first, change))
            shares.append(("after it, until the retrained model", change, show.recovered))
            if show.recovered is not None:
                shares.append(("with the retrained model", show.recovered, None))
    found = [(name, *served.between(start, end), *(start, end)) for name, start, end in shares]
    story.subtitle = ", ".join(f"{share:.0%} {name}".replace("%", " %") for name, share, _, _, _ in found)
    (show.folder / "accuracy.png").write_bytes(draw(story))

    show.console.print()
    show.console.print(terminal_plot(story, min(show.console.width, 110), 16))
    key = Text("       ")
    for sign, style, name in (
        ("━", "bold blue", "routed right"),
        ("━", "bright_black", "commoner answer"),
        ("●", "bold green", "published"),
        ("✕", "bold red", "refused"),
        ("┄", "yellow", "floor"),
    ):
        key.append(f"{sign} ", style=style).append(f"{name}   ")
    show.console.print(key)

    table = Table(
        "requests", "routed right", "of", "commoner answer", box=None, padding=(0, 3, 0, 0), header_style="dim"
    )
    for name, share, n, start, end in found:
        base = served.base_rate(start or 0.0, end or math.inf)
        table.add_row(name, f"[bold]{share:.1%}[/]", f"{n:,}", f"{base:.1%}")
    show.console.print(table)

    done, ingested = serving.done or {}, show.ingested()
    written = done.get("lines", 0) + done.get("rubbish", 0)
    n_published, n_refused = len(show.outcomes("published")), len(show.outcomes("rejected"))
    show.console.print(
        f"{written:,} lines written, {done.get('rotations', 0)} rotations, {done.get('shipped', 0)} dropped files, "
        f"{done.get('rubbish', 0)} of them rubbish; {figure(ingested.get('lines'))} read, "
        f"{figure(ingested.get('quarantined'))} quarantined. {n_published} published, {n_refused} refused."
    )
    promises = {"every line was read": ingested.get("lines") == written, "the daemon exited 0": exit_code == 0}
    if not replay:
        promises |= {
            "every rubbish line was quarantined": ingested.get("quarantined") == done.get("rubbish"),
            "a version was published": n_published > 0,
            "a candidate was refused": n_refused > 0,
            "the router recovered": show.recovered is not None,
        }
    for promise, kept in promises.items():
        if not kept:
            show.console.print(Text(f"not so: {promise}", style="bold red"))
    return promises


def next_steps(show: Show, shape: Shape | None) -> None:
    """Where things are, and what a person would type next."""
    program = os.path.relpath(STREAMTRAIN) if STREAMTRAIN.is_relative_to(Path.cwd()) else str(STREAMTRAIN)
    config = f"--config {show.folder / 'demo.yaml'}"
    commands = [f"{program} versions {config}", f"{program} rollback {config}"]
    if shape is None:
        commands.append(f"echo '[0.8, 0.9, 0.7, 0.85, 0.2]' | {program} score {show.models}")
    else:
        commands.append(f"{program} status {config}")
    show.console.print(f"\nplot    {show.folder / 'accuracy.png'}\nmodels  {show.models}\n\nnext:", soft_wrap=True)
    for command in commands:
        show.console.print(Text(f"  {command}"), soft_wrap=True)
