"""What the commands show a person: tables and sentences on a terminal, plain text elsewhere."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streamtrain.ingest.ingestor import IngestReport
from streamtrain.publish.catalog import VersionInfo
from streamtrain.reading import Quarantined

_COLOURS = {"published": "green", "rejected": "yellow", "skipped": "cyan"}


def _console() -> Console:
    """Wrap for a terminal; leave lines whole for a file or a pipe, also where FORCE_COLOR asks for colours in it."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    return Console(highlight=False, soft_wrap=True, width=300)


def print_pass(ingested: dict[str, int], window: dict[str, int], decision: dict[str, Any] | None) -> None:
    """Show what a pass read, what the window holds and what the gate said."""
    console = _console()
    console.print("ingested  " + "  ".join(f"{value:,} {name}" for name, value in ingested.items()))
    console.print("window    " + "  ".join(f"{value:,} {name}" for name, value in window.items()))
    if decision is not None:
        _print_decision(console, decision)


def print_left_out(report: IngestReport, quarantined: Sequence[Quarantined]) -> None:
    """Say on stderr what was not read, and why most lines were not, where that is so."""
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    for path, reason in report.refused:
        console.print(f"left alone: {_printable(path)}: {_printable(reason)}")
    if report.quarantined <= report.samples:
        return
    console.print(f"{report.quarantined:,} of {report.lines:,} lines could not be read; the commonest reasons:")
    for reason, _ in Counter(row.reason for row in quarantined).most_common(3):
        row = next(one for one in quarantined if one.reason == reason)
        console.print(f"  {_printable(reason)} ({_printable(row.path)}, byte {row.offset})")
    console.print("  if the fields have other names, set `schema` in the configuration (--config)")


def print_states(states: Mapping[str, dict[str, Any]]) -> None:
    """Show the answer of `streamtrain status`: the state of each router, by name."""
    _print_states(_console(), states)


def status_text(states: Mapping[str, dict[str, Any]]) -> str:
    """Write what `print_states` shows, with its terminal codes."""
    console = _console()
    with console.capture() as held:
        _print_states(console, states)
    return held.get().rstrip("\n")


def _print_states(console: Console, states: Mapping[str, dict[str, Any]]) -> None:
    for name, state in states.items():
        if name:
            console.print(f"router    [bold]{_plain(name)}[/]")
        if "error" in state:
            console.print(f"[red]error[/]     {_plain(state['error'])}")
        else:
            _print_status(console, state)


def _print_status(console: Console, state: dict[str, Any]) -> None:
    window, lag, ingested = state["window"], state["lag"], state["ingested"]
    console.print(
        f"window    {window['samples']:,} samples, {_time(window.get('oldest'))} to {_time(window.get('newest'))}"
    )
    if ingested is None:
        console.print("ingested  nothing yet: there is no state database")
    else:
        console.print("ingested  " + "  ".join(f"{value:,} {name}" for name, value in ingested.items()))
        console.print(f"lag       {lag['bytes']:,} bytes, {lag['seconds']:.1f} s not yet read")
    rebuilt = state.get("rebuilt")
    if rebuilt:
        console.print(
            f"[red]rebuilt[/]   {_time(rebuilt['time'])}: the state database was damaged and is kept as "
            f"{_plain(rebuilt['aside'])}; the dataset holds what the logs that were still there gave",
            soft_wrap=True,
        )
    migrated = state.get("migrated")
    if migrated:
        console.print(
            f"migrated  {_time(migrated['time'])}: the state database from format {migrated['from']} to "
            f"{migrated['to']}; the older one is kept as {_plain(migrated['backup'])}",
            soft_wrap=True,
        )
    refused = state.get("refused_configuration")
    if refused:
        console.print(
            f"[red]refused[/]   {_time(refused['time'])}: the daemon goes on under the configuration from before: "
            f"{_plain(refused['reason'])}",
            soft_wrap=True,
        )
    current = state["current"]
    if current is None:
        console.print("serving   nothing yet")
    else:
        accuracy = current["holdout_accuracy"]
        shown = "unknown" if accuracy is None else f"{accuracy:.3f}"
        console.print(f"serving   [bold]{escape(current['version'])}[/], holdout accuracy {shown}")
        if current["damage"] is not None:
            console.print(f"          [red]damaged[/]: {escape(current['damage'])}")
    change = state.get("last_change")
    if change is not None:
        by = "by itself" if change.get("automatic") else f"by {change.get('user') or 'a person'}"
        why = f": {change['reason']}" if change.get("reason") else ""
        console.print(
            _plain(f"{change['event']:9s} from {change.get('previous')} to {change.get('version')}, {by}{why}"),
            soft_wrap=True,
        )
    if state.get("alarm") is not None:
        told = f"the world has changed and nothing better was published since: {state['alarm']}"
        console.print(f"[yellow]alarm[/]     {_plain(told)}", soft_wrap=True)
    if state["last_decision"] is not None:
        _print_decision(console, state["last_decision"])
    exploration = state.get("exploration")
    if exploration and exploration.get("warning"):
        console.print(f"[yellow]bias[/]      {_plain(str(exploration['text']))}", soft_wrap=True)


