"""A backlog read and trained on by one worker and by two: time, memory, bits, accuracy beside a single process.

``make bench-backfill`` writes 20 million lines in 40 files, 10 of them gzip, runs ``streamtrain backfill`` on them with
one and with two workers in turn, and then trains on the same samples in one process. Prints a table; docs/scale.md has
it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from machine import REPOSITORY, allow_one_thread, describe

from streamtrain.answers import answers
from streamtrain.config import Config, load
from streamtrain.dataset import scale
from streamtrain.dataset.compact import restored
from streamtrain.dataset.select import concatenate, select
from streamtrain.dataset.split import VALIDATION, in_fraction
from streamtrain.intake import held_out, judges, overrides_of, shape_of
from streamtrain.model.params import initialise
from streamtrain.model.quantize import dequantize
from streamtrain.router.load import load as load_version
from streamtrain.scale.inputs import plan
from streamtrain.scale.partition import arrays_of, read
from streamtrain.train.calibrate import calibrate
from streamtrain.train.challengers import calm
from streamtrain.train.fit import logits
from streamtrain.train.presets import resolve
from streamtrain.train.stages import train

LINE = (
    '{"id":"%d-%d","timestamp":%.1f,"similarity_score":%.4f,"recency_score":%.4f,"popularity_score":%.4f,'
    '"success_rate":%.4f,"complexity_score":%.4f,"lightweight_successful":%s}\n'
)


def write_logs(folder: Path, n_lines: int, n_files: int, n_gzip: int) -> None:
    """The guide's synthetic problem, a day after the other; every hundred-thousandth line is none."""
    folder.mkdir(parents=True, exist_ok=True)
    each = n_lines // n_files
    for number in range(n_files):
        packed = number % (n_files // n_gzip) == 0 if n_gzip else False
        target = folder / f"day-{number:03d}.jsonl{'.gz' if packed else ''}"
        if target.exists():
            continue
        rng = np.random.default_rng((7, number))
        with gzip.open(target, "wb", 1) if packed else target.open("wb") as stream:
            for start in range(0, each, 100_000):
                n = min(100_000, each - start)
                x = rng.random((n, 5)).round(4)
                score = 0.4 * x[:, 0] + 0.3 * x[:, 3] + 0.3 * (1 - x[:, 4]) + rng.uniform(-0.1, 0.1, n)
                times = 1.7e9 + number * 86_400.0 + (start + np.arange(n)) * (86_400.0 / each)
                labels = np.where(score > 0.5, "true", "false").tolist()
                rows = zip(range(start, start + n), times.tolist(), x.tolist(), labels, strict=True)
                text = "".join([LINE % (number, i, t, *row, label) for i, t, row, label in rows])
                stream.write(text.encode() + b'{"cut off": \n')


@dataclass
class Run:
    """A run of the command: seconds, peak resident bytes of each worker, and what it printed."""

    seconds: float
    peaks: dict[int, int]
    told: dict
    digest: str


def run(folder: Path, scratch: Path, workers: int) -> Run:
    """Run the command as a user does."""
    place = scratch / f"run-{time.monotonic_ns()}"
    place.mkdir()
    config = place / "c.yaml"
    config.write_text("".join(f"{name}: {{directory: {place}/{name}}}\n" for name in ("logs", "state", "models")))
    command = [str(REPOSITORY / ".venv/bin/streamtrain"), "backfill", str(folder), "--config", str(config)]
    began = time.perf_counter()
    process = subprocess.Popen([*command, "--workers", str(workers), "--json"], stdout=subprocess.PIPE, text=True)
    peaks: dict[int, int] = {}
    done = threading.Event()
    watcher = threading.Thread(target=watch, args=(process.pid, peaks, done))
    watcher.start()
    out, _ = process.communicate()
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"the command ended with {process.returncode}")
    told = json.loads(out)
    version = place / "models" / "versions" / told["decision"]["version"]
    manifest = json.loads((version / "manifest.json").read_text())
    return Run(
        seconds, peaks, told | {"version": str(version)}, manifest["files"]["fastgrnn_int8.safetensors"]["sha256"]
    )


def watch(pid: int, peaks: dict[int, int], done: threading.Event) -> None:
    """Note the largest resident size of every process below one."""
    while not done.wait(0.1):
        for child in below(pid):
            try:
                status = Path(f"/proc/{child}/status").read_text()
            except OSError:
                continue
            high = [line for line in status.splitlines() if line.startswith("VmHWM")]
            if high:
                peaks[child] = max(peaks.get(child, 0), int(high[0].split()[1]) * 1024)


