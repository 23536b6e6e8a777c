"""The gate against versions that the kernels trained: on fresh draws, and spoilt by what costs two points.

`make bench-judgement` counts the same in a thousand trials and more worlds.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from streamtrain.dataset import scale
from streamtrain.judge.evidence import Evidence, GateRules
from streamtrain.judge.gate import judge
from streamtrain.model import forward
from streamtrain.model.params import initialise
from streamtrain.model.quantize import dequantize, quantize
from streamtrain.train.challengers import Recipe, calm, compete
from streamtrain.train.presets import resolve
from streamtrain.types import F32, F64, Arrays, FastGRNNConfig, Params, Scaling

N_TRAIN, N_HOLDOUT, N_TRIALS, HIDDEN = 2000, 5000, 24, 8
SLOPES = 0.8 * np.array([1.0, -0.8, 0.6, 0.5, 0.4, -0.3, 0.2, 0.0])


def draw(rng: np.random.Generator, n: int) -> tuple[F32, F64, F64]:
    """Features, chances of label 1, and labels of a world where little can be foreseen."""
    x = rng.normal(size=(n, len(SLOPES))).astype(np.float32)
    chances = 1 / (1 + np.exp(-(x @ SLOPES + 0.5 * x[:, 0] * x[:, 1] + 0.7)))
    return x, chances, (rng.random(n) < chances).astype(np.float64)


class Version:
    def __init__(self, params: Params, scaling: Scaling) -> None:
        self.params, self.scaling = dequantize(quantize(params)), scaling

    def __call__(self, x: F32) -> F64:
        h = forward.step(self.params, scale.apply(x, self.scaling).astype(np.float64), np.zeros((len(x), HIDDEN)))
        return forward.sigmoid(forward.logits(self.params, h)).astype(np.float64)


def trained(seed: int) -> Version:
    x, _, y = draw(np.random.default_rng([31, seed]), N_TRAIN)
    settings = calm(resolve("auto", N_TRAIN, {}), {})
    cut = int(N_TRAIN * settings.validation_split)
    scaling = scale.fit(x[cut:])

    def arrays(rows: slice) -> Arrays:
        labels = y[rows].astype(np.float32)[:, None]
        return Arrays(scale.apply(x[rows], scaling)[:, None, :], labels, np.ones_like(labels))

    config = FastGRNNConfig(x.shape[1], HIDDEN)
    recipe = Recipe("scratch-calm", initialise(config, seed), settings, seed)
    best = compete([recipe], config, arrays(slice(cut, None)), arrays(slice(cut)), workers=1)[0]
    assert best.fit is not None
    return Version(best.fit.params, scaling)


@cache
def versions() -> list[Version]:
    return [trained(seed) for seed in range(N_TRIALS + 1)]


def published(x: F32, y: F64, new: F64, old: F64, versus: str) -> bool:
    evidence = Evidence(y, new, 0.6, (N_TRAIN // 2, N_TRAIN // 2), current=old, features=x)
    return judge(evidence, GateRules(min_accuracy=0, versus_current=versus)).outcome == "published"


def test_retrained_on_fresh_draws() -> None:
    passed = {"better": 0, "not_worse": 0}
    for trial in range(N_TRIALS):
        x, _, y = draw(np.random.default_rng([32, trial]), N_HOLDOUT)
        old, new = (version(x) for version in versions()[trial : trial + 2])
        for versus in passed:
            passed[versus] += published(x, y, new, old, versus)
    assert passed["better"] <= 1
    assert passed["not_worse"] >= 0.75 * N_TRIALS


def noisy(version: Version, rng: np.random.Generator, points: float) -> float:
    """How much noise on its features costs a version so many points of accuracy in truth."""
    x, chances, _ = draw(rng, 12_000)
    noise = rng.normal(size=x.shape).astype(np.float32)

    def accuracy(amount: float) -> float:
        return float(np.where(version(x + np.float32(amount) * noise) >= 0.5, chances, 1 - chances).mean())

    low, high, wanted = 0.0, 2.0, accuracy(0.0) - points / 100
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if accuracy(middle) > wanted else (low, middle)
    return (low + high) / 2


def test_two_points_worse_and_two_points_better() -> None:
    worse_passed, better_passed = 0, 0
    for trial in range(N_TRIALS):
        rng = np.random.default_rng([33, trial])
        version = versions()[trial]
        amount = noisy(version, rng, 2.0)
        x, _, y = draw(rng, N_HOLDOUT)
        good = version(x)
        bad = version(x + np.float32(amount) * rng.normal(size=x.shape).astype(np.float32))
        worse_passed += published(x, y, bad, good, "not_worse")
        better_passed += published(x, y, good, bad, "better")
    assert worse_passed <= 1
    assert better_passed >= 0.85 * N_TRIALS
