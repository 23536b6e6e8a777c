"""The nine tensors of a FastGRNN: made, checked, and packed for the kernels."""

from __future__ import annotations

import numpy as np

from streamtrain.kernels.layout import Layout
from streamtrain.model.formats import shapes
from streamtrain.model.quantize import BIASES, WEIGHTS
from streamtrain.types import F32, FastGRNNConfig, Params

__all__ = ["BIASES", "WEIGHTS", "aligned", "as_dict", "initialise", "pack", "shapes", "unpack"]

# The panel's order of gates; the reset gate is last because a single step does without it.
_GATES = ("update", "candidate", "reset")


def initialise(config: FastGRNNConfig, seed: int) -> Params:
    """Fresh parameters: Glorot-uniform weights (Glorot & Bengio, 2010), zero biases.

    Parameters
    ----------
    config : FastGRNNConfig
    seed : int
        The same seed gives the same parameters on every machine.
    """
    rng = np.random.default_rng(seed)
    tensors: dict[str, F32] = {}
    for name, shape in shapes(config).items():
        if len(shape) == 1:
            tensors[name] = np.zeros(shape, np.float32)
        else:
            limit = np.sqrt(6.0 / (shape[0] + shape[1]))
            tensors[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
    return Params(**tensors)


def as_dict(params: Params) -> dict[str, F32]:
    """Tensors by name, in Tiny Dancer's order."""
    return {name: getattr(params, name) for name in (*WEIGHTS, *BIASES)}


def aligned(n: int) -> F32:
    """`n` float32 zeros that start on a cache line, so that no vector load straddles two."""
    raw = np.zeros(n + 16, np.float32)
    start = -(raw.ctypes.data // 4) % 16
    return raw[start : start + n]


def _panel(packed: F32, layout: Layout) -> F32:
    d, h = layout.features, layout.hidden
    return packed[: d * layout.panel].reshape(d, layout.gates, layout.padded)[:, :, :h]


def _biases(packed: F32, layout: Layout) -> F32:
    return packed[layout.bias : layout.b_output].reshape(layout.gates, layout.padded)[:, : layout.hidden]


def _recurrent(packed: F32, layout: Layout) -> F32:
    block = packed[layout.w_recurrent : layout.n_weights]
    return block.reshape(layout.hidden, layout.padded)[:, : layout.hidden]


def pack(params: Params, layout: Layout) -> F32:
    """Lay parameters out for the kernels.

    Returns
    -------
    float32, (layout.size,)
        Aligned to a cache line; padding is zero.
    """
    packed = aligned(layout.size)
    for g, gate in enumerate(_GATES[: layout.gates]):
        _panel(packed, layout)[:, g] = getattr(params, f"w_{gate}").T
        _biases(packed, layout)[g] = getattr(params, f"b_{gate}")
    packed[layout.w_output : layout.w_output + layout.hidden] = params.w_output[0]
    packed[layout.b_output] = params.b_output[0]
    if layout.steps > 1:
        _recurrent(packed, layout)[:] = params.w_recurrent.T
    return packed


def unpack(packed: F32, layout: Layout, rest: Params) -> Params:
    """Read parameters back; what the layout leaves out (reset gate and recurrence with T = 1) is taken from `rest`."""
    tensors = {name: tensor.copy() for name, tensor in as_dict(rest).items()}
    for g, gate in enumerate(_GATES[: layout.gates]):
        tensors[f"w_{gate}"] = np.ascontiguousarray(_panel(packed, layout)[:, g].T)
        tensors[f"b_{gate}"] = _biases(packed, layout)[g].copy()
    tensors["w_output"] = packed[layout.w_output : layout.w_output + layout.hidden][None].copy()
    tensors["b_output"] = packed[layout.b_output : layout.b_output + 1].copy()
    if layout.steps > 1:
        tensors["w_recurrent"] = np.ascontiguousarray(_recurrent(packed, layout).T)
    return Params(**tensors)
