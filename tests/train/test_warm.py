"""After warming up, a training compiles nothing."""

from dataclasses import replace

import numpy as np
import pytest
from reference import drawn_arrays

from streamtrain.kernels.epoch import scoring_kernel, training_kernel
from streamtrain.model.params import initialise
from streamtrain.train.challengers import Recipe, compete
from streamtrain.train.fit import logits
from streamtrain.train.presets import TrainingConfig
from streamtrain.train.warm import Shape, warm
from streamtrain.types import FastGRNNConfig

CONFIG = FastGRNNConfig(5, 16)


# Shapes that other tests compile too.
@pytest.mark.parametrize(
    ("config", "steps", "batch_size", "distilled"),
    [
        (CONFIG, 1, 32, False),
        (CONFIG, 1, 32, True),
        (CONFIG, 4, 32, False),
        (FastGRNNConfig(17, 19, rank=4), 1, 13, False),
        (FastGRNNConfig(5, 16, rank=8), 1, 32, False),
    ],
    ids=str,
)
def test_a_training_with_every_stage_uses_the_warm_kernels(config, steps, batch_size, distilled):
    assert warm([Shape(config, steps, batch_size, distilled)]) == 2
    before = [kernel.cache_info().misses for kernel in (training_kernel, scoring_kernel)]
    rng = np.random.default_rng(0)
    train = drawn_arrays(rng, 70, steps, config.input_dim, weighted=True, taught=distilled)
    validation = drawn_arrays(rng, 40, steps, config.input_dim)
    training = TrainingConfig(
        batch_size=batch_size, epochs=2, enable_distillation=distilled, prune=0.3, quantization_aware_epochs=2
    )
    recipes = [
        Recipe(str(i), initialise(config, i), replace(training, learning_rate=0.01 / (1 + i)), i) for i in range(3)
    ]
    for challenger in compete(recipes, config, train, validation):
        logits(challenger.fit.params, config, validation.features)
    assert [kernel.cache_info().misses for kernel in (training_kernel, scoring_kernel)] == before
    rank = config.rank or 0
    kernel = training_kernel(config.input_dim, config.hidden_dim, steps, batch_size, distilled, rank)
    assert len(kernel.nopython_signatures) == 1


def test_kernels_are_counted_once():
    shape = Shape(CONFIG, 1, 32, False)
    assert warm([shape, shape, Shape(CONFIG, 1, 32, True)]) == 3
    assert warm([]) == 0
