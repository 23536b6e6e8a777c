"""A training run against float64, and what each option does to it.

An option's test compares the final weights with a float64 training that has the option, and requires that the training
without it ends far away: it fails when the option is ignored.
"""

from dataclasses import replace

import numpy as np
import pytest
from kernel_run import shuffled_order
from reference import (
    INERT_WITH_ONE_STEP,
    NAMES,
    Objective,
    accuracy,
    drawn_arrays,
    drawn_tensors,
    loss,
    params_of,
    tensors_of,
    trained,
)

from streamtrain.model.params import initialise
from streamtrain.train.fit import epoch_key, fit
from streamtrain.train.presets import TrainingConfig
from streamtrain.types import Arrays, FastGRNNConfig

BASE = TrainingConfig(
    learning_rate=0.01,
    batch_size=32,
    epochs=5,
    early_stopping_patience=None,
    lr_decay=1.0,
    lr_decay_step=100,
    grad_clip=0.0,
    l2_reg=0.0,
    adam_epsilon=1e-6,
)
CONFIG = FastGRNNConfig(5, 16)
SEED = 11


def learnable(n, steps, n_features, seed=0, noise=1.0):
    """Labels from a smooth rule and noise; at later steps, also from the step before."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, steps, n_features)).astype(np.float32)
    rule = x[:, :, 0] - x[:, :, 1] ** 2 + 0.5
    rule[:, 1:] += x[:, :-1, 0]
    y = (rule + noise * rng.normal(size=(n, steps)) > 0).astype(np.float32)
    return Arrays(x, y, np.ones((n, steps), np.float32))


def halves(arrays, n_train):
    def part(chosen):
        teachers = None if arrays.teachers is None else arrays.teachers[chosen]
        return Arrays(arrays.features[chosen], arrays.labels[chosen], arrays.weights[chosen], teachers)

    return part(slice(n_train)), part(slice(n_train, None))


def start_of(config):
    return initialise(config, 4)


def reference_epochs(start, config, training, arrays, seed):
    """Weights after each epoch of the float64 training: same start, same batches, same schedule."""
    n = len(arrays.labels)
    teaching = training.enable_distillation and arrays.teachers is not None
    objective = Objective(
        config.nu, config.zeta, training.distillation_alpha, training.distillation_temperature
    ) if teaching else Objective(config.nu, config.zeta)  # fmt: skip
    if not teaching:
        arrays = Arrays(arrays.features, arrays.labels, arrays.weights)
    epochs = range(training.epochs)
    return trained(
        tensors_of(start),
        arrays,
        objective,
        (shuffled_order(n, epoch_key(seed, epoch)) for epoch in epochs),
        batch_size=training.batch_size,
        rates=[training.learning_rate * training.lr_decay ** (e // training.lr_decay_step) for e in epochs],
        beta1=training.adam_beta1,
        beta2=training.adam_beta2,
        epsilon=training.adam_epsilon,
        l2=training.l2_reg,
        clip=training.grad_clip,
    )


def last(epochs):
    *_, final = epochs
    return final


def distance(made, wanted, start):
    """Largest relative distance of a tensor, in units of how far training moved it."""
    found = 0.0
    for name in NAMES:
        moved = np.linalg.norm(wanted[name] - start[name])
        if moved > 0:
            found = max(found, float(np.linalg.norm(made[name] - wanted[name]) / moved))
    return found


CLOSE, FAR = 2e-3, 2e-2


def assert_option_matters(training, config=CONFIG, arrays=None, base=BASE, base_config=None, base_arrays=None):
    arrays = halves(learnable(300, 1, 5), 200)[0] if arrays is None else arrays
    start = start_of(config)
    made = tensors_of(fit(start, config, training, arrays, None, SEED).params)
    wanted = last(reference_epochs(start, config, training, arrays, SEED))
    ignored = last(
        reference_epochs(
            start, base_config or config, base, arrays if base_arrays is None else base_arrays, SEED
        )
    )  # fmt: skip
    assert distance(made, wanted, tensors_of(start)) < CLOSE
    assert distance(made, ignored, tensors_of(start)) > FAR


@pytest.mark.parametrize(
    "option",
    [
        {"learning_rate": 0.003},
        {"batch_size": 16},
        {"epochs": 3},
        {"lr_decay": 0.3, "lr_decay_step": 2},
        {"grad_clip": 0.02},
        {"l2_reg": 0.05},
        {"adam_beta1": 0.5},
        {"adam_beta2": 0.8},
        {"adam_epsilon": 0.01},
    ],
    ids=lambda option: next(iter(option)),
)
def test_option_has_its_effect(option):
    assert_option_matters(replace(BASE, **option))


def test_decay_step_has_its_effect():
    assert_option_matters(
        replace(BASE, lr_decay=0.3, lr_decay_step=3), base=replace(BASE, lr_decay=0.3, lr_decay_step=2)
    )


@pytest.mark.parametrize("constant", [{"nu": 0.5}, {"zeta": 1.7}], ids=str)
def test_constants_of_the_cell_have_their_effect(constant):
    assert_option_matters(BASE, config=replace(CONFIG, **constant), base_config=CONFIG)


def test_weights_have_their_effect():
    arrays = halves(learnable(300, 1, 5), 200)[0]
    weights = np.random.default_rng(3).choice(np.array([0, 0.2, 5], np.float32), arrays.weights.shape)
    assert_option_matters(BASE, arrays=replace(arrays, weights=weights), base_arrays=arrays)


def taught(seed=5):
    arrays = halves(learnable(300, 1, 5), 200)[0]
    teachers = (3 * np.random.default_rng(seed).normal(size=arrays.labels.shape)).astype(np.float32)
    teachers[::7] = np.nan
    return replace(arrays, teachers=teachers)


DISTILLING = replace(BASE, enable_distillation=True, distillation_alpha=0.7, distillation_temperature=3.0)


def test_distillation_has_its_effect():
    assert_option_matters(DISTILLING, arrays=taught())


@pytest.mark.parametrize("ignored", [{"distillation_alpha": 0.4}, {"distillation_temperature": 1.0}], ids=str)
def test_distillation_constants_have_their_effect(ignored):
    assert_option_matters(DISTILLING, arrays=taught(), base=replace(DISTILLING, **ignored))


def test_teachers_are_ignored_unless_asked_for():
    arrays, start = taught(), start_of(CONFIG)
    with_teachers = fit(start, CONFIG, BASE, arrays, None, SEED)
    without = fit(start, CONFIG, BASE, replace(arrays, teachers=None), None, SEED)
    np.testing.assert_array_equal(with_teachers.params.w_candidate, without.params.w_candidate)


@pytest.mark.parametrize("arrays", [learnable(300, 1, 5), learnable(200, 4, 5)], ids=["one step", "sequences"])
def test_learning_curve_equals_float64(arrays):
    """Final validation loss within 1 % after thirty epochs with every option on, and each row as it says."""
    train, validation = halves(arrays, len(arrays.labels) * 2 // 3)
    steps = arrays.labels.shape[1]
    if steps > 1:
        train.weights[::3, steps // 2 :] = 0.0
    config = replace(CONFIG, nu=0.8, zeta=1.2)
    training = replace(BASE, epochs=30, lr_decay=0.7, lr_decay_step=10, l2_reg=1e-3, grad_clip=1.0)
    made = fit(start_of(config), config, training, train, validation, SEED)
    objective = Objective(0.8, 1.2)
    reference = list(reference_epochs(start_of(config), config, training, train, SEED))
    losses = [loss(tensors, validation, objective) for tensors in reference]
    assert losses[-1] < 0.9 * losses[0], "nothing was learned"
    assert made.epochs[-1].val_loss == pytest.approx(losses[-1], rel=0.01)
    assert made.best_epoch == np.argmin([row.val_loss for row in made.epochs])
    assert min(row.val_loss for row in made.epochs) == pytest.approx(min(losses), rel=0.01)
    for epoch, row in enumerate(made.epochs):
        assert row.epoch == epoch
        assert row.learning_rate == pytest.approx(0.01 * 0.7 ** (epoch // 10))
        assert row.val_loss == pytest.approx(losses[epoch], rel=0.01)
        assert row.val_accuracy == pytest.approx(accuracy(reference[epoch], validation, objective), abs=0.021)
        assert row.train_accuracy == pytest.approx(accuracy(reference[epoch], train, objective), abs=0.021)
    # Training loss is the mean over the epoch's batches, so it lies between its ends' once learning is slow.
    assert made.epochs[-1].train_loss == pytest.approx(loss(reference[-1], train, objective), rel=0.02)


def overfitting():
    """Labels that are pure chance: validation soon gets worse."""
    arrays = drawn_arrays(np.random.default_rng(8), 160, 1, 5)
    return halves(arrays, 100)


def test_early_stopping_stops_early_and_restores_the_best_weights():
    train, validation = overfitting()
    training = replace(BASE, learning_rate=0.03, epochs=60, early_stopping_patience=4)
    made = fit(start_of(CONFIG), CONFIG, training, train, validation, SEED)
    losses = [row.val_loss for row in made.epochs]
    assert made.stopped == "early"
    assert len(losses) == made.best_epoch + 1 + 4 < 60
    assert made.best_epoch == np.argmin(losses)
    restored = loss(tensors_of(made.params), validation, Objective())
    assert restored == pytest.approx(losses[made.best_epoch], rel=1e-5)
    assert losses[-1] > 1.005 * restored, "the last weights are no worse: this would not show a missing restore"


def test_patience_counts_epochs_without_an_improvement():
    train, validation = overfitting()
    lengths = {}
    for patience in (1, 4, 9, None):
        training = replace(BASE, learning_rate=0.03, epochs=40, early_stopping_patience=patience)
        lengths[patience] = fit(start_of(CONFIG), CONFIG, training, train, validation, SEED)
    losses = [row.val_loss for row in lengths[None].epochs]
    assert (lengths[None].stopped, len(losses)) == ("finished", 40)
    assert lengths[None].best_epoch == np.argmin(losses), "without patience the best weights are restored too"
    for patience in (1, 4, 9):
        best, wanted = 0, None
        for epoch, value in enumerate(losses):
            best = epoch if value < losses[best] else best
            if epoch - best >= patience:
                wanted = epoch + 1
                break
        assert len(lengths[patience].epochs) == wanted


def test_without_validation_the_last_weights_are_kept():
    train, validation = overfitting()
    start = start_of(CONFIG)
    nothing = halves(validation, 0)[0]
    for empty in (None, nothing):
        training = replace(BASE, early_stopping_patience=1)
        made = fit(start, CONFIG, training, train, empty, SEED)
        assert (made.stopped, made.best_epoch, len(made.epochs)) == ("finished", 4, 5)
        assert all(np.isnan(row.val_loss) and np.isnan(row.val_accuracy) for row in made.epochs)
        wanted = last(reference_epochs(start, CONFIG, training, train, SEED))
        assert distance(tensors_of(made.params), wanted, tensors_of(start)) < CLOSE


def test_a_run_can_be_stopped_between_epochs():
    train, validation = halves(learnable(300, 1, 5), 200)
    seen = []
    made = fit(
        start_of(CONFIG), CONFIG, BASE, train, validation, SEED, lambda: len(seen) == 2, seen.append
    )  # fmt: skip
    assert made.stopped == "interrupted"
    assert list(made.epochs) == seen
    assert [row.epoch for row in seen] == [0, 1]
    at_once = fit(start_of(CONFIG), CONFIG, BASE, train, validation, SEED, lambda: True)
    assert (at_once.epochs, at_once.best_epoch) == ((), -1)
    for name, tensor in tensors_of(start_of(CONFIG)).items():
        np.testing.assert_array_equal(tensors_of(at_once.params)[name], tensor)


def test_one_step_leaves_the_inert_tensors_alone():
    train, _ = halves(learnable(300, 1, 5), 200)
    start = params_of(drawn_tensors(np.random.default_rng(0), 5, 16))
    made = fit(start, CONFIG, replace(BASE, l2_reg=0.1), train, None, SEED)
    for name in INERT_WITH_ONE_STEP:
        np.testing.assert_array_equal(getattr(made.params, name), getattr(start, name))
    assert (made.params.w_update != start.w_update).all()


@pytest.mark.parametrize("steps", [1, 3])
def test_rank_is_the_rank_of_the_result(steps):
    arrays = drawn_arrays(np.random.default_rng(0), 39, steps, 17)
    config, training = FastGRNNConfig(17, 19, rank=4), replace(BASE, batch_size=13, epochs=4)
    start = start_of(config)
    made = fit(start, config, training, arrays, None, SEED).params
    factored = ["w_update", "w_candidate"] + (["w_reset", "w_recurrent"] if steps > 1 else [])
    for name in factored:
        assert np.linalg.matrix_rank(getattr(start, name)) > 4
        singular = np.linalg.svd(getattr(made, name).astype(np.float64), compute_uv=False)
        assert singular[4] < 1e-5 * singular[0], name
        assert singular[3] > 1e-3 * singular[0], name
    # What was trained is what comes back: its loss is that of the last weights, and lower than the first.
    first = fit(start, config, replace(training, epochs=1), arrays, None, SEED)
    assert loss(tensors_of(made), arrays, Objective()) < first.epochs[0].train_loss


def test_sequences_learn_what_single_steps_cannot():
    """The label is the sign of the feature one step before."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(900, 4, 5)).astype(np.float32)
    y = np.zeros((900, 4), np.float32)
    y[:, 1:] = x[:, :-1, 0] > 0
    w = np.ones((900, 4), np.float32)
    w[:, 0] = 0.0
    training = replace(BASE, learning_rate=0.02, epochs=30)
    best = {}
    for steps in (4, 1):
        arrays = Arrays(x.reshape(-1, steps, 5), y.reshape(-1, steps), w.reshape(-1, steps))
        train, validation = halves(arrays, len(arrays.labels) * 2 // 3)
        made = fit(start_of(CONFIG), CONFIG, training, train, validation, SEED)
        best[steps] = max(row.val_accuracy for row in made.epochs)
    assert best[4] > 0.95
    assert best[1] < 0.6


def test_inputs_are_left_as_they_were_and_may_be_read_only():
    train, validation = halves(learnable(300, 1, 5), 200)
    start = start_of(CONFIG)
    for array in (*tensors_of(start).values(), train.features, train.labels, train.weights, validation.features):
        array.flags.writeable = False
    fit(start, CONFIG, BASE, train, validation, SEED)
