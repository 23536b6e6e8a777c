"""scikit-learn's MLPClassifier with one hidden layer of the same width: the nearest thing that people reach for."""

from __future__ import annotations

import time
import warnings

import numpy as np
from clock import Run
from ours import BATCH
from problem import Problem
from sklearn.neural_network import MLPClassifier

from streamtrain.types import F64


def _classifier(hidden: int, learning_rate: float, seed: int) -> MLPClassifier:
    return MLPClassifier(
        (hidden,), activation="tanh", solver="adam", alpha=1e-5, batch_size=BATCH, learning_rate_init=learning_rate,
        random_state=seed,
    )  # fmt: skip


def training(problem: Problem, hidden: int) -> Run:
    """An epoch (`partial_fit` is one pass in batches of 32)."""
    model = _classifier(hidden, 0.001, 0)
    x, y = problem.x[:, 0], problem.y[:, 0]
    model.partial_fit(x, y, classes=np.array([0.0, 1.0]))

    def run() -> float:
        start = time.perf_counter()
        model.partial_fit(x, y)
        return (time.perf_counter() - start) / len(y)

    return run


def logits(train: Problem, test: Problem, hidden: int, epochs: int, learning_rate: float, seed: int) -> F64:
    """Logits on `test`, (N, 1), after so many epochs on `train`."""
    model = _classifier(hidden, learning_rate, seed).set_params(max_iter=epochs, n_iter_no_change=epochs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it stopped at the epochs asked for
        model.fit(train.x[:, 0], train.y[:, 0])
    p = np.clip(model.predict_proba(test.x[:, 0])[:, 1].astype(np.float64), 1e-12, 1 - 1e-12)
    return np.log(p / (1 - p))[:, None]
