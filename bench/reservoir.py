"""What a reservoir of older samples costs and gains, for the choice of `dataset.reservoir`.

A window of 2,000 moves over a log; every 500 samples a model is trained on it from scratch and answers the next 500.
The reservoir is drawn from all that came before as the daemon draws it. Logs of ../shared/data as they are, and one in
which a rare class dies out nearly and comes back: 5 % of the first 4,000 requests need the powerful model, of the next
4,000 only 1 in 500; it is asked about 500 requests that do.

    python bench/reservoir.py [SEEDS]
"""

from __future__ import annotations

import gzip
import json
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from streamtrain.dataset import scale, sequence
from streamtrain.dataset.reservoir import Pool, choose, size_of, tempered
from streamtrain.dataset.select import select
from streamtrain.dataset.split import in_fraction
from streamtrain.judge.metrics import accuracy, log_loss
from streamtrain.model.forward import probabilities
from streamtrain.model.params import initialise
from streamtrain.train.challengers import Recipe, calm, compete
from streamtrain.train.presets import resolve
from streamtrain.types import F64, FastGRNNConfig, Samples

DATA = Path(__file__).parents[2] / "shared" / "data"
LOGS = (
    "routellm_mixtral",
    "routellm_mixtral_topicdrift",
    "llmrouter_llama8b",
    "classic_sea4",
    "classic_agrawal_switch",
)
SHARES = (0.0, 0.05, 0.1, 0.2, 0.4)
WINDOW, STEP, ROWS = 2000, 500, 8000


def samples_of(features: F64, labels: F64, seed: int) -> Samples:
    """Make samples, one a second, each its own session."""
    n = len(labels)
    keys = np.random.default_rng(seed).integers(1, 2**64, n, np.uint64)
    none = np.full(n, np.nan, np.float32)
    return Samples(
        features.astype(np.float32), labels.astype(np.float32), np.arange(n, dtype=np.float64), keys, keys,
        np.ones(n, np.float32), none, none, np.zeros(n, np.uint64),
    )  # fmt: skip


def read(name: str, seed: int) -> Samples:
    """Read a log: its hand-made features, its first rows."""
    about = json.loads((DATA / f"{name}.meta.json").read_text())
    with gzip.open(DATA / f"{name}.jsonl.gz") as log:
        rows = [json.loads(line) for line, _ in zip(log, range(ROWS), strict=False)]
    features = np.array([row["features"] for row in rows])
    hand = about.get("hand")
    if hand is not None:
        features = features[:, hand[0] : hand[1]]
    return samples_of(features, np.array([float(row["lightweight_successful"]) for row in rows]), seed)


def dying(seed: int) -> tuple[Samples, Samples]:
    """Make the log whose rare class nearly dies out, and 500 requests of that class."""
    rng = np.random.default_rng(seed)

    def drawn(n: int, share: float) -> tuple[F64, F64]:
        features = rng.random((n, 5))
        rare = rng.random(n) < share
        # Of the rare kind, two features point the other way; a third says nothing.
        features[rare, :2] = 0.55 + 0.45 * rng.random((int(rare.sum()), 2))
        features[~rare, :2] *= 0.75
        return features, (~rare).astype(np.float64)

    parts = [drawn(4000, 0.05), drawn(4000, 0.002)]
    features, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return samples_of(features, labels, seed), samples_of(*drawn(500, 1.0), seed + 1)


def window(samples: Samples, now: int, share: float) -> Samples:
    """Take the window as of a moment."""
    size = size_of(WINDOW, share)
    if now <= WINDOW or not size:
        return select(samples, slice(max(0, now - WINDOW), now))
    old = select(samples, slice(0, now - WINDOW + size))
    choice = choose(Pool(old.groups, old.keys, old.labels), size)
    drawn = select(old, choice.rows)
    drawn = replace(drawn, weights=tempered(choice.weights[choice.rows]))
    recent = select(samples, slice(now - WINDOW + size, now))
    return Samples(
        **{name: np.concatenate((getattr(drawn, name), getattr(recent, name))) for name in Samples.__slots__}
    )


def answered(given: Samples, asked: Samples, seed: int) -> F64:
    """Train on a window, from scratch, and answer."""
    stopping = in_fraction(given.groups, 0.15, seed, "validation")
    config = FastGRNNConfig(given.features.shape[1], 16)
    train, validation = select(given, ~stopping), select(given, stopping)
    scaling = scale.fit(train.features, train.weights)

    def arrays(part: Samples):
        index = sequence.layout(part.groups, part.timestamps, 1)
        return sequence.gather(index, scale.apply(part.features, scaling), part.labels, part.weights)

    training = calm(resolve("auto", len(given.labels), {}), {})
    recipe = Recipe("scratch-calm", initialise(config, seed), training, seed)
    best = compete([recipe], config, arrays(train), arrays(validation), lambda: False, lambda name, row: None, 1)[0]
    if best.fit is None:
        return np.full(len(asked.labels), 0.5)
    return probabilities(best.fit.params, scale.apply(asked.features, scaling)).astype(np.float64)


def main() -> None:
    """Print the table."""
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    print(f"| log | {' | '.join(f'{share:g}' for share in SHARES)} |\n|---|{'---|' * len(SHARES)}")
    for name in LOGS:
        cells = []
        for share in SHARES:
            found = []
            for seed in seeds:
                samples = read(name, seed)
                labels, said = [], []
                for now in range(WINDOW + STEP, len(samples.labels) - STEP + 1, STEP):
                    coming = select(samples, slice(now, now + STEP))
                    said.append(answered(window(samples, now, share), coming, seed))
                    labels.append(coming.labels)
                y, p = np.concatenate(labels), np.concatenate(said)
                found.append((log_loss(y, p), accuracy(y, p)))
            cells.append(f"{median(one[0] for one in found):.4f} / {100 * median(one[1] for one in found):.1f} %")
        print(f"| {name}: log loss / accuracy of what comes next | {' | '.join(cells)} |", flush=True)
    kept, usual = [], []
    for share in SHARES:
        rare, common = [], []
        for seed in seeds:
            samples, returning = dying(seed)
            given = window(samples, 8000, share)
            rare.append(accuracy(returning.labels, answered(given, returning, seed)))
            now = select(dying(seed + 1000)[0], slice(4000, 8000))
            common.append(log_loss(now.labels, answered(given, now, seed)))
        kept.append(f"{100 * median(rare):.0f} %")
        usual.append(f"{median(common):.4f}")
    print(f"| a rare class returns: right about it | {' | '.join(kept)} |")
    print(f"| log loss meanwhile | {' | '.join(usual)} |")
    print(f"\nmedians of {len(seeds)} seeds ({seeds.start} to {seeds.stop - 1})")


if __name__ == "__main__":
    main()
