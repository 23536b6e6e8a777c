"""What INT8 costs in accuracy on recorded routing outcomes."""

from __future__ import annotations

from statistics import mean
from typing import Any

import numpy as np
from clock import told
from ours import config_for
from problem import Problem, recorded, recorded_names, shuffled

from streamtrain.judge.metrics import auc
from streamtrain.model.forward import probabilities
from streamtrain.model.params import initialise
from streamtrain.model.quantize import dequantize, quantize
from streamtrain.train.fit import fit
from streamtrain.train.presets import resolve
from streamtrain.types import F64, Params

HIDDEN = 16


def cost(quick: bool) -> list[dict[str, Any]]:
    """Accuracy of float and of INT8 weights on the last 30 % of each data set by time, means over seeds."""
    seeds = range(2 if quick else 10)
    rows = []
    for name in recorded_names():
        with told(f"INT8 on {name}"):
            train, test = recorded(name)
            pairs = [_trained(train, seed) for seed in seeds]
            y = test.y[:, 0] >= 0.5
            scores = [(_answers(whole, test), _answers(rounded, test)) for whole, rounded in pairs]
            differences = [100 * (np.mean((b >= 0.5) == y) - np.mean((a >= 0.5) == y)) for a, b in scores]
            rows.append(
                {
                    "name": name, "n_test": len(y), "seeds": len(scores),
                    "float": mean(float(np.mean((a >= 0.5) == y)) for a, _ in scores),
                    "int8": mean(float(np.mean((b >= 0.5) == y)) for _, b in scores),
                    "float_auc": mean(float(auc(y.astype(float), a)) for a, _ in scores),
                    "int8_auc": mean(float(auc(y.astype(float), b)) for _, b in scores),
                    "points": mean(differences), "worst": max(differences, key=abs), "sample": 100 / len(y),
                    "largest_change": max(float(np.abs(a - b).max()) for a, b in scores),
                }
            )  # fmt: skip
    return rows


def _trained(problem: Problem, seed: int) -> tuple[Params, Params]:
    """Weights by the preset for the size of the set, and the same rounded."""
    mixed, config = shuffled(problem, seed), config_for(problem, HIDDEN)
    training = resolve("auto", len(mixed.y), {})
    n_train = len(mixed.y) - int(len(mixed.y) * training.validation_split)
    train, validation = mixed.first(n_train), mixed.rest(n_train)
    made = fit(initialise(config, seed), config, training, train.arrays, validation.arrays, seed)
    return made.params, dequantize(quantize(made.params))


def _answers(params: Params, test: Problem) -> F64:
    return np.asarray(probabilities(params, test.x[:, 0]), np.float64)
