"""Is a gap on one holdout one of the learner or of the holdout? The same rows with other sessions held out.

python bench/elsewhere.py                                  the row of docs/learning.md that falls short
python bench/elsewhere.py --set routellm_mixtral --runs 10

Sessions are put in random order and given the times of the log, so that other ones come last. Boosting is also given
just the rows that ours learns from and chooses by; ours also decides by the threshold that is best on the latter.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from machine import allow_one_thread

from streamtrain.types import F32, F64, Samples

THRESHOLDS = np.linspace(0.35, 0.65, 61)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="llmrouter_llama8b")
    parser.add_argument("--features", default="hand")
    parser.add_argument("--runs", type=int, default=30, help="other holdouts")
    parser.add_argument("--seeds", type=int, default=5, help="of the holdout that is last by time")
    arguments = parser.parse_args()
    allow_one_thread()
    logging.disable(logging.WARNING)
    import contestants
    from outcomes import Outcomes, outcomes
    from product import Service
    from sklearn.ensemble import GradientBoostingClassifier

    from streamtrain.dataset import scale

    data = next(one for one in outcomes(arguments.set) if one.features == arguments.features)
    rng = np.random.default_rng(0)

    def fewer(train: list[Samples], x: F32, seed: int) -> F64:
        """Boosting on the rows that ours learns from and chooses by."""
        features = np.concatenate([part.features for part in train])
        scaling = scale.fit(features)
        model = GradientBoostingClassifier(random_state=seed)
        model.fit(scale.apply(features, scaling), np.concatenate([part.labels for part in train]))
        return np.asarray(model.predict_proba(scale.apply(x, scaling))[:, 1], np.float64)

    def right(data: Outcomes, seed: int) -> dict[str, float]:
        """Accuracy of everybody on the holdout of this order."""
        x, y = data.x[data.n_train :], data.y[data.n_train :] >= 0.5
        with Service(data, seed) as service:
            service.read(data.records[: data.n_train])
            decision = service.cycle.learn()
            if decision.outcome != "published":
                raise RuntimeError(f"bench: {data.name}, seed {seed}: {decision.reason}")
            splits = service.cycle.intake.splits()
            answers = {"ours": service.answers(x)}
            chosen_by = service.answers(splits.validation.features)
        good = splits.validation.labels >= 0.5
        threshold = max(THRESHOLDS, key=lambda one: (np.mean((chosen_by >= one) == good), -abs(one - 0.5)))
        answers["ours, its own threshold"] = answers["ours"] + 0.5 - threshold
        answers["boosting, the rows of ours"] = fewer([splits.train, splits.validation], x, seed)
        peers: dict[str, Callable[[Outcomes, int], F64]] = {
            "boosting": contestants.boosting,
            "logistic regression": contestants.logistic,
        }
        answers |= {who: learn(data, seed) for who, learn in peers.items()}
        return {who: float(np.mean((p >= 0.5) == y)) for who, p in answers.items()}

    _show("last by time, median", [right(data, seed) for seed in range(arguments.seeds)], np.median)
    names = [str(row.get("session_id", i)) for i, row in enumerate(data.records)]
    _, sessions = np.unique(names, return_inverse=True)
    times = sorted(row["timestamp"] for row in data.records)
    others = []
    for run in range(arguments.runs):
        order = np.argsort(rng.permutation(sessions.max() + 1)[sessions], kind="stable")
        records = [data.records[i] | {"timestamp": time} for i, time in zip(order, times, strict=True)]
        others.append(right(replace(data, records=records, x=data.x[order], y=data.y[order]), run))
    _show(f"{arguments.runs} others, mean", others, np.mean)
    for who in others[0]:
        gaps = np.array([one["ours"] - one[who] for one in others])
        if who != "ours":
            print(
                f"ours - {who}: {100 * gaps.mean():+.2f} points, spread {100 * gaps.std(ddof=1):.2f} between holdouts"
            )


def _show(what: str, runs: list[dict[str, float]], middle: Callable[..., float]) -> None:
    print(what + ": " + ", ".join(f"{who} {float(middle([one[who] for one in runs])):.4f}" for who in runs[0]))


if __name__ == "__main__":
    main()
