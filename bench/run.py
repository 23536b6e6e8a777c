"""The one command: measures everything side by side, then writes docs/benchmarks.md and its picture.

make bench                                     the whole run
python bench/run.py --quick                    small settings, into bench/out, to see that it works
python bench/run.py --only latency,sizes       some measurements, printed
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from machine import OUT, REPOSITORY, allow_one_thread, describe


def sections(rounds: int, quick: bool) -> dict[str, Callable[[], Any]]:
    """Every measurement by its name in the results."""
    import agreement
    import inference
    import learning
    import rounding
    import scaling
    import speed

    return {
        "tiny_dancer": lambda: speed.beside_tiny_dancer(rounds, quick),
        "pytorch": lambda: speed.beside_pytorch(rounds, quick),
        "sklearn": lambda: speed.beside_sklearn(rounds, quick),
        "limit": lambda: speed.beside_limit(rounds, quick),
        "cost": lambda: scaling.cost(rounds, quick),
        "memory": lambda: scaling.memory(quick),
        "latency": lambda: inference.latency(rounds, quick),
        "sizes": inference.sizes,
        "rounding": lambda: rounding.cost(quick),
        "agreement": lambda: agreement.agreement(quick),
        "learning": lambda: learning.beside_peers(quick),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small settings, for trying the scripts themselves")
    parser.add_argument("--only", default="", metavar="NAMES", help="measure these, separated by commas, and print")
    parser.add_argument("--rounds", type=int, default=None, help="rounds of each comparison (7; quick: 3)")
    arguments = parser.parse_args()
    allow_one_thread()
    rounds = arguments.rounds or (3 if arguments.quick else 7)
    started = time.perf_counter()
    results: dict[str, Any] = {"machine": describe(), "rounds": rounds, "command": "make bench"}
    every = sections(rounds, arguments.quick)
    unknown = set(filter(None, arguments.only.split(","))) - set(every)
    if unknown:
        parser.error(f"--only: no measurement {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    for name in filter(None, arguments.only.split(",")):
        print(json.dumps({name: every[name]()}, indent=1))
    if arguments.only:
        return
    for name, measure in every.items():
        print(f"{name} ({time.perf_counter() - started:.0f} s so far)", flush=True)
        results[name] = measure()
    results["minutes"] = (time.perf_counter() - started) / 60
    write(results, arguments.quick)


def write(results: dict[str, Any], quick: bool) -> None:
    """Results as JSON, page and picture: into `docs`, or where the run was a quick one, beside the JSON."""
    from report import page, picture

    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    place = OUT if quick else REPOSITORY / "docs"
    (place / "benchmarks.svg").write_text(picture(results))
    (place / "benchmarks.md").write_text(page(results))
    print(f"written: {(place / 'benchmarks.md').relative_to(REPOSITORY)}, after {results['minutes']:.1f} minutes")


if __name__ == "__main__":
    main()
