"""Keeps a routing model fresh: the daemon's parts, and the library under the guide's names.

`Router` serves; it imports neither Numba nor anything of the trainer. The others train.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamtrain.model.fastgrnn import FastGRNN
    from streamtrain.router.router import Router
    from streamtrain.train.presets import TrainingConfig
    from streamtrain.train.trainer import Trainer, TrainingDataset, generate_teacher_predictions
    from streamtrain.types import FastGRNNConfig

__version__ = "0.1.0"

# Where each public name lives; imported at first use, so that serving does not load the compiler.
_HOMES = {
    "FastGRNN": "streamtrain.model.fastgrnn",
    "FastGRNNConfig": "streamtrain.types",
    "Router": "streamtrain.router.router",
    "Trainer": "streamtrain.train.trainer",
    "TrainingConfig": "streamtrain.train.presets",
    "TrainingDataset": "streamtrain.train.trainer",
    "generate_teacher_predictions": "streamtrain.train.trainer",
}

__all__ = [
    "FastGRNN",
    "FastGRNNConfig",
    "Router",
    "Trainer",
    "TrainingConfig",
    "TrainingDataset",
    "generate_teacher_predictions",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'streamtrain' has no attribute {name!r}; it has {', '.join(sorted(_HOMES))}")
    return getattr(importlib.import_module(home), name)
