"""Trainings side by side, and the same bits again."""

from dataclasses import replace
from threading import get_ident

import numpy as np
import pytest
from reference import NAMES, drawn_arrays

from streamtrain.kernels.epoch import scoring_kernel, training_kernel
from streamtrain.model.params import initialise
from streamtrain.train.challengers import CALM_L2, Recipe, calm, compete
from streamtrain.train.fit import fit
from streamtrain.train.presets import TrainingConfig
from streamtrain.train.stages import train
from streamtrain.types import Arrays, FastGRNNConfig

CONFIG = FastGRNNConfig(5, 16)
TRAINING = TrainingConfig(learning_rate=0.01, epochs=8, quantization_aware_epochs=2)


def splits():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1_500, 1, 5)).astype(np.float32)
    y = (x[:, :, 0] - x[:, :, 1] + rng.normal(size=(1_500, 1)) > 0).astype(np.float32)
    w = np.ones_like(y)
    return Arrays(x[:1_000], y[:1_000], w[:1_000]), Arrays(x[1_000:], y[1_000:], w[1_000:])


def recipes():
    pruned = replace(TRAINING, prune=0.3)
    slow = replace(TRAINING, learning_rate=1e-5)
    return [
        Recipe("slow", initialise(CONFIG, 3), slow, 5),
        Recipe("pruned", initialise(CONFIG, 1), pruned, 6),
        Recipe("fast", initialise(CONFIG, 2), TRAINING, 7),
        Recipe("twin", initialise(CONFIG, 2), TRAINING, 7),
    ]


def assert_same(first, second):
    for name in NAMES:
        np.testing.assert_array_equal(getattr(first.params, name), getattr(second.params, name), err_msg=name)
    assert first.epochs == second.epochs
    assert first.best_epoch == second.best_epoch


def test_the_same_seed_gives_the_same_bits():
    data = splits()
    first, again = (train(initialise(CONFIG, 1), CONFIG, TRAINING, *data, 4) for _ in range(2))
    assert_same(first, again)


def test_another_seed_gives_other_weights():
    data = splits()
    first, other = (fit(initialise(CONFIG, 1), CONFIG, TRAINING, *data, seed) for seed in (4, 5))
    assert (first.params.w_candidate != other.params.w_candidate).all()


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_side_by_side_equals_alone(workers):
    data, threads = splits(), set()
    ranked = compete(
        recipes(), CONFIG, *data, workers=workers, on_epoch=lambda name, metrics: threads.add(get_ident())
    )  # fmt: skip
    assert len(threads) <= workers
    for challenger in ranked:
        recipe = challenger.recipe
        alone = train(recipe.start, CONFIG, recipe.training, *data, recipe.seed)
        assert_same(challenger.fit, alone)
        assert challenger.validation_loss == alone.epochs[alone.best_epoch].val_loss


def test_a_recipe_may_leave_the_first_rows_out():
    data = splits()
    (one,) = compete([Recipe("recent", initialise(CONFIG, 1), TRAINING, 3, first_row=600)], CONFIG, *data)
    later = Arrays(data[0].features[600:], data[0].labels[600:], data[0].weights[600:])
    assert_same(one.fit, train(initialise(CONFIG, 1), CONFIG, TRAINING, later, data[1], 3))


def test_sequences_side_by_side_equal_alone():
    rng = np.random.default_rng(1)
    data = drawn_arrays(rng, 320, 4, 5), drawn_arrays(rng, 96, 4, 5)
    training = TrainingConfig(epochs=5)
    entries = [Recipe(str(i), initialise(CONFIG, i), training, i) for i in range(4)]
    for challenger in compete(entries, CONFIG, *data, workers=4):
        recipe = challenger.recipe
        assert_same(challenger.fit, train(recipe.start, CONFIG, training, *data, recipe.seed))


def test_the_best_on_validation_comes_first_and_ties_keep_their_order():
    ranked = compete(recipes(), CONFIG, *splits())
    losses = [challenger.validation_loss for challenger in ranked]
    assert losses == sorted(losses)
    names = [challenger.recipe.name for challenger in ranked]
    assert names[-1] == "slow"
    assert names.index("twin") == names.index("fast") + 1


def test_without_validation_the_order_is_that_of_the_recipes():
    ranked = compete(recipes(), CONFIG, splits()[0], None)
    assert [challenger.recipe.name for challenger in ranked] == ["slow", "pruned", "fast", "twin"]


def test_epochs_are_reported_by_name_and_stopping_reaches_everyone():
    seen = []
    ranked = compete(
        recipes()[1:3], CONFIG, *splits(), lambda: len(seen) >= 2, lambda name, row: seen.append((name, row.epoch)), 1
    )  # fmt: skip
    assert seen == [("pruned", 0), ("pruned", 1)]
    stopped = {challenger.recipe.name: challenger.fit.stopped for challenger in ranked}
    assert stopped == {"pruned": "interrupted", "fast": "interrupted"}


def test_one_signature_serves_every_training():
    """After all of the above kinds of run, nothing has been compiled twice."""
    compete(recipes(), CONFIG, *splits())
    for kernel in (training_kernel(5, 16, 1, 32, False, 0), scoring_kernel(5, 16, 1)):
        assert len(kernel.nopython_signatures) == 1


def test_calm_is_slower_and_more_regular_but_leaves_what_is_set():
    training = TrainingConfig(learning_rate=0.01, l2_reg=1e-5)
    made = calm(training, {})
    assert made == replace(training, learning_rate=pytest.approx(0.002), l2_reg=CALM_L2)
    assert calm(training, {"learning_rate": 0.01}).learning_rate == 0.01
    assert calm(training, {"l2_reg": 1e-5}).l2_reg == 1e-5
    assert calm(replace(training, l2_reg=0.1), {}).l2_reg == 0.1