def below(pid: int) -> list[int]:
    """Processes that a process started, and those that they did."""
    try:
        children = [
            int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()
        ]
    except OSError:
        return []
    return [*children, *(one for child in children for one in below(child))]


def single(folder: Path, version: Path, scratch: Path) -> dict[str, float]:
    """Train on the same samples in one process, and ask both the whole holdout."""
    config_file = scratch / "single.yaml"
    config_file.write_text(f"logs: {{directory: {scratch}/none}}\n")
    config: Config = load(config_file)
    began = time.perf_counter()
    held = [read(part, config, {})[0] for part in plan(config, [str(folder)], {}, 64 << 20, 0.0)]
    samples = concatenate([restored(one.samples) for one in held], len(config.schema.feature_names))
    del held
    reading = time.perf_counter() - began
    free = ~held_out(config, samples.groups)
    training = resolve(config.training.preset, int(free.sum()), overrides_of(config))
    chosen = in_fraction(samples.groups, training.validation_split, config.dataset.seed, VALIDATION) & free
    holdout = select(samples, judges(config, samples.groups))
    rows, stopping = select(samples, free & ~chosen), select(samples, chosen)
    del samples
    scaling = scale.fit(rows.features, rows.weights)
    arrays, validation = arrays_of(rows, config, scaling), arrays_of(stopping, config, scaling)
    shape, seed = shape_of(config), config.dataset.seed
    start = initialise(shape, seed)
    began = time.perf_counter()
    fits = [
        train(start, shape, one, arrays, validation, seed) for one in (calm(training, overrides_of(config)), training)
    ]
    trained = time.perf_counter() - began
    losses = [min(row.val_loss for row in fit.epochs) for fit in fits]
    best = fits[int(np.argmin(losses))]
    served = dequantize(calibrate(best.params, shape, validation, True).quantized)
    z = logits(served, shape, arrays_of(holdout, config, scaling).features)[:, 0]
    ours = answers(load_version(version), holdout)
    right = [
        float(np.mean((p >= 0.5) == (holdout.labels >= 0.5))) for p in (1 / (1 + np.exp(-z.astype(np.float64))), ours)
    ]
    return {
        "single": right[0],
        "rounds": right[1],
        "n": len(holdout.labels),
        "train_s": trained,
        "read_s": reading,
        "epochs": float(len(best.epochs)),
        "loss": min(losses),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=20_000_000)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--gzip", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2, help="runs of each")
    parser.add_argument("--logs", type=Path, help="where they are kept for the next time")
    parser.add_argument("--skip-single", action="store_true")
    given = parser.parse_args()
    allow_one_thread()
    with TemporaryDirectory(prefix="bench-backfill-") as scratch:
        folder = given.logs or Path(scratch, "logs")
        runs: dict[int, list[Run]] = {1: [], 2: [], 4: []}
        print("writing logs", flush=True)
        write_logs(folder, given.lines, given.files, given.gzip)
        for workers in [*([1, 2] * given.rounds), 4]:
            last = run(folder, Path(scratch), workers)
            runs[workers].append(last)
            peak = max(last.peaks.values()) / 2**20
            print(f"{workers} workers: {last.seconds:.1f} s, {peak:.0f} MiB at most, {last.digest[:12]}", flush=True)
        report(runs)
        if not given.skip_single:
            found = single(folder, Path(runs[2][-1].told["version"]), Path(scratch))
            print(f"accuracy on {found['n']:,} held-out samples: rounds {found['rounds']:.5f}, ", end="")
            print(f"one process {found['single']:.5f} ({found['train_s']:.0f} s of training)")


def report(runs: dict[int, list[Run]]) -> None:
    """What the runs come to."""
    print(describe())
    print(f"read: {runs[2][-1].told['ingested']}")
    ratios = [two.seconds / one.seconds for one, two in zip(runs[1], runs[2], strict=True)]
    print(f"time of two workers over that of one: {median(ratios):.3f} ({', '.join(f'{r:.3f}' for r in ratios)})")
    for n, some in runs.items():
        peak = max(max(one.peaks.values()) for one in some) / 2**20
        print(f"{n} workers: {median(one.seconds for one in some):.1f} s, peak of a worker {peak:.0f} MiB")
    digests = {one.digest for some in runs.values() for one in some}
    print(f"different weights among {sum(map(len, runs.values()))} runs: {len(digests)}")


if __name__ == "__main__":
    main()
