"""The guide's training configuration, and its recommended settings by size of the data set."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Any

_LEAST_EPSILON = 1e-30  # below, it is nothing in float32, and a weight without gradient would divide 0 by 0


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Hyper-parameters under the guide's names and with its defaults.

    Attributes
    ----------
    learning_rate : float
        Adam's step size, > 0.
    batch_size : int
        Sequences (with T = 1: samples) a step, ≥ 1.
    epochs : int
        At most so many, ≥ 1.
    validation_split : float
        Share held back for early stopping, in [0, 1).
    early_stopping_patience : int or None
        Epochs without a better validation loss before stopping; None never stops.
    lr_decay, lr_decay_step : float, int
        The learning rate is multiplied by `lr_decay` every `lr_decay_step` epochs.
    grad_clip : float
        Largest global norm of a gradient; 0 leaves it alone.
    adam_beta1, adam_beta2, adam_epsilon : float
    l2_reg : float
        Added to a weight's gradient as ``l2_reg · w`` (weights, not biases), before clipping.
    enable_distillation : bool
        Learn from a teacher's logits too, where there are any.
    distillation_temperature : float
        T > 0, which divides both logits.
    distillation_alpha : float
        Share of the teacher's loss, 0..1.
    prune : float
        Share of the weights that are set to zero after training and stay so through a second, shorter training.
    quantization_aware_epochs : int
        Last epochs, with the weights rounded to INT8 in the forward pass; kept only if the rounded model gets better.
    """

    learning_rate: float = 0.001
    batch_size: int = 32
    epochs: int = 100
    validation_split: float = 0.2
    early_stopping_patience: int | None = 10
    lr_decay: float = 0.5
    lr_decay_step: int = 20
    grad_clip: float = 5.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    l2_reg: float = 1e-5
    enable_distillation: bool = False
    distillation_temperature: float = 3.0
    distillation_alpha: float = 0.5
    prune: float = 0.0
    quantization_aware_epochs: int = 0


def check(training: TrainingConfig) -> None:
    """Refuse settings that can't be trained with.

    Raises
    ------
    ValueError
        It names every wrong field, its value and what was expected.
    """
    patience = training.early_stopping_patience
    wanted = {
        "learning_rate": (0 < training.learning_rate < inf, "a finite number > 0"),
        "batch_size": (training.batch_size >= 1, "≥ 1"),
        "epochs": (training.epochs >= 1, "≥ 1"),
        "validation_split": (0 <= training.validation_split < 1, "0 ≤ share < 1"),
        "early_stopping_patience": (patience is None or patience >= 1, "None or ≥ 1"),
        "lr_decay": (0 < training.lr_decay < inf, "a finite number > 0"),
        "lr_decay_step": (training.lr_decay_step >= 1, "≥ 1"),
        "grad_clip": (0 <= training.grad_clip < inf, "a finite number ≥ 0"),
        "adam_beta1": (0 <= training.adam_beta1 < 1, "0 ≤ β < 1"),
        "adam_beta2": (0 <= training.adam_beta2 < 1, "0 ≤ β < 1"),
        "adam_epsilon": (_LEAST_EPSILON <= training.adam_epsilon < inf, f"a number ≥ {_LEAST_EPSILON}"),
        "l2_reg": (0 <= training.l2_reg < inf, "a finite number ≥ 0"),
        "distillation_temperature": (0 < training.distillation_temperature < inf, "a finite number > 0"),
        "distillation_alpha": (0 <= training.distillation_alpha <= 1, "0 ≤ share ≤ 1"),
        "prune": (0 <= training.prune < 1, "0 ≤ share < 1"),
        "quantization_aware_epochs": (training.quantization_aware_epochs >= 0, "≥ 0"),
    }
    mistakes = [
        f"{name} is {getattr(training, name)}, expected {expected}"
        for name, (right, expected) in wanted.items()
        if not right
    ]
    if mistakes:
        raise ValueError(f"TrainingConfig: {'; '.join(mistakes)}")


PRESETS: dict[str, TrainingConfig] = {
    "small": TrainingConfig(
        learning_rate=0.01,
        batch_size=16,
        epochs=100,
        validation_split=0.2,
        early_stopping_patience=10,
        lr_decay=0.8,
        lr_decay_step=20,
        l2_reg=1e-4,
    ),
    "medium": TrainingConfig(
        learning_rate=0.005,
        batch_size=32,
        epochs=50,
        validation_split=0.15,
        early_stopping_patience=5,
        lr_decay=0.7,
        lr_decay_step=10,
        l2_reg=1e-5,
    ),
    "large": TrainingConfig(
        learning_rate=0.001,
        batch_size=64,
        epochs=30,
        validation_split=0.1,
        early_stopping_patience=3,
        lr_decay=0.5,
        lr_decay_step=5,
        l2_reg=1e-6,
    ),
}


PRESET_SIZES = (0, 1_000, 10_001)
"""A data set of each preset's size."""


def preset_for(n_samples: int) -> str:
    """Name of the guide's preset: "small" under 1,000 samples, "medium" to 10,000, "large" above."""
    if n_samples < 1_000:
        return "small"
    return "medium" if n_samples <= 10_000 else "large"


def resolve(preset: str, n_samples: int, overrides: dict[str, Any]) -> TrainingConfig:
    """Choose the settings for a data set: the preset's, with every key of `overrides` that is not None put over it.

    Parameters
    ----------
    preset : {"auto", "small", "medium", "large"}
    n_samples : int
        Size of the data set, which decides for "auto".
    overrides : dict
        Names of `TrainingConfig`; other names are ignored.
    """
    base = PRESETS[preset_for(n_samples) if preset == "auto" else preset]
    given = {key: overrides[key] for key in asdict(base) if overrides.get(key) is not None}
    return replace(base, **given)
