"""What it costs, and gains, to hear refused candidates again (docs/drift.md): where there is nothing to be learned, and
where nothing changes.

python bench/hearings.py     prints a table; seeds are 0 to 19

*Noise*: after 2,500 samples of routellm_mixtral every label is that of another request, for 10,000 samples. Whatever is
published then is published by mistake. *No change*: as many samples of the same world; what serves is asked about
requests that nobody saw, after every training.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from courses import BEFORE, Rows, mixed, read
from drift import Life

LONG = 10_000
ON, OFF = (f"gate: {{min_accuracy: 0, hear_again: {word}}}\n" for word in ("true", "false"))


def lived(seed: int, noise: bool, text: str) -> dict[str, float]:
    """One run: trainings, hearings that failed, versions published by a training and by a hearing, and accuracies."""
    rng = np.random.default_rng(seed)
    rows = mixed(read("routellm_mixtral"), rng)
    old, rest, unseen = rows[slice(0, BEFORE)], rows[slice(BEFORE, BEFORE + LONG)], rows[slice(BEFORE + LONG, None)]
    if noise:
        rest = Rows(rest.x, rng.permutation(rest.y), rest.sessions)
    with TemporaryDirectory(prefix="bench-") as folder:
        life = Life(Path(folder), rows.x.shape[1], text)
        life.settle(old)
        before, accuracies = len(life.cycle.registry.receipts.read()), []
        life.live(rest, lambda: accuracies.append(life.accuracy(unseen)))
        receipts = life.cycle.registry.receipts.read()[before:]
        life.close()
    candidates = [one for one in receipts if one["event"] == "candidate"]
    published = [one for one in candidates if one["outcome"] == "published"]
    heard = sum(one["heard_since"] is not None for one in published)
    return {
        "trainings": len(candidates) - heard,
        "published": len(published) - heard,
        "heard, refused": sum(one["event"] == "hearing" for one in receipts),
        "heard, published": heard,
        "rolled back": sum(one["event"] == "rollback" for one in receipts),
        "accuracy": float("nan") if noise else float(np.nanmean(accuracies)),
        "at the end": float("nan") if noise else accuracies[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    shown = False
    for noise in (True, False):
        for name, text in (("heard again", ON), ("not heard again", OFF)):
            found = [lived(seed, noise, text) for seed in range(arguments.runs)]
            if not shown:
                print("| world | refused candidates are | " + " | ".join(found[0]) + " |")
                print("|---" * (len(found[0]) + 2) + "|")
                shown = True
            sums = {key: sum(one[key] for one in found) for key in found[0]}
            cells = [
                f"{value:,.0f}"
                if key not in ("accuracy", "at the end")
                else ""
                if noise
                else f"{value / len(found):.4f}"
                for key, value in sums.items()
            ]
            print(f"| {'noise' if noise else 'no change'} | {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
