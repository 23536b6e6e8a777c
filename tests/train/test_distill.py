"""Teachers and their logits."""

from dataclasses import replace

import numpy as np
import pytest
from reference import NAMES, Objective, drawn_arrays, drawn_tensors, logits, params_of

from streamtrain.model.params import initialise
from streamtrain.train.distill import taught, train_teacher
from streamtrain.train.fit import fit
from streamtrain.train.presets import TrainingConfig
from streamtrain.types import FastGRNNConfig

# A shape that other tests compile too.
CONFIG = FastGRNNConfig(17, 33, nu=0.8, zeta=1.2)
TRAINING = TrainingConfig(learning_rate=0.01, batch_size=13, epochs=4, early_stopping_patience=None)


@pytest.mark.parametrize("steps", [1, 3])
def test_arrays_are_given_the_teachers_logits(steps):
    rng = np.random.default_rng(steps)
    arrays, tensors = drawn_arrays(rng, 30, steps, 17), drawn_tensors(rng, 17, 33)
    made = taught(arrays, params_of(tensors), CONFIG)
    wanted = logits(tensors, arrays.features.astype(np.float64), Objective(0.8, 1.2))
    assert made.teachers.dtype == np.float32
    np.testing.assert_allclose(made.teachers, wanted, atol=1e-5)
    assert made.features is arrays.features
    assert arrays.teachers is None


def test_a_teacher_may_see_other_features_than_its_student():
    rng = np.random.default_rng(0)
    arrays, raw, tensors = drawn_arrays(rng, 30, 1, 5), drawn_arrays(rng, 30, 1, 17), drawn_tensors(rng, 17, 33)
    made = taught(arrays, params_of(tensors), CONFIG, raw.features)
    np.testing.assert_array_equal(made.teachers, taught(raw, params_of(tensors), CONFIG).teachers)
    assert made.features is arrays.features


def test_a_teacher_of_another_width_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="17 features, the data has 5"):
        taught(drawn_arrays(rng, 30, 1, 5), params_of(drawn_tensors(rng, 17, 33)), CONFIG)


def test_a_trained_teacher_learns_from_labels_alone():
    rng = np.random.default_rng(0)
    train, validation = drawn_arrays(rng, 60, 1, 17, taught=True), drawn_arrays(rng, 30, 1, 17)
    students = replace(
        TRAINING, enable_distillation=True, distillation_alpha=1.0, prune=0.5, quantization_aware_epochs=3
    )
    made = train_teacher(CONFIG, students, train, validation, 7)
    plain = fit(initialise(CONFIG, 7), CONFIG, TRAINING, replace(train, teachers=None), validation, 7).params
    for name in NAMES:
        np.testing.assert_array_equal(getattr(made, name), getattr(plain, name), err_msg=name)


def test_a_trained_teacher_can_be_stopped():
    rng = np.random.default_rng(0)
    made = train_teacher(CONFIG, TRAINING, drawn_arrays(rng, 60, 1, 17), None, 7, lambda: True)
    np.testing.assert_array_equal(made.w_candidate, initialise(CONFIG, 7).w_candidate)
