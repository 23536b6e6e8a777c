"""A version directory, a models directory or a plain Tiny Dancer file to a `Model`, verified before it is used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from streamtrain.model.fold import fold_layer
from streamtrain.model.formats import INT8_FILE, read_f32, read_int8
from streamtrain.model.quantize import dequantize
from streamtrain.model.seal import FILE_LIMIT_BYTES, Manifest, VersionError, read_sealed
from streamtrain.model.signature import PublicKey
from streamtrain.model.tensors import TensorFileError
from streamtrain.router.scorer import Model
from streamtrain.types import F32, F64

GOLDEN_TOLERANCE = 1e-6
"""Largest difference from a golden vector's recorded confidence. Float64 on any CPU stays far below it."""

__all__ = ["Model", "VersionError", "load"]


def load(path: str | os.PathLike[str], public_key: PublicKey | None = None) -> Model:
    """Read, verify and prepare a model.

    Parameters
    ----------
    path : path
        A version directory (also a staged one), a models directory (its ``current`` is taken), or a
        ``fastgrnn.safetensors`` of Tiny Dancer, whose features then are what that file takes: raw, times the
        ``input_scale`` that was folded into it, if any.
    public_key : PublicKey, optional
        If given, only a version signed by it is taken.

    Returns
    -------
    Model

    Raises
    ------
    VersionError
        If it does not verify: a byte differs from the manifest, a tensor is missing, superfluous, of another type or
        shape or not finite, or a golden vector gives another confidence than recorded.
    OSError
        If it could not be read just now.
    """
    place = Path(path)
    if place.is_file():
        if public_key is not None:
            raise VersionError(place, "a file by itself is not signed; name its version's directory")
        return _load_file(place)
    if (place / "current").is_symlink():
        place = place / "current"
    elif (place / "versions").is_dir():
        raise VersionError(place, "no version was published in this models directory yet (it has no 'current')")
    # Resolved once: while it is read, `current` may move.
    return load_version(place.resolve(), public_key=public_key)


def load_version(directory: Path, expected_version: str | None = None, public_key: PublicKey | None = None) -> Model:
    """`load` of a version directory.

    Parameters
    ----------
    directory : Path
    expected_version : str, optional
        What the manifest must call itself.
    public_key : PublicKey, optional
        As in `load`.

    Returns
    -------
    Model

    Raises
    ------
    VersionError, OSError
        As in `load`.
    """
    manifest, files = read_sealed(directory, public_key=public_key)
    version = manifest.get("version")
    if expected_version is not None and version != expected_version:
        raise VersionError(directory, f"its manifest calls it {version!r}; expected {expected_version!r}")
    if version is not None and not isinstance(version, str):
        raise VersionError(directory, f"its manifest calls it {version!r}; expected a name")
    if INT8_FILE not in files:
        raise VersionError(directory, f"its manifest does not list {INT8_FILE}")
    try:
        content = read_int8(files[INT8_FILE])
        params = dequantize(content.quantized)
        model = Model(
            content.config,
            fold_layer(params.w_update, params.b_update, content.scaling),
            fold_layer(params.w_candidate, params.b_candidate, content.scaling),
            (params.w_output.astype(np.float64), params.b_output.astype(np.float64)),
            content.features,
            version,
        )
    except (TensorFileError, ValueError) as error:
        raise VersionError(directory, f"{INT8_FILE}: {error}") from error
    _run_golden(directory, manifest, model)
    return model


def _load_file(file: Path) -> Model:
    with file.open("rb") as stream:
        data = stream.read(FILE_LIMIT_BYTES + 1)
    if len(data) > FILE_LIMIT_BYTES:
        raise VersionError(file, f"it is longer than {FILE_LIMIT_BYTES} bytes")
    try:
        config, params = read_f32(data)
    except TensorFileError as error:
        raise VersionError(file, str(error)) from error
    return Model(
        config,
        _as_float64(params.w_update, params.b_update),
        _as_float64(params.w_candidate, params.b_candidate),
        _as_float64(params.w_output, params.b_output),
        tuple(f"feature[{column}]" for column in range(config.input_dim)),
        None,
    )


def _as_float64(weight: F32, bias: F32) -> tuple[F64, F64]:
    return weight.astype(np.float64), bias.astype(np.float64)


def _run_golden(directory: Path, manifest: Manifest, model: Model) -> None:
    """Score the vectors recorded in the manifest: the whole path from bytes to answer, on this very machine."""
    golden: Any = manifest.get("golden")
    try:
        confidences = np.array(golden["confidences"], dtype=np.float64)
        scores = model.score_batch(np.array(golden["features"], dtype=np.float64))
        difference = float(np.abs(scores - confidences).max())
    except (KeyError, TypeError, ValueError) as error:
        raise VersionError(directory, f"its golden vectors are missing or do not fit the model: {error}") from error
    if not difference <= GOLDEN_TOLERANCE:
        raise VersionError(
            directory,
            f"its golden vectors come out differently here, by {difference:.3g}; expected at most {GOLDEN_TOLERANCE}",
        )
