"""What is learned from recorded outcomes, beside peers: writes docs/learning.md and its picture.

make bench-learning                                          everything, answers kept in bench/out/learning
python bench/learned.py --seeds 1 --sets classic_phishing    some of it, printed
python bench/learned.py --fresh ours                         measures ours again (or `all`)
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Iterator

import numpy as np
from machine import OUT, allow_one_thread

from streamtrain.types import F64

KEPT = OUT / "learning"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, … so many")
    parser.add_argument("--sets", default="", metavar="NAMES", help="these data sets, separated by commas")
    parser.add_argument("--only", default="", metavar="WORD", help="contestants whose name has this word in it")
    parser.add_argument("--fresh", choices=("ours", "all"), help="measure again what is kept")
    arguments = parser.parse_args()
    allow_one_thread()
    from contestants import ONCE, ROW_BY_ROW, SAME_FOR_ALL_SEEDS
    from outcomes import TOO_FEW, outcomes, score
    from problem import recorded_names
    import product

    every = {product.ONCE: product.once, product.DAEMON: product.daemon} | ONCE | ROW_BY_ROW
    names = arguments.sets.split(",") if arguments.sets else recorded_names()
    for name in names:
        for data in outcomes(name):
            if len(data.y) < TOO_FEW:
                continue
            for who, learn in every.items():
                if arguments.only not in who:
                    continue
                n_seeds = 1 if who in SAME_FOR_ALL_SEEDS else arguments.seeds
                for seed in range(n_seeds):
                    key = f"{name}-{data.features}-{who}-{seed}".replace(" ", "_").replace(":", "")
                    file = KEPT / f"{key}.npy"
                    fresh = arguments.fresh == "all" or (arguments.fresh == "ours" and who.startswith("streamtrain"))
                    started = time.perf_counter()
                    if file.exists() and not fresh:
                        answers = np.load(file)
                    else:
                        answers = learn(data, seed)
                        KEPT.mkdir(parents=True, exist_ok=True)
                        np.save(file, answers)
                    print(f"{key:70} {score(answers, data.y, data.n_test)} {time.perf_counter() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
