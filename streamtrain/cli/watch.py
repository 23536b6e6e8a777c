"""`status --watch`: the status again and again, redrawn on a terminal, one line a change elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from streamtrain.cli.options import as_json_text

States = dict[str, dict[str, Any]]


def watch(collect: Callable[[], States], show: Callable[[States], str], as_json: bool, interval_s: float) -> None:
    """Watch until interrupted.

    Parameters
    ----------
    collect : callable
        The state of each router, by name; {"error": why} where there is none.
    show : callable
        What a person is shown of it, with terminal codes.
    as_json : bool
        Print each change as one line of JSON.
    interval_s : float
        Seconds between two looks.
    """
    if as_json or not sys.stdout.isatty():
        _tell_changes(collect, as_json, interval_s)
    else:
        _redraw(collect, show, interval_s)


def _redraw(collect: Callable[[], States], show: Callable[[States], str], interval_s: float) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    last = ""
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                last = show(collect())
                now = f"{datetime.now(UTC):%H:%M:%S}Z, every {interval_s:g} s; Ctrl-C ends"
                live.update(Text.from_ansi(f"{last}\n{now}"), refresh=True)
                time.sleep(interval_s)
    finally:
        # The screen from before is back; what was seen last stays on it.
        click.echo(last)


def _tell_changes(collect: Callable[[], States], as_json: bool, interval_s: float) -> None:
    last: object = None
    while True:
        states = collect()
        steady = {name: _steady(state) for name, state in states.items()}
        if steady != last:
            last = steady
            if as_json:
                click.echo(as_json_text(states[""] if list(states) == [""] else {"routers": states}))
            else:
                for name, state in states.items():
                    click.echo(_line(name, state))
            sys.stdout.flush()
        time.sleep(interval_s)


def _steady(state: dict[str, Any]) -> dict[str, Any]:
    """Leave out what changes by itself."""
    lag = state.get("lag")
    return state if not isinstance(lag, dict) else state | {"lag": {"bytes": lag.get("bytes")}}


def _line(name: str, state: dict[str, Any]) -> str:
    words = [f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", *([f"router={name}"] if name else [])]
    if "error" in state:
        return " ".join([*words, "error:", " ".join(str(state["error"]).split())])
    current, decision, ingested = state["current"], state["last_decision"], state["ingested"] or {}
    accuracy = None if current is None else current["holdout_accuracy"]
    words += [
        f"window={state['window']['samples']}",
        f"lines={ingested.get('lines', 0)}",
        f"quarantined={ingested.get('quarantined', 0)}",
        f"lag_bytes={state['lag']['bytes'] or 0}",
        f"serving={'-' if current is None else current['version']}",
        f"accuracy={'-' if accuracy is None else f'{accuracy:.3f}'}",
        f"decision={'-' if decision is None else decision.get('outcome')}",
    ]
    return " ".join(words)
