"""Swaps while serving: from the rename of ``current`` to the first score by the new version, and what calls cost.

``make bench-swaps`` prints tables. Another process renames the link, as a publisher does; in this one a router follows
it while one thread scores: in a tight loop, or now and then. A tight loop is the worst case: it holds the interpreter
lock all the time, and the thread that loads the next version has to get it for every step. Beside it stands the same
loop with nothing to follow: what a busy machine does to calls all by itself. A call above 50 µs during which another
process got the processor (the kernel counts that for each thread) is the machine's; the others are told apart.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from machine import allow_one_thread, describe

ROW = [0.8, 0.9, 0.7, 0.85, 0.2]
TIGHT = "scoring in a tight loop"
NAPS_S = {TIGHT: 0.0, "scoring every 0.2 ms": 2e-4}
SLOW_US = 50.0
CALLS = ("call p50 µs", "call p99 µs", "call p99.9 µs", "call max µs", "slow, of 1,000", "of those ours")
FIGURES = ("swap p50 ms", "swap p99 ms", "swap max ms")


def swap_links(models: Path, n_swaps: int, pause_s: float) -> None:
    """Point ``current`` at each version in turn and write when that was, in nanoseconds of the monotonic clock."""
    targets = sorted(f"versions/{path.name}" for path in (models / "versions").iterdir())
    rng = np.random.default_rng(os.getpid())
    for swap in range(n_swaps):
        time.sleep(pause_s * rng.uniform(0.5, 1.5))
        (models / ".next").symlink_to(targets[swap % len(targets)])
        start = time.monotonic_ns()
        (models / ".next").rename(models / "current")
        sys.stdout.write(f"{targets[swap % len(targets)][9:]} {start}\n")
    time.sleep(0.5)  # for the last one to be noticed
    sys.stdout.flush()


class Calls:
    """Durations of calls in µs, and which of the slow ones were not interrupted by another process."""

    def __init__(self) -> None:
        self.durations: np.ndarray = np.empty(50_000_000, np.float32)
        self.n = self.n_ours = 0
        self.interrupted = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw

    def add(self, spent_us: float) -> None:
        self.durations[self.n] = spent_us
        self.n += 1
        if spent_us > SLOW_US:
            now = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
            self.n_ours += now == self.interrupted
            self.interrupted = now

    def figures(self) -> dict[str, float]:
        made = self.durations[: self.n]
        slow = 1e3 * np.count_nonzero(made > SLOW_US) / self.n
        found = [*np.percentile(made, (50, 99, 99.9)), made.max(), slow, 1e3 * self.n_ours / self.n]
        return dict(zip(CALLS, map(float, found), strict=True))


def run(models: Path, n_swaps: int, pause_s: float, nap_s: float, compiled: bool) -> dict[str, float]:
    """Latency of swaps, duration of calls, and how many swaps were overtaken by the next."""
    from streamtrain import Router

    clock, calls = time.monotonic_ns, Calls()
    seen: list[tuple[str | None, int]] = []
    command = [sys.executable, __file__, "--swap", str(models), str(n_swaps), str(pause_s)]
    with (
        Router(models, compiled=compiled) as router,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as publisher,
    ):
        route, serving, add = router.route, router.version, calls.add
        gc.collect()
        gc.freeze()
        while calls.n % 1000 or publisher.poll() is None:
            start = clock()
            version = route(ROW).version
            now = clock()
            add((now - start) / 1e3)
            if version is not serving and version != serving:
                serving = version
                seen.append((version, now))
            if nap_s:
                time.sleep(nap_s)
        assert publisher.stdout is not None
        renamed = [line.split() for line in publisher.stdout]
    latencies, missed, at = [], 0, 0
    for number, (version, text) in enumerate(renamed):
        start = int(text)
        next_start = int(renamed[number + 1][1]) if number + 1 < len(renamed) else 1 << 62
        while at < len(seen) and seen[at][1] < start:
            at += 1
        if at < len(seen) and seen[at][0] == version and seen[at][1] < next_start:
            latencies.append((seen[at][1] - start) / 1e6)
        else:
            missed += 1
    found = map(float, [*np.percentile(latencies, (50, 99)), np.max(latencies)])
    return dict(zip(FIGURES, found, strict=True)) | {"overtaken": missed} | calls.figures()


def control(models: Path, seconds: float, compiled: bool) -> dict[str, float]:
    """Duration of calls of a router that follows nothing."""
    from streamtrain import Router

    clock, calls = time.monotonic_ns, Calls()
    with Router(models, poll_interval_s=None, compiled=compiled) as router:
        route, now, add = router.route, clock(), calls.add
        end = now + int(seconds * 1e9)
        while now < end:
            start = clock()
            route(ROW)
            now = clock()
            add((now - start) / 1e3)
    return calls.figures()


def import_ms() -> float:
    """From the start of Python to a Router that can be made, without the start of Python."""
    times = []
    for code in ("", "from streamtrain import Router"):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - start)
    return 1e3 * (times[1] - times[0])


def show(name: str, rows: list[dict[str, float]], load: list[float]) -> None:
    print(f"{name} (load {min(load):.1f} to {max(load):.1f})")
    for label in rows[0]:
        values = [row[label] for row in rows]
        print(f"  {label:20} {median(values):8.2f}   [{min(values):.2f} to {max(values):.2f}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swap", nargs=3, metavar=("MODELS", "N", "SECONDS"), help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--swaps", type=int, default=200, help="in each round")
    parser.add_argument("--compiled", action="store_true", help="the router scores by its compiled kernel")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between swaps, on average")
    arguments = parser.parse_args()
    if arguments.swap:
        swap_links(Path(arguments.swap[0]), int(arguments.swap[1]), float(arguments.swap[2]))
        return
    allow_one_thread()
    sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
    from make_candidate import make_candidate

    from streamtrain.publish.artifact import build
    from streamtrain.publish.registry import Registry

    print("; ".join(f"{key}: {value}" for key, value in describe().items() if key in ("processor", "versions")))
    print(f"{arguments.rounds} rounds of {arguments.swaps} swaps, {arguments.pause} s apart; medians of rounds [range]")
    load: list[float] = [os.getloadavg()[0]]
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ("import", "nothing to follow", *NAPS_S)}
    with TemporaryDirectory(prefix="bench-") as folder:
        with Registry(folder) as registry:
            for seed in range(4):
                registry.publish(registry.stage(build(make_candidate(seed))))
        for _ in range(arguments.rounds):
            rows["import"].append({"import ms": import_ms()})
            rows["nothing to follow"].append(
                control(Path(folder), arguments.swaps * arguments.pause / 4, arguments.compiled)
            )
            for name, nap_s in NAPS_S.items():
                rows[name].append(run(Path(folder), arguments.swaps, arguments.pause, nap_s, arguments.compiled))
                load.append(os.getloadavg()[0])
    for name, found_rows in rows.items():
        show(name, found_rows, load)


if __name__ == "__main__":
    main()
