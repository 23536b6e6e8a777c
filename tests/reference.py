"""The oracle of the numerical tests: a FastGRNN in float64, written from the equations and from nothing else.

Nothing of `streamtrain` is used here but its nouns. Tensors are a dict by Tiny Dancer's names; a batch is (N, T, …).

    r_t = σ(nu (W_reset x_t + b_reset))            u_t = σ(nu (W_update x_t + b_update))
    c_t = tanh(zeta (W_candidate x_t + W_recurrent (r_t ⊙ h_{t-1}) + b_candidate))
    h_t = u_t ⊙ h_{t-1} + (1 - u_t) ⊙ c_t          z_t = W_output h_t + b_output
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from streamtrain.types import Arrays, Params

WEIGHTS = ("w_reset", "w_update", "w_candidate", "w_recurrent", "w_output")
NAMES = (*WEIGHTS, "b_reset", "b_update", "b_candidate", "b_output")
INERT_WITH_ONE_STEP = ("w_reset", "w_recurrent", "b_reset")
"""Tensors that one step from h_0 = 0 does not depend on."""

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Objective:
    """What is minimised: the cell's constants and, with a teacher, the shares of the two losses."""

    nu: float = 1.0
    zeta: float = 1.0
    alpha: float = 0.0
    temperature: float = 1.0


def tensors_of(params: Params) -> Tensors:
    return {name: np.array(getattr(params, name), np.float64) for name in NAMES}


def params_of(tensors: Tensors) -> Params:
    return Params(**{name: tensors[name].astype(np.float32) for name in NAMES})


def sigmoid(a: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -a))


def logits(tensors: Tensors, x: np.ndarray, objective: Objective) -> np.ndarray:
    """Logits (N, T) of features (N, T, D), from h_0 = 0."""
    n, steps, _ = x.shape
    h = np.zeros((n, len(tensors["b_update"])))
    z = np.zeros((n, steps))
    for t in range(steps):
        r = sigmoid(objective.nu * (x[:, t] @ tensors["w_reset"].T + tensors["b_reset"]))
        u = sigmoid(objective.nu * (x[:, t] @ tensors["w_update"].T + tensors["b_update"]))
        mixed = x[:, t] @ tensors["w_candidate"].T + (r * h) @ tensors["w_recurrent"].T + tensors["b_candidate"]
        c = np.tanh(objective.zeta * mixed)
        h = u * h + (1 - u) * c
        z[:, t] = h @ tensors["w_output"][0] + tensors["b_output"][0]
    return z


