"""How often the gate is right: every promise of docs/gate.md counted on real trainings, into docs/judgement.md.

make bench-judgement                                the whole run
python bench/judgement.py --trials 20               a small one, printed
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from machine import OUT, REPOSITORY, allow_one_thread
from retrains import Samples, draw, recorded, shuffled, train, worse_features, worse_weights

from streamtrain.judge.evidence import Evidence, GateRules
from streamtrain.judge.gate import judge
from streamtrain.types import F64, Decision

TRIALS = 1_000  # against a current version, over all worlds; half as many first versions, over all data sets
POINTS = 2.0
REPEATED, HOLDOUTS, SHUFFLED = 200, 20, 1_000
REPEATED_WORLDS = ("weak", "guide")
HOLDOUT = 5_000
KEPT = OUT / "judgement"
PAGE = REPOSITORY / "docs" / "judgement.md"

Counts = Counter[str]
Row = tuple[str, Counts]

SMALL_HOLDOUT = 1_000
DATA_SETS = {
    "routellm_mixtral": 4_000,
    "routellm_mixtral_topicdrift": 4_000,
    "llmrouter_llama8b": 4_000,
    "classic_sea4": 4_000,
    "classic_agrawal_switch": 4_000,
    "classic_phishing": 250,
}
"""Samples that are trained on; `mtbench_conversations` with its 160 rows has no holdout of 1,000."""

WORLDS = {"guide": 4_000, "weak": 4_000, "routellm_mixtral": 4_000, "classic_sea4": 3_000}


def main() -> None:
    allow_one_thread()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=None, help=f"instead of {TRIALS}; printed only")
    parser.add_argument("--only", choices=["alone", "versus", "again"], help="one of the tables; printed only")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    arguments = parser.parse_args()
    trials, parts = arguments.trials or TRIALS, []
    with ProcessPoolExecutor(arguments.workers, get_context("spawn")) as pool:
        if arguments.only in (None, "alone"):
            parts.append(alone_part(counted(pool, passes_alone, [*DATA_SETS], -(-trials // 2 // len(DATA_SETS)))))
        if arguments.only in (None, "versus"):
            parts.append(versus_part(counted(pool, passes_versus, [*WORLDS], -(-trials // len(WORLDS)))))
        if arguments.only in (None, "again"):
            n = max(4, REPEATED * trials // TRIALS)
            parts.append(again_part(counted(pool, partial(passes_again, n=n), REPEATED_WORLDS, HOLDOUTS, 10), n))
    page = "\n\n".join([HEAD, *parts]) + "\n"
    print(page)
    if arguments.trials is None and arguments.only is None:
        PAGE.write_text(page)


def counted(
    pool: ProcessPoolExecutor,
    count: Callable[[str, range], Counts],
    names: Sequence[str],
    n_trials: int,
    n_each: int = 25,
) -> list[Row]:
    """Count the trials of each name. The seed of a trial is its number, whichever process does it."""
    parts = [range(start, min(start + n_each, n_trials)) for start in range(0, n_trials, n_each)]
    jobs = [(name, [pool.submit(kept, count, name, part) for part in parts]) for name in names]
    rows = []
    for name, of in jobs:
        rows.append((name, sum((job.result() for job in of), Counter())))
        print(f"{name}: {dict(rows[-1][1])}", flush=True)
    return rows


def kept(count: Callable[[str, range], Counts], name: str, trials: range) -> Counts:
    """Count, or take what a run of this very code counted that was interrupted."""
    file = KEPT / f"{_code()}-{_called(count)}-{name}-{trials.start}-{trials.stop}.json"
    if file.exists():
        return Counter(json.loads(file.read_text()))
    counts = count(name, trials)
    KEPT.mkdir(parents=True, exist_ok=True)
    partly = file.with_suffix(f".{os.getpid()}")
    partly.write_text(json.dumps(counts))
    partly.replace(file)
    return counts


def _called(count: Callable[[str, range], Counts]) -> str:
    return f"{count.func.__name__}-{count.keywords['n']}" if isinstance(count, partial) else count.__name__


@cache
def _code() -> str:
    """Digest of all code that a count comes from."""
    files = [
        *sorted((REPOSITORY / "streamtrain").rglob("*.py")),
        Path(__file__),
        Path(__file__).with_name("retrains.py"),
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def passes_alone(name: str, trials: range) -> Counts:
    """Judge a good model, one trained on shuffled labels, and a constant, each as a first version."""
    whole, passed = recorded(name), Counter({"trials": len(trials)})
    for trial in trials:
        rng = np.random.default_rng([21, trial])
        order = rng.permutation(len(whole.y))
        learned, held = whole.rows(order[: DATA_SETS[name]]), whole.rows(order[-SMALL_HOLDOUT:])
        rate = float(learned.y.mean())
        constant = rng.choice([rate, float(held.y.mean()), rng.random()])
        answers = {
            "good": train(learned, trial).answers(held.x),
            "shuffled": train(shuffled(learned, rng), trial).answers(held.x),
            "constant": np.full(SMALL_HOLDOUT, constant),
        }
        for kind, answered in answers.items():
            passed[kind] += published(held, answered, rate, DATA_SETS[name], None, GateRules(min_accuracy=0.3))
    return passed


def passes_versus(name: str, trials: range) -> Counts:
    """Judge a retrained version against another, and a version against itself with noise that costs 2 points."""
    passed = Counter({"trials": len(trials)})
    for trial in trials:
        rng = np.random.default_rng([22, trial])
        drawn = draw(name, rng, WORLDS[name], HOLDOUT)
        champion, retrained = train(drawn.train, 2 * trial), train(drawn.other, 2 * trial + 1)
        worsen = worse_weights if trial % 2 else worse_features
        x, rate = drawn.holdout.x, float(drawn.train.y.mean())
        good, fresh, bad = champion.answers(x), retrained.answers(x), worsen(champion, drawn, POINTS, rng)(x)
        passed["disagreements"] += int(((good >= 0.5) != (bad >= 0.5)).sum())
        for kind, new, old in (("equal", fresh, good), ("worse", bad, good), ("better", good, bad)):
            for versus in ("not_worse", "better"):
                rules = GateRules(min_accuracy=0, versus_current=versus)
                passed[f"{kind}, {versus}"] += published(drawn.holdout, new, rate, WORLDS[name], old, rules)
    return passed


def passes_again(name: str, holdouts: range, n: int) -> Counts:
    """Judge n candidates of no value after one another on the same holdout: on how many holdouts does any pass?"""
    rng = np.random.default_rng([23, n])
    drawn = draw(name, rng, WORLDS[name], HOLDOUT)
    champion, rate = train(drawn.train, 0), float(drawn.train.y.mean())
    fresh = [draw(name, rng, WORLDS[name], 1).train for _ in range(n)]
    equal = [train(samples, number) for number, samples in enumerate(fresh)]
    few = [shuffled(samples.rows(np.s_[:SHUFFLED]), rng) for samples in fresh]
    nothing = [train(samples, number) for number, samples in enumerate(few)]
    worse = [worse_weights(champion, drawn, POINTS, rng) for _ in range(n)]
    first, better = GateRules(min_accuracy=0.3), GateRules(min_accuracy=0, versus_current="better")
    passed = Counter({"trials": len(holdouts)})
    for holdout in holdouts:
        rng = np.random.default_rng([24, holdout])
        held, large = (draw(name, rng, 1, size).holdout for size in (SMALL_HOLDOUT, HOLDOUT))
        old, serving, found = champion.answers(held.x), champion.answers(large.x), set()
        for number in range(n):
            timid = np.clip(rate + 0.02 * rng.normal(size=SMALL_HOLDOUT), 0.01, 0.99)
            for way, uses in (("none", 1.0), ("budget", number + 1.0)):
                given = {
                    "equal": (held, equal[number].answers(held.x), rate, WORLDS[name], old, better),
                    "worse": (
                        large,
                        worse[number](large.x),
                        rate,
                        WORLDS[name],
                        serving,
                        replace(first, min_accuracy=0),
                    ),
                    "shuffled": (held, nothing[number].answers(held.x), rate, SHUFFLED, None, first),
                    "timid": (held, timid, rate, WORLDS[name], None, first),
                }
                told = {kind: verdict(*what, uses) for kind, what in given.items()}
                found |= {f"{kind}, {way}" for kind, one in told.items() if one.outcome == "published"}
                if any(rule.passed for rule in told["timid"].rules if rule.name == "beat_baseline"):
                    found.add(f"timid alone, {way}")
        passed.update(found)
    return passed


def published(held: Samples, new: F64, rate: float, n: int, old: F64 | None, rules: GateRules) -> bool:
    """Whether the gate lets it through."""
    return verdict(held, new, rate, n, old, rules).outcome == "published"


def verdict(
    held: Samples, new: F64, rate: float, n: int, old: F64 | None, rules: GateRules, uses: float = 1.0
) -> Decision:
    """What the gate says of a version that answers this to the holdout, and was trained on n samples."""
    evidence = Evidence(held.y, new, rate, (n // 2, n - n // 2), current=old, uses=uses, features=held.x)
    return judge(evidence, replace(rules, min_samples=1))


HEAD = """# How often the gate is right

