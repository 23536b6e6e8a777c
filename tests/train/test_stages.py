"""Pruning that lasts, and weights that get used to being rounded."""

from dataclasses import replace

import numpy as np
import pytest
from reference import NAMES, WEIGHTS, Objective, drawn_arrays, drawn_tensors, loss, params_of, tensors_of

from streamtrain.model.params import initialise
from streamtrain.model.prune import sparsity
from streamtrain.model.quantize import dequantize, quantize
from streamtrain.train.presets import TrainingConfig
from streamtrain.train.stages import nonzero, train
from streamtrain.types import Arrays, FastGRNNConfig

CONFIG = FastGRNNConfig(5, 16)
BASE = TrainingConfig(learning_rate=0.01, batch_size=32, epochs=10, early_stopping_patience=None, l2_reg=1e-3)


def splits(seed=0, n=300):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 1, 5)).astype(np.float32)
    y = (x[:, :, 0] - x[:, :, 1] ** 2 + 0.5 + rng.normal(size=(n, 1)) > 0).astype(np.float32)
    w = np.ones((n, 1), np.float32)
    cut = n * 2 // 3
    return Arrays(x[:cut], y[:cut], w[:cut]), Arrays(x[cut:], y[cut:], w[cut:])


def zeros_of(params):
    return {name: getattr(params, name) == 0 for name in WEIGHTS}


def shares_of(params):
    return {name: int(zeros.sum()) for name, zeros in zeros_of(params).items()}


def share_of_each(params, share):
    return {name: int(share * getattr(params, name).size + 1e-9) for name in WEIGHTS}


# 0.3 of a matrix of 256 or 16 weights is no whole number.
@pytest.mark.parametrize("share", [0.25, 0.3, 0.8])
@pytest.mark.parametrize("validated", [True, False])
def test_pruning_reaches_its_share_and_settles(share, validated):
    data, validation = splits()
    held_out = validation if validated else None
    dense = train(initialise(CONFIG, 0), CONFIG, BASE, data, held_out, 1)
    made = train(initialise(CONFIG, 0), CONFIG, replace(BASE, prune=share), data, held_out, 1)
    assert sparsity(dense.params) == 0
    assert shares_of(made.params) == share_of_each(made.params, share)
    assert [row.epoch for row in made.epochs] == list(range(13)), "3 of 10 epochs to settle"
    assert [row.train_loss for row in made.epochs[:10]] == [row.train_loss for row in dense.epochs]
    assert made.best_epoch >= 10
    kept = {name: ~zeros for name, zeros in zeros_of(made.params).items()}
    # The smallest went, and the rest learned on without them.
    for name in ("w_update", "w_candidate", "w_output"):
        assert (getattr(made.params, name) != getattr(dense.params, name))[kept[name]].all(), name
    if not validated:
        for name, gone in zeros_of(made.params).items():
            magnitudes = np.abs(getattr(dense.params, name))
            assert magnitudes[gone].max() < magnitudes[~gone].min(), name


def test_rows_of_later_stages_are_numbered_on():
    data, validation = splits()
    rows = []
    training = replace(BASE, prune=0.5, quantization_aware_epochs=2)
    made = train(initialise(CONFIG, 0), CONFIG, training, data, validation, 1, on_epoch=rows.append)
    assert [row.epoch for row in rows] == list(range(10 + 3 + 2))
    assert list(made.epochs) == rows
    assert {round(row.learning_rate, 12) for row in rows[13:]} == {0.001}, "a tenth of the rate for the finer steps"


@pytest.mark.parametrize("share", [0.25, 0.3, 0.8])
def test_the_mask_survives_later_training(share):
    """Fine-tuning of a pruned model: the same weights stay zero, the others move, and none is pruned anew."""
    training = replace(BASE, prune=share)
    first = train(initialise(CONFIG, 0), CONFIG, training, *splits(), 1)
    second = train(first.params, CONFIG, training, *splits(seed=1), 2)
    assert len(second.epochs) == 10, "no second pruning, no second settling"
    before, after = zeros_of(first.params), zeros_of(second.params)
    for name in WEIGHTS:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
    moved = second.params.w_update != first.params.w_update
    np.testing.assert_array_equal(moved, ~before["w_update"])