def print_versions(versions: Sequence[VersionInfo]) -> None:
    """Show the published versions, the newest last."""
    table = Table("", "version", "published", "accuracy", "parent", "note")
    for one in versions:
        accuracy = "" if one.test_accuracy is None else f"{one.test_accuracy:.3f}"
        note = ", ".join(word for word in ("pinned" if one.pinned else "", one.damage or "") if word)
        marker = "→" if one.current else ""
        table.add_row(marker, one.version, one.timestamp or "", accuracy, one.parent or "", escape(note))
    _console().print(table if versions else "no version was published yet")


def print_trials(trials: Sequence[Mapping[str, Any]]) -> None:
    """Show the trials of a sweep, rung by rung, the best first."""
    table = Table("rung", "epochs", "settings", "validation loss", "accuracy")
    for one in trials:
        settings = ", ".join(f"{key}={value}" for key, value in one["settings"].items())
        loss, accuracy = one["loss"], one["accuracy"]
        figures = ("diverged", "") if loss is None else (f"{loss:.5f}", f"{accuracy:.4f}")
        table.add_row(str(one["rung"] + 1), f"{one['n_epochs']} of {one['epochs']}", _plain(settings), *figures)
    _console().print(table)


def print_quarantine(rows: Sequence[Quarantined]) -> None:
    """Show quarantined lines by file, offset and reason; their content only as escaped text."""
    table = Table("number", "file", "offset", "reason", "line")
    for row in rows:
        shown = row.line[:80].decode("utf-8", "backslashreplace")
        table.add_row(str(row.id), _plain(row.path), str(row.offset), _plain(row.reason), _plain(shown))
    _console().print(table if rows else "nothing is quarantined")


def print_quarantined(row: Quarantined) -> None:
    """Show one quarantined line with its place and reason, and what was kept of it as escaped text."""
    console = _console()
    console.print(f"file      {_plain(row.path)}", soft_wrap=True)
    console.print(f"offset    {row.offset}")
    console.print(f"reason    {_plain(row.reason)}", soft_wrap=True)
    shown = row.line.decode("utf-8", "backslashreplace")
    console.print(f"line      {_plain(shown)}", soft_wrap=True)


def _print_decision(console: Console, decision: dict[str, Any]) -> None:
    outcome = str(decision.get("outcome"))
    version = f" {escape(str(decision['version']))}" if decision.get("version") else ""
    console.print(
        f"decision  [{_COLOURS.get(outcome, 'white')}]{outcome}{version}[/]: {escape(str(decision['reason']))}"
    )
    for rule in decision.get("rules") or ():
        console.print(f"          {'[green]✓[/]' if rule['passed'] else '[red]✗[/]'} {escape(str(rule['text']))}")
    if decision.get("advice"):
        console.print(f"advice    {escape(str(decision['advice']))}")


def _time(seconds: float | None) -> str:
    return "never" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}Z"


def _plain(text: str) -> str:
    return escape(_printable(text))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
