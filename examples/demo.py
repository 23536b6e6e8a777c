"""A day of streamtrain in under a minute: the real daemon, a traffic simulator and a router, each at its own work.

    python examples/demo.py                 a simulated world, whose lightweight model is swapped for a weaker one
    python examples/demo.py --logs FILE     any routing log (JSON Lines, plain or gzip), played again in 30 s

Everything happens in a temporary folder, which is kept for a look around.
"""

from __future__ import annotations

import argparse
import math
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from ending import conclude, next_steps
from rich.console import Console
from rich.live import Live
from rich.text import Text
from serving import ROUTED_RIGHT, Serving
from shape import Shape, UnknownShapeError, detect, record
from show import STREAMTRAIN, Show, figure
from traffic import MAX_REPLAYED

EXAMPLES = Path(__file__).resolve().parent
CONFIG = EXAMPLES.parent / "config" / "demo.yaml"

RATE = 600.0  # requests a second
HISTORY = 1500  # requests in the file that lies there at the start
REPLAY_S = 30.0
END_S = 48.0  # the traffic is stopped then at the latest; the rest of the minute is for closing
CHANGE_S = (18.0, 27.0)  # the lightweight model is swapped in this time, once the first version has served for a while
STEADY_S = 8.0
AFTER_RECOVERY_S = 5.0
FRAME_S = 0.25
CATCH_UP_S = 3.0  # for the daemon to read the last lines
TITLE = "Requests routed right, while the lightweight model is swapped for a weaker one"
REPORT_S = 5.0  # between two lines where nobody watches live


class DemoError(Exception):
    """Something did not happen that should have; the message is for a person."""


