"""That we train what PyTorch trains: the same loss from the same weights and the very same batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import ours
import pytorch
import torch
from clock import told
from numba import types
from numpy.typing import NDArray
from problem import drawn

from streamtrain.kernels.policy import entry
from streamtrain.kernels.shuffle import BLOCK, bits_for, draw
from streamtrain.model.params import initialise
from streamtrain.train.fit import epoch_key, fit
from streamtrain.train.presets import TrainingConfig

HIDDEN = 16
I64 = NDArray[np.int64]


@entry(types.void(types.Array(types.int64, 1, "C"), types.Array(types.uint64, 1, "C"), types.int64, types.uint64))
def _fill(order: Any, hashes: Any, n: Any, key: Any) -> None:
    bits = bits_for(n)
    held = 0
    for position in range(0, 1 << bits, BLOCK):
        held = draw(order, held, hashes, position, n, bits, key)


def order_of(n: int, seed: int, epoch: int) -> I64:
    """The order in which our kernel visits the samples."""
    order = np.empty(n + BLOCK, np.int64)
    _fill(order, np.empty(BLOCK, np.uint64), n, np.uint64(epoch_key(seed, epoch)))
    return order[:n]


def agreement(quick: bool) -> list[dict[str, Any]]:
    """Final validation loss from the same initial weights and the very same batches, against PyTorch's two precisions.

    With the guide's settings, L2, clipping and a step of the rate's decay included.
    """
    cases = [(1, 8_000, 25), (8, 1_600, 25)]
    rows = []
    for steps, n, epochs in cases:
        if quick:
            epochs = 3
        with told(f"agreement with PyTorch on the same batches, T = {steps}"):
            train, validation = drawn(n, steps=steps), drawn(n // 4, steps=steps, seed=1)
            config = ours.config_for(train, HIDDEN)
            training = TrainingConfig(epochs=epochs, early_stopping_patience=None)
            start = initialise(config, 0)
            made = fit(start, config, training, train.arrays, validation.arrays, 0)
            losses = {}
            for label, dtype in (("float32", torch.float32), ("float64", torch.float64)):
                orders = (order_of(n, 0, epoch) for epoch in range(epochs))
                z = pytorch.logits(pytorch.trained(start, train, training, orders, dtype), validation)
                losses[label] = float(np.mean(np.logaddexp(0.0, z) - validation.y * z))
            rows.append({"t": steps, "n": n, "epochs": epochs, "ours": made.epochs[-1].val_loss, **losses})
    return rows
