"""Settings tried side by side, the better half of them longer: successive halving (Jamieson & Talwalkar 2016).

Every rung trains anew for as many epochs as it allows, so that the last one is what the preset will give.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import yaml

from streamtrain.config import Config, ConfigError, parse, to_dict
from streamtrain.dataset.weighting import reweighted
from streamtrain.intake import overrides_of, shape_of
from streamtrain.model.params import initialise
from streamtrain.scale import partition
from streamtrain.scale.cluster import Cluster
from streamtrain.scale.loading import Inputs, Tell, looked_at
from streamtrain.train.fit import TrainingDivergedError
from streamtrain.train.presets import TrainingConfig, resolve
from streamtrain.train.stages import train
from streamtrain.types import Arrays, FastGRNNConfig

Settings = Mapping[str, Any]
"""Values by dotted key."""
SECTIONS: Final = ("training", "model")
_FIXED: Final = ("model.sequence_length", "training.teacher", "training.validation_split", "training.preset")
_MANY: Final = 10_000


class SettingsError(ValueError):
    """What is to be tried makes no sense; the message says which key, and what was expected."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting on one rung.

    Attributes
    ----------
    rung, epochs : int
        From 0 on; how many it may train for.
    settings : mapping of str to value
    loss, accuracy : float or None
        On the validation samples; None where it diverged.
    n_epochs : int
        That it took.
    """

    rung: int
    epochs: int
    settings: Settings
    loss: float | None
    accuracy: float | None
    n_epochs: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What came of a sweep: every trial, rung by rung and the best first, and the sections that won, as YAML."""

    trials: tuple[Trial, ...]
    n_train: int
    n_validation: int
    preset: str


def choices(grid: Sequence[str], draws: int | None, seed: int) -> list[dict[str, Any]]:
    """List what is to be tried.

    Parameters
    ----------
    grid : sequence of str
        ``key=a,b,c`` for values, ``key=low..high`` for a range, which takes `draws`.
    draws : int, optional
        So many random choices instead of all combinations. Of a range between positive numbers of which one is at
        least ten times the other the logarithm is uniform.
    seed : int

    Returns
    -------
    list of dict
        Without repetitions, in order.

    Raises
    ------
    SettingsError
    """
    axes: dict[str, Any] = {}
    for one in grid:
        key, separator, text = one.partition("=")
        if not separator or key.partition(".")[0] not in SECTIONS or key in _FIXED:
            raise SettingsError(
                f"sweep: {one!r}; expected KEY=VALUE,… or KEY=LOW..HIGH, with a key of the sections training or model "
                f"(not {', '.join(_FIXED)})"
            )
        axes[key] = _axis(key, text)
    if not axes:
        raise SettingsError("sweep: there is nothing to try; expected --grid KEY=VALUE,… at least once")
    if draws is None:
        ranges = [key for key, axis in axes.items() if isinstance(axis, tuple)]
        if ranges:
            raise SettingsError(f"sweep: {ranges[0]} is a range; say how many to draw (--draws)")
        if math.prod(map(len, axes.values())) > _MANY:
            raise SettingsError(f"sweep: more than {_MANY:,} combinations; draw some of them (--draws)")
        return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    rng = np.random.default_rng(seed)
    drawn = [{key: _draw(axis, rng) for key, axis in axes.items()} for _ in range(draws)]
    return list({repr(one): one for one in drawn}.values())


def _axis(key: str, text: str) -> list[Any] | tuple[float, float]:
    low, between, high = text.partition("..")
    try:
        values = [yaml.safe_load(one) for one in ((low, high) if between else text.split(","))]
    except yaml.YAMLError as error:
        raise SettingsError(f"sweep: {key}: {text!r} can't be read: {error}") from error
    if not between:
        return values
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
    if not numbers or not values[0] < values[1]:
        raise SettingsError(f"sweep: {key}={text}: expected LOW..HIGH, two numbers, the first below the second")
    return values[0], values[1]


def _draw(axis: list[Any] | tuple[float, float], rng: np.random.Generator) -> Any:
    if isinstance(axis, list):
        return axis[int(rng.integers(len(axis)))]
    low, high = axis
    if isinstance(low, int) and isinstance(high, int):
        return int(rng.integers(low, high + 1))
    if low > 0 and high >= 10 * low:
        return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.4g}")
    return float(f"{rng.uniform(low, high):.4g}")


