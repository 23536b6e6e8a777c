"""What is learned after the same epochs, so that speed is not bought with learning."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import ours
import perceptron
import pytorch
from clock import told
from problem import Problem, drawn, recorded, recorded_names, shuffled
from tiny_dancer import MissingError, TinyDancer

from streamtrain.judge.metrics import accuracy, auc, log_loss
from streamtrain.model import forward
from streamtrain.model.params import WEIGHTS, as_dict, initialise
from streamtrain.train.fit import fit
from streamtrain.types import F64, FastGRNNConfig, Params

HIDDEN, EPOCHS, RATE = 16, 20, 0.001
REAL = "routellm_mixtral"


def beside_peers(quick: bool) -> list[dict[str, Any]]:
    """Test loss, accuracy and AUC of every contestant: same rows, width, batch, rate and epochs; medians over seeds.

    Every contestant trains on 80 % of the training samples: Tiny Dancer keeps 20 % to itself, and ours and the others
    leave out as many. Nobody stops early, and the weights of the last epoch count.
    """
    seeds = range(2 if quick else 5)
    size = 2_000 if quick else 10_000
    problems = {"the guide's synthetic problem": (drawn(size), drawn(10_000, seed=1))}
    if REAL in recorded_names():
        problems[REAL] = recorded(REAL)
    rows = []
    for name, (train, test) in problems.items():
        contestants: dict[str, Callable[[Problem, int], F64]] = {
            "streamtrain": lambda part, seed, test=test: _ours(part, test, seed),
            "streamtrain from small weights": lambda part, seed, test=test: _ours(part, test, seed, small=True),
            "PyTorch": lambda part, seed, test=test: _pytorch(part, test, seed),
            "scikit-learn MLP": lambda part, seed, test=test: perceptron.logits(part, test, HIDDEN, EPOCHS, RATE, seed),
        }
        with told(f"learning {name}"):
            for who, learn in contestants.items():
                answers = []
                for seed in seeds:
                    mixed = shuffled(train, seed)
                    answers.append(learn(mixed.first(len(mixed.y) - int(len(mixed.y) * ours.VALIDATION)), seed))
                rows.append(_row(name, who, answers, train, test))
            answers = _tiny_dancer(train, test, seeds)
            if answers:
                rows.append(_row(name, "Tiny Dancer", answers, train, test))
    return rows


def _row(name: str, who: str, answers: list[F64], train: Problem, test: Problem) -> dict[str, Any]:
    y = test.y[:, 0].astype(np.float64)
    probabilities = [forward.sigmoid(z[:, 0]) for z in answers]
    return {
        "problem": name, "who": who, "n_train": len(train.y), "n_test": len(y), "seeds": len(answers),
        "log_loss": median(float(log_loss(y, p)) for p in probabilities),
        "accuracy": median(float(accuracy(y, p)) for p in probabilities),
        "auc": median(float(auc(y, p)) for p in probabilities),
    }  # fmt: skip


def _config(problem: Problem) -> FastGRNNConfig:
    return ours.config_for(problem, HIDDEN)


def _of(params: Params, test: Problem) -> F64:
    """Logits by the plain NumPy cell, in float64, of whoever's weights."""
    h = np.zeros((len(test.y), HIDDEN))
    return forward.logits(params, forward.step(params, test.x[:, 0].astype(np.float64), h))[:, None]


def _ours(train: Problem, test: Problem, seed: int, small: bool = False) -> F64:
    config = _config(train)
    start = _small(config, seed) if small else initialise(config, seed)
    made = fit(start, config, ours.settings(EPOCHS, learning_rate=RATE), train.arrays, None, seed)
    return _of(made.params, test)


def _small(config: FastGRNNConfig, seed: int) -> Params:
    """Weights from U(-0.1, 0.1) and zero biases, as Tiny Dancer starts."""
    rng = np.random.default_rng(seed)
    tensors = {
        name: rng.uniform(-0.1, 0.1, tensor.shape).astype(np.float32) if name in WEIGHTS else tensor
        for name, tensor in as_dict(initialise(config, seed)).items()
    }
    return Params(**tensors)


def _pytorch(train: Problem, test: Problem, seed: int) -> F64:
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(len(train.y)) for _ in range(EPOCHS))
    start = initialise(_config(train), seed)
    return pytorch.logits(pytorch.trained(start, train, ours.settings(EPOCHS, learning_rate=RATE), orders), test)


def _tiny_dancer(train: Problem, test: Problem, seeds: range) -> list[F64]:
    answers = []
    try:
        with TinyDancer() as peer:
            for seed in seeds:
                peer.load(shuffled(train, seed))
                answers.append(_of(peer.train(HIDDEN, EPOCHS, RATE)[0], test))
    except MissingError:
        return []
    return answers
