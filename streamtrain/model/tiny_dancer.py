"""Tiny Dancer's own model file: nine float32 tensors and a JSON config in one safetensors file."""

from __future__ import annotations

import json

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from streamtrain.model.params import as_dict, shapes
from streamtrain.types import F32, FastGRNNConfig, Params

FORMAT = "ruvector-tiny-dancer-fastgrnn-v1"


def encode(params: Params, config: FastGRNNConfig) -> bytes:
    """Write a model as Tiny Dancer's loader reads it: float32, row-major, config in the metadata."""
    described = {
        "input_dim": config.input_dim,
        "hidden_dim": config.hidden_dim,
        "output_dim": config.output_dim,
        "nu": config.nu,
        "zeta": config.zeta,
        "rank": config.rank,
    }
    tensors = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in as_dict(params).items()}
    return save(tensors, metadata={"format": FORMAT, "config": json.dumps(described)})


def read(path: str) -> tuple[Params, FastGRNNConfig]:
    """Read a model file of Tiny Dancer's or ours.

    Raises
    ------
    ValueError
        If the file is not such a model: it names the file, the tensor and what was expected.
    OSError
        If it can't be read.
    """
    try:
        with safe_open(path, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ValueError(f"read model {path}: not a safetensors file ({error})") from error
    config = _config(path, metadata)
    chosen: dict[str, F32] = {}
    for name, shape in shapes(config).items():
        tensor = tensors.get(name)
        if tensor is None or tensor.dtype != np.float32 or tensor.shape != shape:
            found = "missing" if tensor is None else f"{tensor.dtype} of shape {tensor.shape}"
            raise ValueError(f"read model {path}: tensor {name} is {found}; expected float32 of shape {shape}")
        if not np.isfinite(tensor).all():
            raise ValueError(f"read model {path}: tensor {name} holds NaN or Inf; expected finite numbers")
        chosen[name] = tensor
    return Params(**chosen), config


def _config(path: str, metadata: dict[str, str]) -> FastGRNNConfig:
    try:
        described = json.loads(metadata["config"])
        rank = described.get("rank")
        config = FastGRNNConfig(
            input_dim=int(described["input_dim"]),
            hidden_dim=int(described["hidden_dim"]),
            output_dim=int(described["output_dim"]),
            nu=float(described["nu"]),
            zeta=float(described["zeta"]),
            rank=None if rank is None else int(rank),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"read model {path}: metadata 'config' is {metadata.get('config')!r}; expected JSON with input_dim, "
            f"hidden_dim, output_dim, nu and zeta ({error!r})"
        ) from error
    if config.input_dim < 1 or config.hidden_dim < 1 or config.output_dim != 1:
        raise ValueError(
            f"read model {path}: input_dim {config.input_dim}, hidden_dim {config.hidden_dim}, output_dim "
            f"{config.output_dim}; expected ≥ 1, ≥ 1 and 1"
        )
    return config
