"""What is shown of a run while it happens: a line for each event, and a live panel where somebody watches."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chart import Mark, Story, terminal_plot
from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text
from serving import Serving

STREAMTRAIN = Path(sys.executable).with_name("streamtrain")
RECOVERED = 0.04  # as good again as before the change, but for this
ENOUGH = 500  # requests, to say so


class Show:
    """What the demo knows so far, and the lines it prints about it.

    Parameters
    ----------
    console : Console
    folder : Path
        With `demo.yaml`, and where everything is written.
    title : str
        Of the plot.
    floor : float
        The gate's `min_accuracy`.
    """

    def __init__(self, console: Console, folder: Path, title: str, floor: float) -> None:
        self.console, self.folder = console, folder
        self.models = folder / "models"
        self.began = time.monotonic()
        self.story = Story(title, "", floor)
        self.receipts: list[dict[str, Any]] = []
        self.status: dict[str, Any] = {}
        self.recovered: float | None = None
        self._receipts_read = 0
        self._n_swaps = 0
        self._change_told = False
        self._asking: subprocess.Popen[bytes] | None = None

    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def say(self, who: str, text: str | Text, style: str = "cyan") -> None:
        """One line of what happened."""
        line = Text(f"{self.now():5.1f} s  ", style="bright_black")
        line.append(f"{who:<9} ", style=style)
        line.append_text(text if isinstance(text, Text) else Text(text))
        self.console.print(line, soft_wrap=not self.console.is_terminal)

    def look(self, serving: Serving) -> None:
        """See what is new in the receipts, at the router and in the world, and say it."""
        for receipt in self._new_receipts():
            self._verdict(receipt, serving)
        if serving.change is not None and not self._change_told:
            self._change_told = True
            self.story.change = serving.change
            self.say("world", "the lightweight model is swapped for a weaker one, under the same name", "bold red")
        for at, version in serving.swaps[self._n_swaps :]:
            self._n_swaps += 1
            served = serving.so_far()
            self.story.swaps.append((at, version))
            self.say(
                "router",
                f"answers with {version} since {at:.1f} s; {len(served.at):,} requests served so far, "
                f"99.9 % of answers within {served.slow_s * 1e3:.2f} ms",
                "blue",
            )
        self._recovery(serving)
        edges = [at for at, _ in self.story.swaps[:1]] + [x for x in (serving.change, self.recovered) if x is not None]
        self.story.bins = serving.so_far().bins(edges)

    def ask(self) -> None:
        """Ask `streamtrain status --json` beside the show; the answer is there at a later call."""
        if self._asking is not None and self._asking.poll() is not None:
            out, _ = self._asking.communicate()
            if self._asking.returncode == 0:
                self.status = json.loads(out)
            self._asking = None
        if self._asking is None:
            command = [str(STREAMTRAIN), "status", "--json", "--config", str(self.folder / "demo.yaml")]
            self._asking = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def ingested(self) -> dict[str, int]:
        """What the daemon has read, by its own account; empty while there is none."""
        return self.status.get("ingested") or {}

    def outcomes(self, outcome: str) -> list[dict[str, Any]]:
        """Receipts of candidates with this outcome."""
        return [receipt for receipt in self.receipts if receipt.get("outcome") == outcome]

    def _new_receipts(self) -> Iterator[dict[str, Any]]:
        path = self.models / "receipts.jsonl"
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._receipts_read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._receipts_read += len(line)
                receipt = json.loads(line)
                self.receipts.append(receipt)
                yield receipt

    def _verdict(self, receipt: dict[str, Any], serving: Serving) -> None:
        accuracy, outcome = receipt.get("holdout_accuracy"), receipt.get("outcome")
        if outcome is None or accuracy is None:
            self.say("gate", f"{outcome or receipt.get('event')}: {receipt.get('reason')}", "yellow")
            return
        now = self.now()
        self.story.marks.append(Mark(now, accuracy, receipt.get("version") if outcome == "published" else None))
        text = Text(f"candidate {len(self.story.marks)}: accuracy {accuracy:.1%}, base rate ")
        text.append(f"{serving.so_far().base_rate(now - 10.0, now):.1%}: ")
        if outcome == "published":
            text.append(f"published as {receipt['version']}", style="bold green")
        else:
            text.append("refused. ", style="bold red")
            text.append(str(receipt.get("reason")))
        self.say("gate", text, "green" if outcome == "published" else "red")

    def _recovery(self, serving: Serving) -> None:
        change = serving.change
        if change is None or self.recovered is not None:
            return
        served = serving.so_far()
        before, _ = served.between(self.story.swaps[0][0] if self.story.swaps else None, change)
        swap = next((at for at, _ in reversed(serving.swaps) if at > change), None)
        if swap is None:
            return
        share, n = served.between(swap, None)
        if n >= ENOUGH and share >= before - RECOVERED:
            self.recovered = swap
            self.say(
                "router",
                f"recovered: routes {share:.0%} right again, {swap - change:.0f} s after the change",
                "bold green",
            )

    def frame(self, serving: Serving) -> Group:
        """The live part at the bottom of the terminal."""
        served, now = serving.so_far(), self.now()
        window, ingested = self.status.get("window", {}), self.ingested()
        share, _ = served.between(now - 2.0, None)
        facts = Text.from_markup(
            f"[bold]{figure(ingested.get('lines'))}[/] lines read · "
            f"[bold]{figure(ingested.get('quarantined'))}[/] quarantined · "
            f"[bold]{figure(window.get('samples'))}[/] samples in the window\n"
            f"[bold]{len(served.at):,}[/] requests served · [bold]{serving.router.version or 'no model yet'}[/] · "
            f"routed right [bold]{'–' if math.isnan(share) else f'{share:.0%}'}[/] in the last 2 s"
        )
        plot = terminal_plot(self.story, min(self.console.width, 110) - 4, 10)
        return Group(Panel(Group(facts, plot), title=f"streamtrain · {now:4.1f} s", border_style="bright_black"))


def figure(value: int | None) -> str:
    """A count for a person."""
    return "–" if value is None else f"{value:,}"
