"""What is learned from recorded outcomes, beside peers: writes docs/learning.md and its picture.

make bench-learning                                          everything; of peers, what bench/out/learning has not got
python bench/learned.py --seeds 1 --sets classic_phishing    some of it, printed
python bench/learned.py --fresh                              peers anew too
python bench/learned.py --kept                               the page again, of the last answers: nothing is learned
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from machine import OUT, REPOSITORY, allow_one_thread, describe

from streamtrain.types import F64

KEPT = OUT / "learning"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, … so many")
    parser.add_argument("--sets", default="", metavar="NAMES", help="these data sets, separated by commas; no page")
    parser.add_argument("--only", default="", metavar="WORD", help="contestants whose name has it; no page")
    parser.add_argument("--fresh", action="store_true", help="measure again what is kept of peers")
    parser.add_argument("--kept", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    allow_one_thread()
    import product
    from contestants import ONCE, ROW_BY_ROW, n_seeds
    from learning_page import Measured, page, picture
    from outcomes import TOO_FEW, outcomes, score
    from problem import recorded_names

    every = {product.ONCE: product.once, product.DAEMON: product.daemon} | ONCE | ROW_BY_ROW
    measured, too_few = [], []
    for name in arguments.sets.split(",") if arguments.sets else recorded_names():
        for data in outcomes(name):
            if len(data.y) < TOO_FEW:
                too_few = sorted({*too_few, name})
                continue
            answers: dict[str, list[F64]] = {}
            for who, learn in every.items():
                fresh = not arguments.kept and (arguments.fresh or who in (product.ONCE, product.DAEMON))
                for seed in range(n_seeds(who, data, arguments.seeds) if arguments.only in who else 0):
                    key = f"{name}-{data.features}-{who}-{seed}".replace(" ", "_").replace(":", "")
                    if arguments.kept and not (KEPT / f"{key}.npy").exists():
                        continue
                    started = time.perf_counter()
                    one = _kept(key, partial(learn, data, seed), fresh)
                    answers.setdefault(who, []).append(one)
                    spent = time.perf_counter() - started
                    print(f"{key:70} {score(one, data.y, data.n_test)} {spent:.1f} s", flush=True)
            measured.append(Measured.of(data, answers))
    if arguments.sets or arguments.only:
        return
    machine = describe()
    text = page(measured, f"{machine['versions']}; {machine['date']}.", too_few)
    (REPOSITORY / "docs" / "learning.md").write_text(text)
    (REPOSITORY / "docs" / "learning.svg").write_text(picture(measured))
    print(text.split("## Everybody")[0])


def _kept(key: str, measure: Callable[[], F64], fresh: bool) -> F64:
    """Answers from the file of that name, or measured and put there."""
    file = KEPT / f"{key}.npy"
    if fresh or not file.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        np.save(file, measure())
    return np.asarray(np.load(file), np.float64)


if __name__ == "__main__":
    main()
