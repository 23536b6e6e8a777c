"""The guide's defaults and its recommended settings."""

from dataclasses import asdict, replace

import pytest

from streamtrain.train.presets import PRESETS, TrainingConfig, check, preset_for, resolve

# The guide's `Default` of TrainingConfig.
DEFAULTS = {
    "learning_rate": 0.001,
    "batch_size": 32,
    "epochs": 100,
    "validation_split": 0.2,
    "early_stopping_patience": 10,
    "lr_decay": 0.5,
    "lr_decay_step": 20,
    "grad_clip": 5.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "l2_reg": 1e-5,
    "enable_distillation": False,
    "distillation_temperature": 3.0,
    "distillation_alpha": 0.5,
}
# Its "Recommended Settings"; what is not named there is the default.
RECOMMENDED = {
    "small": {
        "learning_rate": 0.01, "batch_size": 16, "epochs": 100, "validation_split": 0.2, "early_stopping_patience": 10,
        "lr_decay": 0.8, "lr_decay_step": 20, "l2_reg": 1e-4,
    },
    "medium": {
        "learning_rate": 0.005, "batch_size": 32, "epochs": 50, "validation_split": 0.15, "early_stopping_patience": 5,
        "lr_decay": 0.7, "lr_decay_step": 10, "l2_reg": 1e-5,
    },
    "large": {
        "learning_rate": 0.001, "batch_size": 64, "epochs": 30, "validation_split": 0.1, "early_stopping_patience": 3,
        "lr_decay": 0.5, "lr_decay_step": 5, "l2_reg": 1e-6,
    },
}  # fmt: skip


def test_defaults_are_the_guides():
    made = asdict(TrainingConfig())
    assert {name: made[name] for name in DEFAULTS} == DEFAULTS
    assert made["prune"] == 0.0
    assert made["quantization_aware_epochs"] == 0


@pytest.mark.parametrize("name", RECOMMENDED)
def test_presets_are_the_guides(name):
    made = asdict(PRESETS[name])
    assert {key: made[key] for key in DEFAULTS} == DEFAULTS | RECOMMENDED[name]
    assert set(PRESETS) == set(RECOMMENDED)


@pytest.mark.parametrize(
    ("n_samples", "name"),
    [(1, "small"), (999, "small"), (1_000, "medium"), (10_000, "medium"), (10_001, "large"), (10**7, "large")],
)
def test_size_decides(n_samples, name):
    assert preset_for(n_samples) == name
    assert resolve("auto", n_samples, {}) == PRESETS[name]
    assert resolve("small", n_samples, {}) == PRESETS["small"], "a name wins over the size"


@pytest.mark.parametrize("key", list(asdict(TrainingConfig())))
def test_every_value_can_be_overridden(key):
    value = True if key == "enable_distillation" else 7
    made, preset = asdict(resolve("auto", 5_000, {key: value})), asdict(PRESETS["medium"])
    assert made[key] == value
    assert {name: made[name] for name in made if name != key} == {name: preset[name] for name in made if name != key}


def test_none_and_foreign_names_override_nothing():
    nothing = {"learning_rate": None, "early_stopping_patience": None, "fine_tune_epochs": 3, "preset": "large"}
    assert resolve("small", 5_000, nothing) == PRESETS["small"]


def test_zero_is_a_value():
    assert resolve("auto", 100, {"grad_clip": 0.0, "l2_reg": 0.0}).grad_clip == 0.0


NAN = float("nan")
IMPOSSIBLE = {
    "learning_rate": (0.0, -1.0, NAN, float("inf")),
    "batch_size": (0, -3),
    "epochs": (0,),
    "validation_split": (1.0, -0.1, NAN),
    "early_stopping_patience": (0,),
    "lr_decay": (0.0, NAN),
    "lr_decay_step": (0,),
    "grad_clip": (-1.0, NAN),
    "adam_beta1": (1.0, -0.1, NAN),
    "adam_beta2": (1.0, -0.1, NAN),
    "adam_epsilon": (0.0, 1e-50, NAN),
    "l2_reg": (-1e-5, NAN),
    "distillation_temperature": (0.0, -1.0, NAN),
    "distillation_alpha": (-0.1, 1.1, NAN),
    "prune": (1.0, -0.1, NAN),
    "quantization_aware_epochs": (-1,),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in IMPOSSIBLE for value in IMPOSSIBLE[name]])
def test_impossible_settings_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^TrainingConfig: {name} is {value}, expected"):
        check(replace(TrainingConfig(), **{name: value}))


def test_every_mistake_is_named_at_once():
    with pytest.raises(ValueError, match=r"batch_size is 0.*lr_decay_step is 0"):
        check(TrainingConfig(batch_size=0, lr_decay_step=0))


@pytest.mark.parametrize(
    "possible", [*PRESETS.values(), TrainingConfig(), TrainingConfig(early_stopping_patience=None)]
)
def test_possible_settings_pass(possible):
    check(possible)
