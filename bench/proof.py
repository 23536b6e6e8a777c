"""What can be learned, and shown, of a new world by so many samples of it: the limit of a row of docs/drift.md.

python bench/proof.py        prints it for Mixtral ⇄ the powerful model, in either order

*Twins* are trained on other samples of the new world alone, as the reference is: how often is one of 1,000, 2,000 or
3,000 of them within two points of the reference? *Shown*: the chance (normal approximation) that the reference, which
is not known to the daemon, passes `beat_baseline` on so many held-out samples of the new world, at the k-th use.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from statistics import NormalDist
from tempfile import TemporaryDirectory

import numpy as np
from courses import Rows, mixed, read, swapped
from drift import POINTS, REFERENCE, Life
from numpy.typing import NDArray

from streamtrain.judge.metrics import log_losses
from streamtrain.judge.paired import mean_difference
from streamtrain.judge.reuse import confidence_after
from streamtrain.router.load import load

TWIN = REFERENCE.replace("0.1}", "0.2}") + "trigger: {min_samples: 300, min_per_class: 20}\n"
SIZES = (1000, 2000, 3000)
LABELS = ("powerful_successful", "lightweight_successful")
ASKED = ((200, 1), (400, 1), (600, 1), (600, 2), (600, 4))
"""Held-out samples, and which use of them it is."""
CONFIDENCE = 0.95


def taught(rows: Rows, unseen: Rows, text: str) -> NDArray[np.float64] | None:
    """Answers of what is trained on these rows alone; None where nothing comes of it."""
    with TemporaryDirectory(prefix="bench-") as folder:
        life = Life(Path(folder), rows.x.shape[1], text)
        life.read(rows)
        life.learn()
        answers = load(life.models).score_batch(unseen.x).astype(np.float64) if life.serves else None
        life.close()
    return answers


def one_run(seed: int) -> tuple[list[bool], list[float]]:
    """Which twins are near enough, and the chances that the reference can be shown to be better than a constant."""
    course = swapped(seed)
    # The new world's outcomes of the requests that the course has of the old one: the same order, none of them in it.
    new = mixed(read("routellm_mixtral", LABELS[seed % 2]), np.random.default_rng(seed))
    fresh, unseen = new[slice(0, len(new) // 2)], course.unseen
    reference = taught(course.after, unseen, REFERENCE)
    if reference is None:
        raise RuntimeError(f"bench: seed {seed}: there is no reference")
    y = unseen.y.astype(np.float64)

    def right(answers: NDArray[np.float64] | None) -> float:
        return float("nan") if answers is None else float(np.mean((answers >= 0.5) == (y >= 0.5)))

    near = [right(taught(fresh[slice(0, n)], unseen, TWIN)) >= right(reference) - POINTS for n in SIZES]
    losses = log_losses(y, float(course.after.y.mean())) - log_losses(y, reference)
    gain, normal = mean_difference(losses, np.ones_like(y), unseen.sessions), NormalDist()
    shown = []
    for n, use in ASKED:
        error = gain.standard_error * np.sqrt(len(y) / n)
        shown.append(normal.cdf(gain.mean / error - normal.inv_cdf(confidence_after(CONFIDENCE, use))))
    return near, shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    found = [one_run(seed) for seed in range(arguments.runs)]
    for first, words in ((0, "the powerful model is new"), (1, "Mixtral is new"), (None, "both")):
        mine = found if first is None else found[first::2]
        near, shown = (np.array(part) for part in zip(*mine, strict=True))
        twins = ", ".join(f"{n:,}: {count}" for n, count in zip(SIZES, near.sum(axis=0), strict=True))
        print(f"{words}: of {len(mine)} twins near enough, by samples: {twins}")
        for (n, use), chance in zip(ASKED, shown.mean(axis=0), strict=True):
            print(f"    shown on {n} held-out samples, use {use}: {100 * chance:.0f} %")


if __name__ == "__main__":
    main()
