"""A model file that another trainer wrote becomes a version: how a Tiny Dancer user's model is the first champion."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from streamtrain.config import Config, to_dict
from streamtrain.model.formats import read_f32
from streamtrain.model.forward import probabilities
from streamtrain.model.quantize import dequantize, quantize
from streamtrain.model.seal import FILE_LIMIT_BYTES
from streamtrain.model.tensors import TensorFileError
from streamtrain.outlet import Outlet
from streamtrain.publish.artifact import build
from streamtrain.publish.errors import PublishError
from streamtrain.types import F32, Candidate, Decision, FastGRNNConfig, Params, Scaling

_INPUT_WEIGHTS = ("w_reset", "w_update", "w_candidate")
_N_COMPARED = 1000


@dataclass(frozen=True, slots=True)
class Adopted:
    """What became of the file.

    Attributes
    ----------
    version : str
        Current now.
    previous : str or None
        What was current before.
    sha256 : str
        Of the file, hex digits.
    int8_error : float
        Largest change of its confidence by rounding the weights to INT8, over 1,000 random vectors in 0..1.
    other_shape : tuple of str
        Keys of the section `model` that say something else than the file: while they do, training starts from scratch
        instead of going on from it.
    """

    version: str
    previous: str | None
    sha256: str
    int8_error: float
    other_shape: tuple[str, ...]


def adopt(
    config: Config, file: Path, *, unscaled: bool = False, should_stop: Callable[[], bool] = lambda: False
) -> Adopted:
    """Make a ``fastgrnn.safetensors`` the current version, without a gate.

    Parameters
    ----------
    config : Config
    file : Path
        As Tiny Dancer's `trainRouter`, or `FastGRNN.save`, writes it.
    unscaled : bool
        The file takes the plain columns of the log. Otherwise it takes what the router feeds it: the columns times
        ``router.input_scale``, if that is set.
    should_stop : callable
        Asked while those who are to be told of the version are told.

    Returns
    -------
    Adopted

    Raises
    ------
    PublishError
        If the file is not a model of this schema's features, or the models directory cannot be written.
    OSError
        If the file cannot be read.
    """
    data = _read(file)
    sha256 = hashlib.sha256(data).hexdigest()
    origin = {"path": str(file.absolute()), "sha256": sha256, "size": len(data)}
    shape, params = _parse(config, file, data)
    if config.router.input_scale is not None and not unscaled:
        params = _on_raw(params, np.asarray(config.router.input_scale))
    try:
        quantized = quantize(params)
        candidate = Candidate(
            config=shape,
            params=params,
            quantized=quantized,
            scaling=Scaling(np.zeros(shape.input_dim), np.ones(shape.input_dim)),
            features=config.schema.feature_names,
            input_scale=config.router.input_scale,
            epochs=(),
            origin="imported",
            parent=None,
            seed=config.dataset.seed,
            settings=to_dict(config) | {"imported": origin},
        )
        files = build(candidate)
    except ValueError as error:
        raise PublishError(f"promote: {file}: {error}") from error
    int8_error = _difference(shape, params, dequantize(quantized))
    decision = Decision("published", None, f"imported from {file.name} (SHA-256 {sha256}); not judged")
    details = {"origin": "imported", "imported": origin, "int8_error": int8_error}
    with closing(Outlet(config)) as outlet:
        registry = outlet.registry
        registry.acquire()
        previous = registry.current()
        version = registry.publish(registry.stage(files), decision, details=details)
        outlet.announcer.drain(should_stop)
    wanted = config.model
    other = [key for key in ("hidden_dim", "nu", "zeta") if getattr(shape, key) != getattr(wanted, key)]
    return Adopted(version, previous, sha256, int8_error, tuple(f"{key}: {getattr(shape, key)}" for key in other))


def _read(file: Path) -> bytes:
    """Read a regular file whole; a pipe or a device is refused instead of waited for."""
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise PublishError(f"promote: {file} is not a regular file; expected a fastgrnn.safetensors")
        data = stream.read(FILE_LIMIT_BYTES + 1)
    if len(data) > FILE_LIMIT_BYTES:
        raise PublishError(f"promote: {file} is longer than {FILE_LIMIT_BYTES} bytes; expected a fastgrnn.safetensors")
    return data


def _parse(config: Config, file: Path, data: bytes) -> tuple[FastGRNNConfig, Params]:
    try:
        shape, params = read_f32(data)
    except TensorFileError as error:
        raise PublishError(f"promote: {file}: {error}") from error
    names = config.schema.feature_names
    if shape.input_dim != len(names):
        shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        raise PublishError(
            f"promote: {file} takes {shape.input_dim} features; expected {len(names)} by the schema ({shown}): "
            "set `schema` to what the file was trained on"
        )
    for name, number in (("nu", shape.nu), ("zeta", shape.zeta)):
        if not number > 0:
            raise PublishError(f"promote: {file}: its {name} is {number}; expected a number > 0")
    # Tiny Dancer's trainer writes a rank that says nothing about the matrices beside it; ours is how training goes on.
    return replace(shape, rank=config.model.rank), params


def _on_raw(params: Params, input_scale: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Params:
    """Weights on plain columns: what the router multiplies with, `build` divides by again for the file it serves."""
    changed: dict[str, F32] = {
        name: (getattr(params, name).astype(np.float64) * input_scale).astype(np.float32) for name in _INPUT_WEIGHTS
    }
    return replace(params, **changed)


def _difference(shape: FastGRNNConfig, exact: Params, rounded: Params) -> float:
    x = np.random.default_rng(0).random((_N_COMPARED, shape.input_dim))
    before, after = (probabilities(params, x, shape.nu, shape.zeta) for params in (exact, rounded))
    return float(np.abs(after - before).max())
