"""Peak memory of one training in this process; prints JSON.

python bench/memory.py fit|daemon|library N
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ours import VALIDATION, settings
from problem import Problem, drawn

from streamtrain import FastGRNN, Trainer, TrainingDataset
from streamtrain.dataset import scale, sequence
from streamtrain.model.params import initialise
from streamtrain.train.fit import fit
from streamtrain.types import Arrays, FastGRNNConfig

MIB = 2**20
CONFIG = FastGRNNConfig(5, 16)
TRAINING = settings(2)
Training = Callable[[], object]


def resident(kind: str) -> int:
    """Bytes of memory: `VmRSS` now, or `VmHWM` at the highest since `forget_peak`."""
    found = re.search(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError(f"bench: /proc/self/status has no {kind}")
    return int(found.group(1)) * 1024


def forget_peak() -> None:
    """Let `VmHWM` start again from what is resident now (Linux, proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")


def through_fit(problem: Problem) -> tuple[int, Training]:
    n_train = len(problem.y) - int(len(problem.y) * VALIDATION)
    whole = problem.arrays
    train = Arrays(whole.features[:n_train], whole.labels[:n_train], whole.weights[:n_train])
    validation = Arrays(whole.features[n_train:], whole.labels[n_train:], whole.weights[n_train:])
    raw = whole.features.nbytes + whole.labels.nbytes + whole.weights.nbytes
    return raw, lambda: fit(initialise(CONFIG, 0), CONFIG, TRAINING, train, validation, 0)


def through_daemon(problem: Problem) -> tuple[int, Training]:
    """The columns of a window that training reads; its train split, beside a validation split a quarter as long."""
    n = len(problem.y)
    n_train = n - int(n * VALIDATION)
    features, labels, weights = problem.x[:, 0], problem.y[:, 0], np.ones(n, np.float32)
    groups, timestamps = np.arange(n, dtype=np.uint64), np.arange(n, dtype=np.float64)
    columns = (features, labels, weights, groups, timestamps)
    raw = sum(column.nbytes for column in columns)

    def run() -> object:
        scaling = scale.fit(features[:n_train], weights[:n_train])
        halves = []
        for part in (slice(0, n_train), slice(n_train, n)):
            index = sequence.layout(groups[part], timestamps[part], 1)
            scaled = scale.apply(features[part], scaling)
            halves.append(sequence.gather(index, scaled, labels[part], weights[part]))
            del index, scaled
        return fit(initialise(CONFIG, 0), CONFIG, TRAINING, halves[0], halves[1], 0)

    return raw, run


def through_library(problem: Problem) -> tuple[int, Training]:
    features, labels = problem.x[:, 0], problem.y[:, 0]

    def run() -> object:
        dataset = TrainingDataset(features, labels)
        dataset.normalize()
        return Trainer(CONFIG, TRAINING).train(FastGRNN(CONFIG), dataset)

    return features.nbytes + labels.nbytes, run


PATHS = {"fit": through_fit, "daemon": through_daemon, "library": through_library}


def main() -> None:
    name, n = sys.argv[1], int(sys.argv[2])
    imported = resident("VmRSS")
    _, first = PATHS[name](drawn(1_000))
    first()
    ready = resident("VmRSS")
    raw, run = PATHS[name](drawn(n))
    forget_peak()
    run()
    peak = resident("VmHWM")
    print(
        json.dumps(
            {
                "path": name,
                "n": n,
                "imported_mib": imported / MIB,
                "compiled_mib": ready / MIB,
                "raw_mib": raw / MIB,
                "peak_mib": peak / MIB,
                "ratio": (peak - ready) / raw,
            }
        )
    )


if __name__ == "__main__":
    main()
