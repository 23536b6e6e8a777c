"""Progress of long work for a person who looks on: on stderr, and only if that is a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import TaskID

    from streamtrain.cycle import Progress as Step

_STAGES = {
    "ingest": "reading logs",
    "compile": "compiling",
    "window": "cutting the window",
    "train": "training",
    "judge": "judging",
    "publish": "publishing",
}
_REST = 20  # measuring what is left takes at most one part of so many of the time
_MIN_S = 0.2


class Bars:
    """Shows nothing; what the work tells is thrown away. `shown_bars` makes one that shows it.

    Its methods may be called from several threads.
    """

    def begin(self, what: str, total: float | None = None, unit: str = "") -> None:
        """Go on to the next piece of work, of a size or of none that is known."""

    def reach(self, done: float, detail: str = "") -> None:
        """Say how much of it is done."""

    def step(self, step: Step) -> None:
        """Take what a cycle says of itself."""

    def part(self, what: str, n_done: int, n_total: int) -> None:
        """Say what is done now, and how many parts of it are; of 0 the number is not known."""

    def reading(self, measure: Callable[[], int]) -> Callable[[], None]:
        """Begin to read what `measure` says is left, in bytes; call what is returned after each batch."""
        return lambda: None


class _ShownBars(Bars):
    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._guard = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._stage = ""

    def begin(self, what: str, total: float | None = None, unit: str = "") -> None:
        with self._guard:
            self._begin(what, total, unit)

    def _begin(self, what: str, total: float | None, unit: str = "") -> None:
        for task in self._tasks.values():
            self._progress.remove_task(task)
        self._stage = what
        self._tasks = {"": self._progress.add_task(what, total=total, unit=unit, detail="")}

    def reach(self, done: float, detail: str = "") -> None:
        with self._guard:
            task = self._tasks.get("")
            if task is not None:
                self._progress.update(task, completed=done, detail=detail)

    def step(self, step: Step) -> None:
        what = _STAGES.get(step.stage, step.stage)
        if step.stage == "ingest":
            return  # `reading` measures it
        with self._guard:
            if what != self._stage:
                self._begin(what, None)
            if not step.task:
                self._progress.update(self._tasks[""], detail=step.detail)
                return
            self._progress.update(self._tasks[""], visible=False)
            if step.task not in self._tasks:
                self._tasks[step.task] = self._progress.add_task(
                    f"{what} {step.task}", total=step.n_total or None, unit="epochs", detail=""
                )
            loss = step.detail.rpartition(", ")[2]
            self._progress.update(self._tasks[step.task], completed=step.n_done, detail=loss)

    def part(self, what: str, n_done: int, n_total: int) -> None:
        with self._guard:
            if what != self._stage:
                self._begin(what, n_total or None, "parts")
            self._progress.update(self._tasks[""], total=n_total or None, completed=n_done)

    def reading(self, measure: Callable[[], int]) -> Callable[[], None]:
        total = measure()
        self.begin(_STAGES["ingest"], total, "bytes")
        next_at = 0.0

        def told() -> None:
            nonlocal next_at, total
            began = time.monotonic()
            if began < next_at:
                return
            left = measure()
            total = max(total, left)  # more may come than was there at the beginning
            with self._guard:
                self._progress.update(self._tasks[""], total=total, completed=total - left)
            ended = time.monotonic()
            next_at = ended + max(_MIN_S, _REST * (ended - began))

        return told


@contextmanager
def shown_bars() -> Iterator[Bars]:
    """Show progress on stderr while inside the ``with``, and clear it away at the end."""
    if not sys.stderr.isatty():
        yield Bars()
        return
    from rich.console import Console
    from rich.filesize import decimal
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
    from rich.text import Text

    class Amount(ProgressColumn):
        """How much of how much, in the task's unit."""

        def render(self, task: Task) -> Text:
            unit = str(task.fields["unit"])
            if task.total is None:
                return Text("")
            if unit == "bytes":
                return Text(f"{decimal(int(task.completed))} of {decimal(int(task.total))}")
            return Text(f"{int(task.completed):,} of {int(task.total):,} {unit}")

    class Detail(TextColumn):
        """What is told besides, as text."""

        def render(self, task: Task) -> Text:
            return Text.from_markup(escape(str(task.fields["detail"])))

    console = Console(stderr=True, highlight=False)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), Amount(), Detail(""))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        yield _ShownBars(progress)