def with_settings(config: Config, settings: Settings) -> Config:
    """Put settings over a configuration, and check them as in a file.

    Raises
    ------
    SettingsError
    """
    written = to_dict(config)
    sections = {name: dict(written[name]) for name in SECTIONS}  # type: ignore[call-overload]
    for key, value in settings.items():
        section, _, name = key.partition(".")
        sections[section][name] = value
    text = yaml.safe_dump(
        {name: {"directory": str(getattr(config, name).directory)} for name in ("logs", "state", "models")}
        | {"schema": written["schema"]}
        | {name: {key: value for key, value in one.items() if value is not None} for name, one in sections.items()}
    )
    try:
        parsed = parse(text, config.state.directory)
    except ConfigError as error:
        raise SettingsError(
            f"sweep: {', '.join(f'{key}={value}' for key, value in settings.items())}: {error}"
        ) from error
    return replace(config, training=parsed.training, model=parsed.model)


def sweep(
    config: Config,
    tried: Sequence[Settings],
    cluster: Cluster,
    inputs: Inputs,
    n_samples: int,
    eta: int,
    first_epochs: int,
    tell: Tell = lambda what, n_done, n_total: None,
) -> Swept:
    """Try settings on the same samples.

    Parameters
    ----------
    config : Config
    tried : sequence of Settings
    cluster : Cluster
    inputs : Inputs
        From `streamtrain.scale.loading.read`.
    n_samples : int
        At most about so many are trained on, and a quarter as many choose; by their hash, and none of the holdout.
    eta : int
        Of so many, one goes on to the next rung, for so many times the epochs.
    first_epochs : int
        On the first rung.
    tell : callable

    Returns
    -------
    Swept

    Raises
    ------
    SettingsError, InputError, ClusterError, StoppedError
    """
    configs = [with_settings(config, one) for one in tried]
    looked = looked_at(cluster, config, inputs, {"train": n_samples, "validation": n_samples // 4}, tell)
    if looked is None or not len(looked.shown["validation"].labels):
        raise SettingsError("sweep: there are no samples to train and to choose by; see what was quarantined")
    train_, validation = (
        partition.arrays_of(
            reweighted(looked.shown[name], config.dataset.max_propensity_weight), config, looked.scaling
        )
        for name in ("train", "validation")
    )
    held = cluster.submit(_held, train_, validation)
    n = len(train_.labels)
    wanted = [resolve(one.training.preset, n, overrides_of(one)) for one in configs]
    alive, trials, rung = list(range(len(tried))), [], 0
    while True:
        last = len(alive) <= 1 or all(first_epochs * eta**rung >= wanted[place].epochs for place in alive)
        runs = []
        for place in alive:
            epochs = wanted[place].epochs if last else min(wanted[place].epochs, first_epochs * eta**rung)
            training = replace(wanted[place], epochs=epochs)
            runs.append(cluster.submit(_trial, held, shape_of(configs[place]), training, config.dataset.seed))
        came = cluster.gathered(runs, lambda done: tell(f"rung {rung + 1}", done, len(runs)))  # noqa: B023
        found = [
            (place, Trial(rung, run_epochs, tried[place], loss, accuracy, taken))
            for place, (run_epochs, loss, accuracy, taken) in zip(alive, came, strict=True)
        ]
        found.sort(key=lambda one: math.inf if one[1].loss is None else one[1].loss)
        trials += [trial for _, trial in found]
        if last:
            break
        alive = [place for place, trial in found[: max(1, len(found) // eta)] if trial.loss is not None]
        if not alive:
            raise SettingsError("sweep: every setting diverged; lower training.learning_rate")
        rung += 1
    best = found[0][1]
    if best.loss is None:
        raise SettingsError("sweep: the setting that was left diverged; lower training.learning_rate")
    return Swept(tuple(trials), n, len(validation.labels), _preset(best, n))


def _held(train_: Arrays, validation: Arrays) -> tuple[Arrays, Arrays]:
    return train_, validation


def _trial(
    held: tuple[Arrays, Arrays], shape: FastGRNNConfig, training: TrainingConfig, seed: int
) -> tuple[int, float | None, float | None, int]:
    """Train one setting; epochs allowed, loss, accuracy, epochs taken."""
    try:
        made = train(initialise(shape, seed), shape, training, *held, seed)
    except TrainingDivergedError:
        return training.epochs, None, None, 0
    best = made.epochs[made.best_epoch]
    return training.epochs, best.val_loss, best.val_accuracy, len(made.epochs)


def _preset(best: Trial, n: int) -> str:
    sections: dict[str, dict[str, Any]] = {}
    for key, value in best.settings.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    loss, accuracy = f"validation loss {best.loss:.5f}", f"accuracy {best.accuracy:.4f}"
    return f"# Best of a sweep over {n:,} training samples: {loss}, {accuracy}.\n" + yaml.safe_dump(
        sections, sort_keys=True
    )
