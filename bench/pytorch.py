"""The same cell in PyTorch, as fast as eager PyTorch runs it on one thread, and as the reference of the numerics."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
import torch
from clock import Run
from numpy.typing import NDArray
from problem import Problem
from torch.nn import functional

from streamtrain.model.params import WEIGHTS, as_dict, initialise
from streamtrain.train.presets import TrainingConfig
from streamtrain.types import F64, FastGRNNConfig, Params


class Cell(torch.nn.Module):
    """FastGRNN over (N, T, D) from h = 0, logits (N, T).

    The gates' input matrices are stacked, so that all steps cost one product; with one step, reset gate and recurrence
    are left out, as ours leaves them out.
    """

    def __init__(self, params: Params, steps: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        gates = ("update", "candidate") if steps == 1 else ("update", "candidate", "reset")
        tensors = {name: torch.tensor(value, dtype=dtype) for name, value in as_dict(params).items()}
        self.w_input = torch.nn.Parameter(torch.cat([tensors[f"w_{gate}"] for gate in gates]))
        self.b_input = torch.nn.Parameter(torch.cat([tensors[f"b_{gate}"] for gate in gates]))
        self.w_output = torch.nn.Parameter(tensors["w_output"])
        self.b_output = torch.nn.Parameter(tensors["b_output"])
        if steps > 1:
            self.w_recurrent = torch.nn.Parameter(tensors["w_recurrent"])
        self.steps = steps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.steps == 1:
            update, candidate = functional.linear(x[:, 0], self.w_input, self.b_input).chunk(2, 1)
            h = (1 - torch.sigmoid(update)) * torch.tanh(candidate)
            return functional.linear(h, self.w_output, self.b_output)
        update, candidate, reset = functional.linear(x, self.w_input, self.b_input).chunk(3, 2)
        keep, reset = 1 - torch.sigmoid(update), torch.sigmoid(reset)
        h = keep[:, 0] * torch.tanh(candidate[:, 0])
        states = [h]
        for t in range(1, self.steps):
            c = torch.tanh(candidate[:, t] + functional.linear(reset[:, t] * h, self.w_recurrent))
            h = h + keep[:, t] * (c - h)
            states.append(h)
        return functional.linear(torch.stack(states, 1), self.w_output, self.b_output)[:, :, 0]

    @property
    def weights(self) -> list[torch.nn.Parameter]:
        """What L2 applies to: all but the biases."""
        return [parameter for name, parameter in self.named_parameters() if name in ("w_input", *WEIGHTS)]


def training(problem: Problem, hidden: int, batch: int) -> Run:
    """A training epoch: shuffle, forward, loss, backward, clip by norm, L2, Adam (its fused form, the fastest)."""
    steps, config = problem.x.shape[1], FastGRNNConfig(problem.x.shape[2], hidden)
    cell = Cell(initialise(config, 0), steps)
    defaults = TrainingConfig()
    others = [parameter for parameter in cell.parameters() if not any(parameter is one for one in cell.weights)]
    groups = [{"params": cell.weights, "weight_decay": defaults.l2_reg}, {"params": others}]
    adam = torch.optim.Adam(groups, lr=defaults.learning_rate, fused=True)
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
    everything = list(cell.parameters())

    def run() -> float:
        torch.set_num_threads(1)
        start = time.perf_counter()
        order = torch.randperm(len(y))
        features, labels = x[order], y[order]
        for first in range(0, len(y), batch):
            adam.zero_grad()
            logits = cell(features[first : first + batch])
            functional.binary_cross_entropy_with_logits(logits, labels[first : first + batch]).backward()
            torch.nn.utils.clip_grad_norm_(everything, defaults.grad_clip)
            adam.step()
        return (time.perf_counter() - start) / len(y)

    return run


def trained(
    start: Params,
    problem: Problem,
    training: TrainingConfig,
    orders: Iterable[NDArray[np.int64]],
    dtype: torch.dtype = torch.float32,
) -> Cell:
    """The cell after one epoch for each order of the samples: the same arithmetic as ours, step for step."""
    torch.set_num_threads(1)
    cell = Cell(start, problem.x.shape[1], dtype)
    adam = torch.optim.Adam(
        cell.parameters(), lr=training.learning_rate, betas=(training.adam_beta1, training.adam_beta2),
        eps=training.adam_epsilon,
    )  # fmt: skip
    x, y = torch.from_numpy(problem.x).to(dtype), torch.from_numpy(problem.y).to(dtype)
    weights, everything = cell.weights, list(cell.parameters())
    for epoch, order in enumerate(orders):
        for group in adam.param_groups:
            group["lr"] = training.learning_rate * training.lr_decay ** (epoch // training.lr_decay_step)
        rows = torch.from_numpy(order)
        for chosen in rows.split(training.batch_size):
            adam.zero_grad()
            functional.binary_cross_entropy_with_logits(cell(x[chosen]), y[chosen]).backward()
            for weight in weights:
                if weight.grad is not None:
                    weight.grad.add_(weight.detach(), alpha=training.l2_reg)
            torch.nn.utils.clip_grad_norm_(everything, training.grad_clip)
            adam.step()
    return cell


def logits(cell: Cell, problem: Problem) -> F64:
    """Logits of a trained cell, (N, T)."""
    with torch.no_grad():
        return cell(torch.from_numpy(problem.x).to(cell.w_input.dtype)).double().numpy()