Counted on trainings by the kernels and recipes of the daemon (two challengers from scratch, the better on validation,
rounded to INT8; 8 hidden units), judged by the gate with its default settings and the floor below the base rate. The
worlds: `guide` is the guide's synthetic problem, `weak` a synthetic one where little can be foreseen, the others are
recorded outcomes (made from those of RouteLLM (Apache-2.0), LLMRouter (MIT) and river (BSD-3)) in random order. Seeds
are the numbers of the trials: trial 7 of the first table draws from `default_rng([21, 7])`, of the second from
`[22, 7]`, holdout 7 of the third from `[24, 7]`. Written by `make bench-judgement`; [gate.md](gate.md) explains the
rules."""


def alone_part(rows: list[Row]) -> str:
    """The table of first versions."""
    lines = [
        (
            name,
            DATA_SETS.get(name, ""),
            count["trials"],
            *(_share(count, kind) for kind in ("good", "shuffled", "constant")),
        )
        for name, count in [*rows, _all(rows)]
    ]
    return (
        "## First versions\n\nHow often a version is published where none serves, holdout 1,000 (random rows; "
        "`mtbench_conversations` has only 160). Constants are the base rate of the training samples, that of the "
        "holdout itself, or anything.\n\n"
        + _table(("log", "trained on", "trials", "well-fitted", "shuffled labels", "constant"), lines)
        + "\n\nAsked for: ≥ 95 %, ≤ 1 %, 0."
    )


def versus_part(rows: list[Row]) -> str:
    """The table of versions against the current one."""
    kinds = [f"{kind}, {versus}" for kind in ("equal", "worse", "better") for versus in ("not_worse", "better")]
    lines = [
        (
            name,
            count["trials"],
            *(_share(count, kind) for kind in kinds),
            "" if name == "all" else f"{count['disagreements'] / count['trials'] / HOLDOUT:.1%}",
        )
        for name, count in [*rows, _all(rows)]
    ]
    heads = ("world", "trials", *(f"{kind.split(', ')[0]}: `{kind.split(', ')[1]}`" for kind in kinds), "disagree")
    return (
        "## Against a current version\n\nHow often a candidate is published, holdout 5,000. *Equal*: both versions "
        "are trained on fresh draws. *Worse* and *better*: the same version with noise on its weights (odd trials) or "
        "on its features (even ones), as much as costs 2.0 points of accuracy in truth (known chances, or all rows "
        "that were not trained on), as candidate or as current version; *disagree* is how many decisions differ "
        "between these two.\n\n" + _table(heads, lines) + "\n\nAsked for: equal by `better` ≤ 1 %, worse by "
        "`not_worse` ≤ 1 %, better ≥ 90 %. Equal by `not_worse` includes the retrains that are in truth worse: on "
        "holdouts of this size, log losses of fresh draws differ beyond chance."
    )


def again_part(rows: list[Row], n: int) -> str:
    """The table of repeated use."""
    cases = {
        "timid alone": "the base rate and noise: `beat_baseline` alone",
        "timid": "the base rate and noise: all rules",
        "shuffled": "shuffled labels: all rules",
        "equal": "equal, by `better`: all rules",
        "worse": "2 points worse, by `not_worse`: all rules",
    }
    lines = [
        (name, told, count["trials"], _share(count, f"{case}, none"), _share(count, f"{case}, budget"))
        for name, count in rows
        for case, told in cases.items()
    ]
    return (
        f"## The same holdout again\n\n{n} candidates of no value one after the other against the same holdout: in how "
        "many of the holdouts does any of them get through? *The base rate and noise*: random answers near the base "
        f"rate. *Shuffled labels*: trained on {SHUFFLED:,} samples. *Equal*: retrained on fresh draws, against one of "
        "their kind. *2 points worse*: the current version with noise on its weights. Holdouts of 1,000, for the last "
        "of 5,000. Without the budget each candidate is judged as if it were the first.\n\n"
        + _table(("world", "candidates and rules", "holdouts", "without the budget", "with it"), lines)
    )


def _all(rows: list[Row]) -> Row:
    return "all", sum((count for _, count in rows), Counter())


def _share(count: Counts, kind: str) -> str:
    return f"{count[kind] / count['trials']:.1%} ({count[kind]:,})"


def _table(heads: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    lines = [list(heads)]
    lines += [
        ["---"] * len(lines[0]),
        *([f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


if __name__ == "__main__":
    main()
