"""A diverged run is noticed, begun again at half the rate, and in the end given up; NaN never gets out."""

from dataclasses import replace

import numpy as np
import pytest
from reference import NAMES, drawn_arrays

from streamtrain import FastGRNN, FastGRNNConfig, Trainer, TrainingConfig, TrainingDataset
from streamtrain.model.params import initialise
from streamtrain.train.challengers import Recipe, compete
from streamtrain.train.fit import TrainingDivergedError, fit

CONFIG = FastGRNNConfig(5, 16)
# Adam's first step is rate / (1 - β₁): with this β₁ it overflows float32 from a rate of 3.4e35 on.
STEEP = TrainingConfig(batch_size=32, epochs=1, adam_beta1=0.999, grad_clip=0.0, l2_reg=0.0)
OVERFLOWS_FROM = 3.4e35


def one_batch(seed=0):
    rng = np.random.default_rng(seed)
    train, validation = drawn_arrays(rng, 32, 1, 5), drawn_arrays(rng, 40, 1, 5)
    for arrays in (train, validation):
        arrays.features[:] *= np.float32(0.01)
    return train, validation


def assert_finite(params):
    for name in NAMES:
        assert np.isfinite(getattr(params, name)).all(), name


@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.parametrize("restarts", [0, 1, 2])
def test_learning_rate_is_halved_until_it_holds(validated, restarts):
    train, validation = one_batch()
    start, rate = initialise(CONFIG, 0), 0.8 * OVERFLOWS_FROM
    held_out = validation if validated else None
    asked = replace(STEEP, learning_rate=rate * 2**restarts)
    made = fit(start, CONFIG, asked, train, held_out, 1)
    assert made.restarts == restarts
    assert_finite(made.params)
    assert [row.learning_rate for row in made.epochs] == [rate]
    # As if the lower rate had been asked for: nothing is left of the attempts before.
    calm = fit(start, CONFIG, replace(STEEP, learning_rate=rate), train, held_out, 1)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(made.params, name), getattr(calm.params, name))


@pytest.mark.parametrize("validated", [True, False])
def test_a_rate_that_never_holds_is_given_up(validated):
    train, validation = one_batch()
    asked = replace(STEEP, learning_rate=0.8 * OVERFLOWS_FROM * 8)
    with pytest.raises(TrainingDivergedError, match=r"3 times.*learning_rate") as raised:
        fit(initialise(CONFIG, 0), CONFIG, asked, train, validation if validated else None, 1)
    assert f"{asked.learning_rate / 4:g}" in str(raised.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("validated", [True, False])
def test_impossible_features_are_noticed(bad, validated):
    rng = np.random.default_rng(0)
    train, validation = drawn_arrays(rng, 100, 1, 5), drawn_arrays(rng, 40, 1, 5)
    train.features[57] = bad
    rows, training = [], TrainingConfig(epochs=3)
    with pytest.raises(TrainingDivergedError):
        fit(initialise(CONFIG, 0), CONFIG, training, train, validation if validated else None, 1, on_epoch=rows.append)
    assert rows == []


def test_impossible_validation_features_are_noticed():
    rng = np.random.default_rng(0)
    train, validation = drawn_arrays(rng, 100, 1, 5), drawn_arrays(rng, 40, 1, 5)
    validation.features[5] = np.nan
    with pytest.raises(TrainingDivergedError):
        fit(initialise(CONFIG, 0), CONFIG, TrainingConfig(epochs=3), train, validation, 1)


def test_a_run_that_diverges_late_goes_on_from_its_best_weights_at_half_the_rate():
    """The third epoch meets an infinite feature, which is gone when it is begun again."""
    train, validation = one_batch()
    sound = train.features[0, 0, 0]
    asked = TrainingConfig(learning_rate=0.01, epochs=4, early_stopping_patience=None)
    rows, calls = [], []

    def meddle():
        calls.append(len(rows))
        train.features[0, 0, 0] = np.inf if calls == [0, 1, 2] else sound
        return False

    made = fit(initialise(CONFIG, 0), CONFIG, asked, train, validation, 1, meddle, rows.append)
    assert calls == [0, 1, 2, 2, 3]
    assert made.restarts == 1
    assert_finite(made.params)
    assert [row.epoch for row in rows] == [0, 1, 2, 3]
    assert list(made.epochs) == rows
    assert [row.learning_rate for row in rows] == [0.01, 0.01, 0.005, 0.005]
    # From the weights of the first two epochs, not from the start: the loss has no step back.
    assert rows[2].train_loss < rows[0].train_loss


def test_a_diverged_trainer_leaves_the_model_as_it_was():
    rng = np.random.default_rng(0)
    dataset = TrainingDataset(rng.uniform(-3e38, 3e38, (100, 5)), rng.random(100) < 0.5)
    model = FastGRNN(CONFIG)
    before = model.params
    with pytest.raises(TrainingDivergedError):
        Trainer(CONFIG, TrainingConfig(epochs=3)).train(model, dataset)
    assert model.params is before


def test_a_diverged_challenger_comes_last_and_says_why():
    train, validation = one_batch()
    steep = Recipe("steep", initialise(CONFIG, 0), replace(STEEP, learning_rate=1e37), 1)
    sound = Recipe("sound", initialise(CONFIG, 0), TrainingConfig(epochs=2), 1)
    first, second = compete([steep, sound], CONFIG, train, validation)
    assert (first.recipe.name, second.recipe.name) == ("sound", "steep")
    assert first.failure is None
    assert second.fit is None
    assert second.validation_loss == np.inf
    assert "learning rate" in second.failure
