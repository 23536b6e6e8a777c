"""The training kernel driven by hand: buffers, one call, and what it left behind under the tensors' names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import types

from streamtrain.kernels import epoch as kernel
from streamtrain.kernels.factors import Factored
from streamtrain.kernels.layout import Layout
from streamtrain.kernels.policy import entry
from streamtrain.kernels.shuffle import (
    BLOCK,
    N_STARTS,
    RUN_BITS,
    WINDOW,
    bits_for,
    draw,
    draw_in_window,
    run_start,
    windowed_bits_for,
)
from streamtrain.model.factorise import factorise
from streamtrain.model.params import aligned, pack, unpack
from streamtrain.types import F32, Arrays, Params

_NONE = np.zeros(0, np.float32)


@cache
def _order_kernel():
    @entry(types.void(types.Array(types.int64, 1, "C"), types.uint64))
    def fill(order, key):
        n, held = len(order) - BLOCK, 0
        bits = bits_for(n)
        hashes = np.empty(BLOCK, np.uint64)
        for position in range(0, 1 << bits, BLOCK):
            held = draw(order, held, hashes, position, n, bits, key)

    return fill


@cache
def _window_kernel():
    @entry(types.void(types.Array(types.int64, 1, "C"), types.uint64))
    def fill(order, key):
        n, held = len(order) - BLOCK, 0
        bits = windowed_bits_for(n)
        hashes, starts = np.empty(BLOCK, np.uint64), np.empty(N_STARTS, np.int64)
        for position in range(0, 1 << bits, BLOCK):
            if position % WINDOW == 0:
                for run in range(position >> RUN_BITS, (position + WINDOW) >> RUN_BITS):
                    starts[run % N_STARTS] = run_start(run, bits, key)
            held = draw_in_window(order, held, hashes, starts, position, n, key)

    return fill


def shuffled_order(n: int, key: int, windowed: bool = False) -> np.ndarray:
    """Which sample a training kernel takes at each position under `key`, int64 (n,)."""
    order = np.full(n + BLOCK, -1, np.int64)
    (_window_kernel if windowed else _order_kernel)()(order, np.uint64(key))
    return order[:n]


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters of a call. With the defaults the parameters stay and Adam's first moment is the gradient."""

    learning_rate: float = 0.0
    beta1: float = 0.0
    beta2: float = 0.999
    epsilon: float = 1e-8
    l2: float = 0.0
    clip: float = 0.0
    alpha: float = 0.0
    temperature: float = 1.0
    nu: float = 1.0
    zeta: float = 1.0
    rounded: bool = False


class KernelRun:
    """One set of parameters under one compiled kernel."""

    def __init__(
        self,
        params: Params,
        steps: int,
        batch_size: int,
        settings: Settings,
        *,
        distilled: bool = False,
        rank: int = 0,
        mask: Params | None = None,
    ) -> None:
        hidden, n_features = params.w_reset.shape
        self.layout = Layout(n_features, hidden, steps)
        self.factored = Factored(self.layout, rank)
        self.scratch_layout = kernel.training_scratch(self.layout, batch_size, rank)
        self.kernel = kernel.training_kernel(n_features, hidden, steps, batch_size, distilled, rank)
        self.start = params
        self.f = aligned(self.factored.size)
        self.f[:] = factorise(pack(params, self.layout), self.factored)
        self.m, self.v = aligned(self.factored.size), aligned(self.factored.size)
        self.p = aligned(self.layout.size)
        self.mask = _NONE if mask is None else pack(mask, self.layout)
        self.scratch = aligned(self.scratch_layout.size)
        self.hyper = np.zeros(kernel.N_HYPER)
        for slot, value in (
            (kernel.LEARNING_RATE, settings.learning_rate),
            (kernel.BETA1, settings.beta1),
            (kernel.BETA2, settings.beta2),
            (kernel.EPSILON, settings.epsilon),
            (kernel.L2, settings.l2),
            (kernel.CLIP, settings.clip),
            (kernel.ALPHA, settings.alpha),
            (kernel.TEMPERATURE, settings.temperature),
            (kernel.NU, settings.nu),
            (kernel.ZETA, settings.zeta),
            (kernel.ROUNDED, float(settings.rounded)),
        ):
            self.hyper[slot] = value
        self.state = np.zeros(kernel.N_STATE)
        self.state[kernel.BETA1_POWER] = self.state[kernel.BETA2_POWER] = 1.0
        self.report = np.zeros(kernel.N_REPORT)

    def __call__(self, arrays: Arrays, key: int = 1) -> int:
        """One epoch; what the kernel returns."""
        q = _NONE if arrays.teachers is None else arrays.teachers.ravel()
        data = (arrays.features.ravel(), arrays.labels.ravel(), arrays.weights.ravel(), q)
        self.report[:] = 0.0
        moved = (self.f, self.m, self.v, self.p, self.mask, self.scratch)
        return int(self.kernel(*moved, *data, self.hyper, self.state, np.uint64(key), self.report))

    @property
    def first_moment(self) -> dict[str, np.ndarray]:
        """Adam's first moment by tensor (zeros where the layout leaves a tensor out)."""
        return self._named(self.m)

    @property
    def trained(self) -> dict[str, np.ndarray]:
        """The trained vector by tensor; whole matrices only."""
        return self._named(self.f, self.start)

    @property
    def served(self) -> dict[str, np.ndarray]:
        """What a forward pass sees, where that differs from the trained vector."""
        return self._named(self.p, self.start)

    def _named(self, packed: F32, rest: Params | None = None) -> dict[str, np.ndarray]:
        names = Params.__dataclass_fields__
        if rest is None:
            rest = Params(**{name: np.zeros_like(getattr(self.start, name)) for name in names})
        made = unpack(packed, self.layout, rest)
        return {name: getattr(made, name).astype(np.float64) for name in names}

    @property
    def loss(self) -> float:
        """Mean loss of the call."""
        return float(self.report[kernel.LOSS] / self.report[kernel.WEIGHT])