def write_config(folder: Path, shape: Shape | None, floor: float, n_lines: int) -> dict[str, Any]:
    """Put `config/demo.yaml` into the folder, for a replay with the log's schema and a floor that fits."""
    text = CONFIG.read_text()
    settings: dict[str, Any] = yaml.safe_load(text)
    if shape is not None:
        settings["schema"] = shape.schema()
        settings["gate"]["min_accuracy"] = floor
        settings["dataset"]["window"] = max(n_lines // 2, 2000)
        settings["training"] = {"fine_tune_learning_rate": 0.001}
        settings["trigger"]["min_new_samples"] = max(n_lines // 12, 200)
        text = "# config/demo.yaml, changed to fit the log that was replayed.\n" + yaml.safe_dump(
            settings, sort_keys=False
        )
    (folder / "demo.yaml").write_text(text)
    return settings


@contextmanager
def daemon(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`streamtrain run` in the folder; what it logs goes to `daemon.log`."""
    with (folder / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            [str(STREAMTRAIN), "run", "--config", str(folder / "demo.yaml")], stdout=log, stderr=log, cwd=folder
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(6.0)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@contextmanager
def traffic(folder: Path, logs: Path | None, seed: int) -> Iterator[subprocess.Popen[bytes]]:
    """The simulator, writing into the folder's `logs`; orders on its input, truth on its output."""
    command = [sys.executable, str(EXAMPLES / "traffic.py"), str(folder / "logs"), "--truth", "--seed", str(seed)]
    if logs is None:
        command += ["--rate", str(RATE), "--history", str(HISTORY)]
    else:
        command += ["--replay", str(logs), "--seconds", str(REPLAY_S)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def order(process: subprocess.Popen[bytes], word: str) -> None:
    """Tell the simulator something."""
    if process.stdin is not None and process.poll() is None:
        process.stdin.write(f"{word}\n".encode())
        process.stdin.flush()


def play(
    show: Show, trainer: subprocess.Popen[bytes], world: subprocess.Popen[bytes], serving: Serving, replay: bool
) -> None:
    """Run until the story is told: the world changes, the router recovers; or the log is at its end."""
    asked, reported = -math.inf, 0.0
    ordered = False
    with ExitStack() as stack:
        live = None
        if show.console.is_terminal:
            live = stack.enter_context(Live(console=show.console, transient=True, auto_refresh=False))
        while show.now() < END_S:
            if trainer.poll() is not None:
                raise DemoError(f"the daemon ended by itself, with {trainer.returncode}")
            show.look(serving)
            now = show.now()
            if now - asked > 1.5:
                show.ask()
                asked = now
            if live is not None:
                live.update(show.frame(serving), refresh=True)
            elif now - reported > REPORT_S:
                reported = now
                report(show, serving)
            first = show.story.swaps[0][0] if show.story.swaps else math.inf
            if not replay and not ordered and (now > max(CHANGE_S[0], first + STEADY_S) or now > CHANGE_S[1]):
                ordered = True
                order(world, "swap")
            if show.recovered is not None and now > show.recovered + AFTER_RECOVERY_S:
                return
            if world.poll() is not None and caught_up(show, serving):
                return
            time.sleep(FRAME_S)


def report(show: Show, serving: Serving) -> None:
    """One line about how things stand, where nobody watches live."""
    ingested = show.ingested()
    share, _ = serving.so_far().between(show.now() - 2.0, None)
    right = "" if math.isnan(share) else f"; routed right {share:.0%} (last 2 s)"
    show.say(
        "so far",
        f"{figure(ingested.get('lines'))} lines read, {figure(ingested.get('quarantined'))} quarantined; "
        f"{len(serving.so_far().at):,} requests served by {serving.router.version or 'no model yet'}{right}",
        "bright_black",
    )


def caught_up(show: Show, serving: Serving) -> bool:
    """Whether the daemon has read everything that was written."""
    if serving.done is None:
        return False
    return show.ingested().get("lines", 0) >= serving.done["lines"] + serving.done["rubbish"]


def show_time(console: Console, folder: Path, logs: Path | None, seed: int) -> bool:
    """Play the demo in the folder and say what came of it.

    Returns
    -------
    bool
        Whether everything happened that the demo promises.

    Raises
    ------
    DemoError, UnknownShapeError, OSError
    """
    shape, floor, n_lines = None, 0.0, 0
    if logs is not None:
        shape = detect(logs)
        recording = record(logs, shape, MAX_REPLAYED)
        if not len(recording.truth):
            raise DemoError(f"{logs}: none of its first {MAX_REPLAYED:,} lines has features and a label")
        share, n_lines = float(recording.truth.mean()), len(recording.lines)
        # A floor just above the base rate: what real logs allow beyond it is for the candidates to show.
        floor = min(math.ceil(max(share, 1.0 - share) * 100.0) / 100.0, 0.99)
    settings = write_config(folder, shape, floor, n_lines)
    title = TITLE if logs is None else f"Requests routed right, replaying {logs.name}"
    show = Show(console, folder, title, settings["gate"]["min_accuracy"])
    introduce(show, logs, shape)
    with daemon(folder) as trainer, traffic(folder, logs, seed) as world:
        if world.stdout is None:
            raise DemoError("the simulator has no output")
        serving = Serving(show.models, world.stdout, show.began)
        play(show, trainer, world, serving, replay=logs is not None)
        order(world, "stop")
        serving.finish(3.0)
        if serving.failure is not None or serving.done is None:
            raise DemoError(f"the simulator ended early: {serving.failure or 'no last word from it'}")
        patience = show.now() + CATCH_UP_S
        while not caught_up(show, serving) and show.now() < patience:
            show.ask()
            time.sleep(0.1)
        show.look(serving)
    show.say("daemon", f"stopped by SIGTERM, exit code {trainer.returncode}")
    promises = conclude(show, serving, trainer.returncode, replay=logs is not None)
    next_steps(show, shape)
    return all(promises.values())


def introduce(show: Show, logs: Path | None, shape: Shape | None) -> None:
    """Who plays which part."""
    if logs is None or shape is None:
        show.say(
            "traffic", f"{RATE:.0f} requests a second; one router appends to router.jsonl and rotates it, another one"
        )
        show.say("", "drops whole files, mostly .gz; now and then a line is rubbish")
    else:
        show.say("traffic", f"replays {logs} over {REPLAY_S:.0f} s; {shape.in_words()}")
        show.say("", f"floor of the gate: {show.story.floor:.2f}, just above the base rate of the log")
    show.say("daemon", f"streamtrain run --config {show.folder / 'demo.yaml'}")
    show.say(
        "router", f"serves from the first moment; without a model everything goes to the powerful one; {ROUTED_RIGHT}"
    )


def main() -> int:
    """Command line; 0 done, 1 failed, 2 usage."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--logs", type=Path, metavar="FILE", help="replay this routing log instead")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    console = Console(highlight=False)
    if not STREAMTRAIN.exists():
        console.print(f"demo: {STREAMTRAIN} is missing; install streamtrain into this environment (make demo does)")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="streamtrain-demo-"))
    try:
        return 0 if show_time(console, folder, args.logs, args.seed) else 1
    except KeyboardInterrupt:
        console.print(f"\nstopped; everything is in {folder}")
        return 1
    except (DemoError, UnknownShapeError, OSError) as error:
        console.print(Text(f"demo: {error}", style="bold red"))
        log = folder / "daemon.log"
        if log.exists():
            console.print(Text("".join(log.read_text(errors="replace").splitlines(keepends=True)[-15:])))
        console.print(f"everything is in {folder}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
