"""Peers that learn from recorded outcomes: scikit-learn, Tiny Dancer's released trainer, and River row by row.

Each gives probabilities of label 1: those who learn once, of the holdout; those who go on learning, of every row before
they are told its label. All but River are given features normalised by the rows before the holdout; River scales as
it goes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from outcomes import Outcomes
from problem import Problem, shuffled
from river import compose, forest, linear_model, preprocessing, tree
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from tiny_dancer import TinyDancer

from streamtrain.model import forward
from streamtrain.types import F64

Contestant = Callable[[Outcomes, int], F64]
"""Learns with a seed, and answers."""

HIDDEN = 16
STEP = 500
TINY_DANCER = {"epochs": 20, "learning_rate": 0.001}


def majority(data: Outcomes, seed: int) -> F64:
    """The rate of label 1 before the holdout."""
    return np.full(data.n_test, data.y[: data.n_train].mean())


def logistic(data: Outcomes, seed: int) -> F64:
    return _sklearn(LogisticRegression(max_iter=1000), data)


def boosting(data: Outcomes, seed: int) -> F64:
    return _sklearn(GradientBoostingClassifier(random_state=seed), data)


def perceptron(data: Outcomes, seed: int) -> F64:
    """The default 100 hidden units, stopped early on a tenth."""
    return _sklearn(MLPClassifier(early_stopping=True, random_state=seed), data)


def _sklearn(model: LogisticRegression | GradientBoostingClassifier | MLPClassifier, data: Outcomes) -> F64:
    x, n = data.normalised, data.n_train
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it stopped at the iterations allowed
        model.fit(x[:n], data.y[:n])
    return np.asarray(model.predict_proba(x[n:])[:, 1], np.float64)


def tiny_dancer(data: Outcomes, seed: int) -> F64:
    """The npm package's trainer, of our hidden size."""
    x, n = data.normalised, data.n_train
    train = Problem(x[:n, None], data.y[:n, None].astype(np.float32))
    with TinyDancer() as peer:
        peer.load(shuffled(train, seed))
        params, _ = peer.train(HIDDEN, TINY_DANCER["epochs"], TINY_DANCER["learning_rate"])
    h = forward.step(params, x[n:].astype(np.float64), np.zeros((data.n_test, HIDDEN)))
    return np.asarray(forward.sigmoid(forward.logits(params, h)), np.float64)


def river_logistic(data: Outcomes, seed: int) -> F64:
    return _river(linear_model.LogisticRegression(), data)


def river_logistic_late(data: Outcomes, seed: int) -> F64:
    return _river(linear_model.LogisticRegression(), data, STEP)


def river_tree(data: Outcomes, seed: int) -> F64:
    return _river(tree.HoeffdingAdaptiveTreeClassifier(seed=seed), data)


def river_forest(data: Outcomes, seed: int) -> F64:
    return _river(forest.ARFClassifier(n_models=10, seed=seed), data)


def _river(learner: object, data: Outcomes, step: int = 1) -> F64:
    """Prequentially: `step` rows are answered, then learned from."""
    model = compose.Pipeline(preprocessing.StandardScaler(), learner)
    answers = np.empty(len(data.y))
    rows, labels = [dict(enumerate(row)) for row in data.x.tolist()], (data.y >= 0.5).tolist()
    for start in range(0, len(rows), step):
        for i in range(start, min(start + step, len(rows))):
            answers[i] = model.predict_proba_one(rows[i]).get(True, 0.0 if start else 0.5)
        for i in range(start, min(start + step, len(rows))):
            model.learn_one(rows[i], labels[i])
    return answers


ONCE: dict[str, Contestant] = {
    "majority class": majority,
    "logistic regression": logistic,
    "gradient boosting": boosting,
    "MLP": perceptron,
    "Tiny Dancer": tiny_dancer,
}
"""Who learn from the rows before the holdout."""
LATE = "River: logistic regression, told every 500 rows"
ROW_BY_ROW: dict[str, Contestant] = {
    "River: logistic regression": river_logistic,
    LATE: river_logistic_late,
    "River: Hoeffding adaptive tree": river_tree,
    "River: ARF-10": river_forest,
}
"""Who go on learning, up to the row before."""
SAME_FOR_ALL_SEEDS = {"majority class", "logistic regression", "River: logistic regression", LATE}


def n_seeds(who: str, data: Outcomes, wanted: int) -> int:
    """How many seeds a contestant is worth: one where all are the same, or where one takes minutes."""
    slow = who == "River: ARF-10" and data.x.size > 20_000
    return 1 if slow or who in SAME_FOR_ALL_SEEDS else wanted