def cross_entropy(z: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``-target log σ(z) - (1 - target) log(1 - σ(z))``."""
    return target * np.logaddexp(0.0, -z) + (1 - target) * np.logaddexp(0.0, z)


def losses(z: np.ndarray, y: np.ndarray, q: np.ndarray | None, objective: Objective) -> np.ndarray:
    """Loss of each logit; `q` are a teacher's logits, NaN where there is none."""
    hard = cross_entropy(z, y)
    if q is None:
        return hard
    taught = ~np.isnan(q)
    target = sigmoid(np.where(taught, q, 0.0) / objective.temperature)
    soft = cross_entropy(z / objective.temperature, target)
    return np.where(taught, objective.alpha * soft + (1 - objective.alpha) * hard, hard)


def wide(arrays: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """Features, labels, weights and teacher's logits in float64."""
    q = None if arrays.teachers is None else arrays.teachers.astype(np.float64)
    return arrays.features.astype(np.float64), arrays.labels.astype(np.float64), arrays.weights.astype(np.float64), q


def loss(tensors: Tensors, arrays: Arrays, objective: Objective) -> float:
    """Weighted mean loss of a batch."""
    x, y, w, q = wide(arrays)
    return float((w * losses(logits(tensors, x, objective), y, q, objective)).sum() / w.sum())


def accuracy(tensors: Tensors, arrays: Arrays, objective: Objective) -> float:
    """Weighted share of right decisions at probability 0.5."""
    x, y, w, _ = wide(arrays)
    right = (logits(tensors, x, objective) >= 0) == (y >= 0.5)
    return float((w * right).sum() / w.sum())


def central_differences(value: Callable[[], float], tensors: Tensors, step: float = 1e-5) -> Tensors:
    """``(f(p + step) - f(p - step)) / (2 step)`` for each number of each tensor that `value` reads, one at a time.

    Error O(step²) ≈ 1e-10 for the smooth functions here, plus rounding of 1e-16 / step = 1e-11.
    """
    result = {}
    for name, tensor in tensors.items():
        slope = np.zeros_like(tensor)
        for at in np.ndindex(tensor.shape):
            before = tensor[at]
            tensor[at] = before + step
            above = value()
            tensor[at] = before - step
            below = value()
            tensor[at] = before
            slope[at] = (above - below) / (2 * step)
        result[name] = slope
    return result


def gradient(tensors: Tensors, arrays: Arrays, objective: Objective) -> Tensors:
    """Gradient of `loss` by the chain rule, one step at a time; itself held against `central_differences`."""
    x, y, w, q = wide(arrays)
    n, steps, _ = x.shape
    nu, zeta = objective.nu, objective.zeta
    states = [np.zeros((n, len(tensors["b_update"])))]
    gates = []
    for t in range(steps):
        h = states[-1]
        r = sigmoid(nu * (x[:, t] @ tensors["w_reset"].T + tensors["b_reset"]))
        u = sigmoid(nu * (x[:, t] @ tensors["w_update"].T + tensors["b_update"]))
        mixed = x[:, t] @ tensors["w_candidate"].T + (r * h) @ tensors["w_recurrent"].T + tensors["b_candidate"]
        c = np.tanh(zeta * mixed)
        gates.append((r, u, c))
        states.append(u * h + (1 - u) * c)
    z = np.stack([h @ tensors["w_output"][0] + tensors["b_output"][0] for h in states[1:]], axis=1)
    dz = sigmoid(z) - y
    if q is not None:
        taught = ~np.isnan(q)
        cooled = sigmoid(z / objective.temperature) - sigmoid(np.where(taught, q, 0.0) / objective.temperature)
        mixed_dz = objective.alpha * cooled / objective.temperature + (1 - objective.alpha) * dz
        dz = np.where(taught, mixed_dz, dz)
    dz = w * dz / w.sum()
    d = {name: np.zeros_like(tensor) for name, tensor in tensors.items()}
    dh = np.zeros_like(states[0])
    for t in reversed(range(steps)):
        before, after, (r, u, c) = states[t], states[t + 1], gates[t]
        d["w_output"] += dz[:, t] @ after
        d["b_output"] += dz[:, t].sum()
        dh = dh + dz[:, t, None] * tensors["w_output"][0]
        da_u = dh * (before - c) * u * (1 - u) * nu
        da_c = dh * (1 - u) * (1 - c**2) * zeta
        d_gated = da_c @ tensors["w_recurrent"]
        da_r = d_gated * before * r * (1 - r) * nu
        for name, da in (("update", da_u), ("candidate", da_c), ("reset", da_r)):
            d[f"w_{name}"] += da.T @ x[:, t]
            d[f"b_{name}"] += da.sum(axis=0)
        d["w_recurrent"] += da_c.T @ (r * before)
        dh = dh * u + d_gated * r
    return d


class Adam:
    """Adam (Kingma & Ba, 2015, algorithm 1) over tensors, in place."""

    def __init__(self, beta1: float, beta2: float, epsilon: float) -> None:
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.m: Tensors = {}
        self.v: Tensors = {}
        self.t = 0

    def step(self, tensors: Tensors, slopes: Tensors, learning_rate: float) -> None:
        self.t += 1
        for name, g in slopes.items():
            self.m[name] = self.beta1 * self.m.get(name, 0.0) + (1 - self.beta1) * g
            self.v[name] = self.beta2 * self.v.get(name, 0.0) + (1 - self.beta2) * g**2
            m_hat = self.m[name] / (1 - self.beta1**self.t)
            v_hat = self.v[name] / (1 - self.beta2**self.t)
            tensors[name] -= learning_rate * m_hat / (np.sqrt(v_hat) + self.epsilon)


def regularised(tensors: Tensors, slopes: Tensors, l2: float) -> Tensors:
    """``g + l2 · w`` for the weights, `g` for the biases."""
    return {name: g + l2 * tensors[name] if name in WEIGHTS else g for name, g in slopes.items()}


def clipped(slopes: Tensors, limit: float) -> tuple[Tensors, float]:
    """Gradient scaled down to a global norm of `limit` (0: left alone), and its norm before."""
    norm = float(np.sqrt(sum((g**2).sum() for g in slopes.values())))
    scale = limit / norm if 0 < limit < norm else 1.0
    return {name: g * scale for name, g in slopes.items()}, norm


def rows(arrays: Arrays, chosen: np.ndarray) -> Arrays:
    """Some samples of a split."""
    teachers = None if arrays.teachers is None else arrays.teachers[chosen]
    return Arrays(arrays.features[chosen], arrays.labels[chosen], arrays.weights[chosen], teachers)


def trained(
    start: Tensors,
    arrays: Arrays,
    objective: Objective,
    orders: Iterator[np.ndarray],
    *,
    batch_size: int,
    rates: list[float],
    beta1: float,
    beta2: float,
    epsilon: float,
    l2: float,
    clip: float,
) -> Iterator[Tensors]:
    """Weights after each epoch; `orders` gives each epoch's order of samples, `rates` its learning rate."""
    tensors = {name: tensor.copy() for name, tensor in start.items()}
    active = set(NAMES) - set(INERT_WITH_ONE_STEP if arrays.features.shape[1] == 1 else ())
    optimiser = Adam(beta1, beta2, epsilon)
    for rate, order in zip(rates, orders, strict=True):
        for first in range(0, len(order), batch_size):
            batch = rows(arrays, order[first : first + batch_size])
            slopes = gradient(tensors, batch, objective)
            slopes = {name: slopes[name] for name in NAMES if name in active}
            slopes, _ = clipped(regularised(tensors, slopes, l2), clip)
            optimiser.step(tensors, slopes, rate)
        yield {name: tensor.copy() for name, tensor in tensors.items()}


def drawn_tensors(rng: np.random.Generator, n_features: int, hidden: int) -> Tensors:
    """Weights and biases large enough that no gate is linear and no gradient is tiny; exact in float32."""
    d, h = n_features, hidden
    spread = {
        "w_reset": (h, d, 1.0 / np.sqrt(d)),
        "w_update": (h, d, 1.0 / np.sqrt(d)),
        "w_candidate": (h, d, 1.0 / np.sqrt(d)),
        "w_recurrent": (h, h, 1.0 / np.sqrt(h)),
        "w_output": (1, h, 2.0 / np.sqrt(h)),
    }
    tensors = {name: scale * rng.normal(size=(m, n)) for name, (m, n, scale) in spread.items()}
    for name in ("b_reset", "b_update", "b_candidate"):
        tensors[name] = 0.5 * rng.normal(size=h)
    tensors["b_output"] = 0.5 * rng.normal(size=1)
    return {name: tensors[name].astype(np.float32).astype(np.float64) for name in NAMES}


def drawn_arrays(
    rng: np.random.Generator,
    n: int,
    steps: int,
    n_features: int,
    *,
    weighted: bool = False,
    padded: bool = False,
    taught: bool = False,
) -> Arrays:
    """Draw a batch: labels 0 and 1 with a few soft ones; optionally weights, padding at the ends, and a teacher.

    A padded step has weight 0 and features 0. Every fifth teacher is missing (NaN).
    """
    x = rng.normal(size=(n, steps, n_features)).astype(np.float32)
    y = (rng.random((n, steps)) < 0.65).astype(np.float32)
    y[:: max(n // 3, 1), 0] = 0.25
    w = np.ones((n, steps), np.float32)
    if weighted:
        w = rng.choice(np.array([0.25, 0.5, 1, 3], np.float32), (n, steps))
        w[n // 2, 0] = 0.0
    if padded:
        for i in range(n):
            length = 1 + i % steps
            w[i, length:] = 0
            x[i, length:] = 0
    q = None
    if taught:
        q = (2.0 * rng.normal(size=(n, steps))).astype(np.float32)
        q.ravel()[::5] = np.nan
    return Arrays(x, y, w, q)