def test_the_mask_survives_training_through_time():
    training = replace(BASE, prune=0.4)
    rng = np.random.default_rng(0)
    data, validation = drawn_arrays(rng, 64, 4, 5), drawn_arrays(rng, 32, 4, 5)
    first = train(initialise(CONFIG, 0), CONFIG, training, data, validation, 1)
    second = train(first.params, CONFIG, training, data, validation, 2)
    assert zeros_of(first.params)["w_recurrent"].any()
    for name in WEIGHTS:
        np.testing.assert_array_equal(zeros_of(first.params)[name], zeros_of(second.params)[name], err_msg=name)


def test_a_higher_share_prunes_further():
    first = train(initialise(CONFIG, 0), CONFIG, replace(BASE, prune=0.3), *splits(), 1)
    second = train(first.params, CONFIG, replace(BASE, prune=0.6), *splits(), 2)
    assert shares_of(second.params) == share_of_each(second.params, 0.6)


def test_without_pruning_zeros_come_back():
    """What holds a weight at zero is the option, not the zero."""
    first = train(initialise(CONFIG, 0), CONFIG, replace(BASE, prune=0.8), *splits(), 1)
    second = train(first.params, CONFIG, BASE, *splits(), 2)
    assert sparsity(second.params) < 0.7
    assert not zeros_of(second.params)["w_update"].any()


def test_nonzero():
    tensors = drawn_tensors(np.random.default_rng(0), 5, 16)
    tensors["w_candidate"][3] = 0.0
    tensors["b_candidate"][:] = 0.0
    ones = nonzero(params_of(tensors))
    assert ones.w_candidate.sum() == 75
    assert ones.b_candidate.all(), "biases are never masked"
    assert ones.w_output.all()


def coarse():
    """A feature that is always zero holds a huge weight: it sets the scale, and the others are rounded coarsely."""
    data, validation = splits(n=900)
    for arrays in (data, validation):
        arrays.features[:, :, 4] = 0.0
    tensors = tensors_of(initialise(CONFIG, 0))
    tensors["w_candidate"][:, 4] = tensors["w_update"][:, 4] = 60.0
    return params_of(tensors), data, validation


def int8_loss(params, arrays):
    return loss(tensors_of(dequantize(quantize(params))), arrays, Objective())


def test_quantization_aware_epochs_help_the_weights_that_are_served():
    start, data, validation = coarse()
    training = replace(BASE, l2_reg=0.0, epochs=30)
    harm = gain = 0.0
    for seed in (1, 2, 3):
        plain = train(start, CONFIG, training, data, validation, seed)
        aware = train(start, CONFIG, replace(training, quantization_aware_epochs=20), data, validation, seed)
        rounded = int8_loss(plain.params, validation)
        harm += rounded - loss(tensors_of(plain.params), validation, Objective())
        gain += rounded - int8_loss(aware.params, validation)
        assert len(aware.epochs) == len(plain.epochs) + 20
        assert aware.best_epoch >= 30
        # Validation in those epochs is of the rounded weights.
        assert aware.epochs[aware.best_epoch].val_loss == pytest.approx(int8_loss(aware.params, validation), rel=1e-4)
    assert harm > 0.02, "rounding costs nothing here: the option would have nothing to do"
    assert gain > 0.5 * harm


def test_quantization_aware_epochs_that_do_harm_are_dropped():
    """Validation labels are the opposite of what is taught: every further step makes it worse."""
    data, validation = splits()
    opposite = replace(validation, labels=1 - validation.labels)
    plain = train(initialise(CONFIG, 0), CONFIG, BASE, data, opposite, 1)
    aware = train(initialise(CONFIG, 0), CONFIG, replace(BASE, quantization_aware_epochs=4), data, opposite, 1)
    assert plain.best_epoch == aware.best_epoch == 0
    assert len(aware.epochs) == 14
    for name in NAMES:
        np.testing.assert_array_equal(getattr(aware.params, name), getattr(plain.params, name))


def test_pruned_weights_stay_zero_in_quantization_aware_epochs():
    start, data, validation = coarse()
    training = replace(BASE, l2_reg=0.0, prune=0.5, quantization_aware_epochs=10)
    without = train(start, CONFIG, replace(training, quantization_aware_epochs=0), data, validation, 1)
    made = train(start, CONFIG, training, data, validation, 1)
    assert made.best_epoch >= 13, "the epochs were dropped: this would show nothing"
    assert (made.params.w_output != without.params.w_output).any()
    for name in WEIGHTS:
        np.testing.assert_array_equal(zeros_of(made.params)[name], zeros_of(without.params)[name], err_msg=name)
