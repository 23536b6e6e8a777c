"""A model as an ONNX graph: raw features in, confidence out, normalisation and constants folded in. Needs `onnx`.

::

    features (N, D) ─► x = features - centre    u = σ(x Uᵀ + b)    c = tanh(x Cᵀ + b)
                       h = (1 - u) ⊙ c          confidence (N) = σ(h w + b)

All float32. The centre is the mean as float32 holds it; what that leaves of the mean is folded into the biases.
Folding all of it would lose digits wherever a mean is many deviations from 0.

With sessions, ``h_in`` (N, H) goes in beside the features and ``h_out`` comes out beside the confidence: the caller
keeps it and gives it back with the session's next step; zeros start one.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from streamtrain import __version__
from streamtrain.export.source import Source, layers_after
from streamtrain.types import F64

OPSET = 17
_IR_VERSION = 8  # the one that came with opset 17: runtimes since 2022 read both


def to_onnx(source: Source, *, sessions: bool) -> bytes:
    """Write the graph.

    Parameters
    ----------
    source : Source
    sessions : bool
        Whether hidden states go in and out.

    Returns
    -------
    bytes
        The same for the same source and the same release of `onnx`.

    Raises
    ------
    ModuleNotFoundError
        If `onnx` is not installed.
    ValueError
        If the folded weights are too large for float32.
    """
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph()
    hidden, n_features = source.config.hidden_dim, source.config.input_dim
    centre = source.scaling.means.astype(np.float32).astype(np.float64)
    layers, params = layers_after(source, centre), source.params
    nu, zeta = source.config.nu, source.config.zeta

    x = graph.node("Sub", ["features", graph.constant("centre", centre)], "centred") if centre.any() else "features"
    update = graph.layer("update", x, nu, layers["w_update"], "Sigmoid")
    if sessions:
        reset = graph.layer("reset", x, nu, layers["w_reset"], "Sigmoid")
        remembered = graph.node("Mul", [reset, "h_in"], "remembered")
        w_recurrent = graph.constant("w_recurrent", zeta * params.w_recurrent.astype(np.float64).T)
        recurrent = graph.node("MatMul", [remembered, w_recurrent], "recurrent")
        seen = graph.layer("candidate", x, zeta, layers["w_candidate"], None)
        candidate = graph.node("Tanh", [graph.node("Add", [seen, recurrent], "candidate_all")], "candidate")
    else:
        candidate = graph.layer("candidate", x, zeta, layers["w_candidate"], "Tanh")
    keep = graph.node("Sub", [graph.constant("one", np.ones(())), update], "not_update")
    fresh = graph.node("Mul", [keep, candidate], "fresh")
    h = graph.node("Add", [graph.node("Mul", [update, "h_in"], "kept"), fresh], "h_out") if sessions else fresh
    weighted = graph.node("MatMul", [h, graph.constant("w_output", params.w_output[0].astype(np.float64))], "weighted")
    bias = graph.constant("b_output", params.b_output[0].astype(np.float64))
    graph.node("Sigmoid", [graph.node("Add", [weighted, bias], "logit")], "confidence")

    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", n_features])]
    outputs = [helper.make_tensor_value_info("confidence", TensorProto.FLOAT, ["N"])]
    if sessions:
        inputs.append(helper.make_tensor_value_info("h_in", TensorProto.FLOAT, ["N", hidden]))
        outputs.append(helper.make_tensor_value_info("h_out", TensorProto.FLOAT, ["N", hidden]))
    model = helper.make_model(
        helper.make_graph(graph.nodes, "fastgrnn", inputs, outputs, graph.constants),
        producer_name="streamtrain",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
    )
    facts = {
        "features": json.dumps(source.features),
        "version": source.version or "",
        "source_sha256": source.sha256,
        "sequence_length": str(source.sequence_length),
    }
    for key, value in sorted(facts.items()):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    written: bytes = model.SerializeToString(deterministic=True)
    return written


class _Graph:
    """Nodes and constants as they are named, in order."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: F64) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], name=output))
        return output

    def layer(self, name: str, x: str, factor: float, layer: tuple[F64, F64], activation: str | None) -> str:
        """``activation(factor (x Wᵀ + b))``."""
        weight = self.constant(f"w_{name}", factor * layer[0].T)
        bias = self.constant(f"b_{name}", factor * layer[1])
        linear = self.node("Gemm", [x, weight, bias], f"{name}_sum")
        return linear if activation is None else self.node(activation, [linear], name)
