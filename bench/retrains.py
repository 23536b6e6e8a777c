"""Worlds to draw samples from, and models trained on them as the daemon trains: what `judgement.py` judges."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
from problem import RECORDED

from streamtrain.dataset import scale
from streamtrain.model import forward
from streamtrain.model.params import WEIGHTS, initialise
from streamtrain.model.quantize import dequantize, quantize
from streamtrain.train.challengers import Recipe, calm, compete
from streamtrain.train.presets import resolve
from streamtrain.types import F32, F64, Arrays, FastGRNNConfig, Params, Scaling

HIDDEN = 8
_POOL = 20_000
Rng = np.random.Generator


@dataclass(frozen=True)
class Samples:
    """Features (N, D), and labels (N,)."""

    x: F32
    y: F64

    def rows(self, index: np.ndarray) -> Samples:
        return Samples(self.x[index], self.y[index])


@dataclass(frozen=True)
class Drawn:
    """What a trial needs: samples to train two versions on, a holdout that they say nothing of, and a pool of truth.

    `chances` are those of label 1 in the pool.
    """

    train: Samples
    other: Samples
    holdout: Samples
    pool: F32
    chances: F64


def draw(name: str, rng: Rng, n_train: int, n_holdout: int) -> Drawn:
    """Draw from `guide`, the guide's synthetic problem, from `weak`, where little can be foreseen, or from a data set.

    Of a data set, rows that are not trained on are the truth, and the holdout is drawn from them with replacement.
    """
    if name in _SYNTHETIC:
        parts = []
        for n in (n_train, n_train, n_holdout):
            x, chances = _SYNTHETIC[name](rng, n)
            parts.append(Samples(x, (rng.random(n) < chances).astype(np.float64)))
        return Drawn(*parts, *_SYNTHETIC[name](rng, _POOL))
    whole = recorded(name)
    order = rng.permutation(len(whole.y))
    others = whole.rows(order[2 * n_train :])
    holdout = others.rows(rng.integers(0, len(others.y), n_holdout))
    return Drawn(whole.rows(order[:n_train]), whole.rows(order[n_train : 2 * n_train]), holdout, others.x, others.y)


def _guide(rng: Rng, n: int) -> tuple[F32, F64]:
    x = rng.random((n, 5), np.float32)
    score = 0.4 * x[:, 0] + 0.3 * x[:, 3] + 0.3 * (1.0 - x[:, 4])
    return x, np.clip((score - 0.4) / 0.2, 0.0, 1.0).astype(np.float64)  # noise from U(-0.1, 0.1), threshold 0.5


def _weak(rng: Rng, n: int) -> tuple[F32, F64]:
    x = rng.normal(size=(n, 8)).astype(np.float32)
    slopes = 0.8 * np.array([1.0, -0.8, 0.6, 0.5, 0.4, -0.3, 0.2, 0.0])
    return x, 1.0 / (1.0 + np.exp(-(x @ slopes + 0.5 * x[:, 0] * x[:, 1] + 0.7)))


_SYNTHETIC = {"guide": _guide, "weak": _weak}


@cache
def recorded(name: str) -> Samples:
    """A whole data set, as it was recorded."""
    with gzip.open(RECORDED / f"{name}.jsonl.gz") as stream:
        rows = [json.loads(line) for line in stream]
    x = np.array([row["features"] for row in rows], np.float32)
    return Samples(x, np.array([row["lightweight_successful"] for row in rows], np.float64))


@dataclass(frozen=True)
class Trained:
    """The weights that an INT8 file holds, and their normalisation."""

    params: Params
    scaling: Scaling

    def answers(self, x: F32) -> F64:
        scaled = scale.apply(x, self.scaling).astype(np.float64)
        h = forward.step(self.params, scaled, np.zeros((len(x), HIDDEN)))
        return forward.sigmoid(forward.logits(self.params, h))


def train(samples: Samples, seed: int) -> Trained:
    """Train as the daemon does without a version to go on from: two challengers, the better on validation, rounded."""
    settings = resolve("auto", len(samples.y), {})
    n_validation = int(len(samples.y) * settings.validation_split)
    validation, learned = (samples.rows(np.s_[:n_validation]), samples.rows(np.s_[n_validation:]))
    scaling = scale.fit(learned.x)
    config = FastGRNNConfig(samples.x.shape[1], HIDDEN)
    fresh = initialise(config, seed)
    recipes = [Recipe("scratch-calm", fresh, calm(settings, {}), seed), Recipe("scratch", fresh, settings, seed)]
    best = compete(recipes, config, _arrays(learned, scaling), _arrays(validation, scaling), workers=1)[0]
    if best.fit is None:
        raise ArithmeticError(f"retrains: {best.failure}")
    return Trained(dequantize(quantize(best.fit.params)), scaling)


def _arrays(samples: Samples, scaling: Scaling) -> Arrays:
    y = samples.y.astype(np.float32)[:, None]
    return Arrays(scale.apply(samples.x, scaling)[:, None, :], y, np.ones_like(y))


def shuffled(samples: Samples, rng: Rng) -> Samples:
    """The same features with the labels of others."""
    return replace(samples, y=rng.permutation(samples.y))


def accuracy(answers: F64, chances: F64) -> float:
    """Expected accuracy of answers where the chance of label 1 is known."""
    return float(np.mean(np.where(answers >= 0.5, chances, 1.0 - chances)))


def worse_weights(model: Trained, drawn: Drawn, points: float, rng: Rng) -> Callable[[F32], F64]:
    """The same model with noise on its weights, just so much that it decides so many points worse in truth."""
    noise = {
        name: rng.normal(size=getattr(model.params, name).shape) * np.std(getattr(model.params, name))
        for name in WEIGHTS
    }

    def spoilt(amount: float) -> Trained:
        tensors = {one.name: getattr(model.params, one.name) for one in fields(Params)}
        moved = {name: (tensors[name] + amount * noise[name]).astype(np.float32) for name in noise}
        return replace(model, params=dequantize(quantize(Params(**(tensors | moved)))))

    amount = _amount(lambda amount: spoilt(amount).answers(drawn.pool), drawn, points)
    return spoilt(amount).answers


def worse_features(model: Trained, drawn: Drawn, points: float, rng: Rng) -> Callable[[F32], F64]:
    """The same model, fed with noisy features, just so much that it decides so many points worse in truth."""
    spread = drawn.pool.std(axis=0)
    noise = rng.normal(size=drawn.pool.shape).astype(np.float32) * spread

    def fed(amount: float, x: F32, noise: F32) -> F64:
        return model.answers((x + np.float32(amount) * noise).astype(np.float32))

    amount = _amount(lambda amount: fed(amount, drawn.pool, noise), drawn, points)
    return lambda x: fed(amount, x, rng.normal(size=x.shape).astype(np.float32) * spread)


def _amount(answers: Callable[[float], F64], drawn: Drawn, points: float) -> float:
    """Find the amount that costs so much accuracy, by halving."""
    wanted = accuracy(answers(0.0), drawn.chances) - points / 100.0
    low, high = 0.0, 0.05
    while accuracy(answers(high), drawn.chances) > wanted:
        low, high = high, 2.0 * high
        if high > 1e3:
            raise ArithmeticError("retrains: no amount of noise makes it so much worse")
    for _ in range(12):
        middle = (low + high) / 2
        if accuracy(answers(middle), drawn.chances) > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
