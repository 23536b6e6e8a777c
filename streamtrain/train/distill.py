"""Teachers: where their logits come from, and how they reach the arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from streamtrain.model.params import initialise
from streamtrain.train.fit import fit, logits
from streamtrain.train.meter import Meter
from streamtrain.train.presets import TrainingConfig
from streamtrain.types import F32, Arrays, FastGRNNConfig, Params


def taught(
    arrays: Arrays,
    teacher: Params,
    config: FastGRNNConfig,
    features: F32 | None = None,
    meter: Meter | None = None,
) -> Arrays:
    """Give arrays the logits of a teacher.

    Parameters
    ----------
    arrays : Arrays
    teacher : Params
    config : FastGRNNConfig
        Of the teacher.
    features : float32, (N, T, D), optional
        What the teacher takes, where that is not the normalised features of `arrays`: a model file takes raw ones.
    meter : Meter, optional
        Told of progress.

    Raises
    ------
    ValueError
        If the teacher takes another number of features.
    """
    given = arrays.features if features is None else features
    if config.input_dim != given.shape[2]:
        raise ValueError(
            f"distil: the teacher takes {config.input_dim} features, the data has {given.shape[2]}; "
            "use a teacher that was trained on this schema"
        )
    return replace(arrays, teachers=logits(teacher, config, given, meter))


def train_teacher(
    config: FastGRNNConfig,
    training: TrainingConfig,
    train: Arrays,
    validation: Arrays | None,
    seed: int,
    should_stop: Callable[[], bool] = lambda: False,
    meter: Meter | None = None,
) -> Params:
    """Train a network on the same arrays to learn from.

    Parameters
    ----------
    config : FastGRNNConfig
        Of the teacher.
    training : TrainingConfig
        The student's; the teacher learns from labels alone.
    train, validation : Arrays
    seed : int
    should_stop : callable
    meter : Meter, optional
        Told of progress within epochs.
    """
    plain = replace(training, enable_distillation=False, prune=0.0, quantization_aware_epochs=0)
    return fit(initialise(config, seed), config, plain, train, validation, seed, should_stop, meter=meter).params
