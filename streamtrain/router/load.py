"""A version directory, a models directory or a plain Tiny Dancer file to a `Model`, verified before it is used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from streamtrain.model.fold import fold_layer
from streamtrain.model.formats import INT8_FILE, read_f32, read_int8
from streamtrain.model.quantize import dequantize
from streamtrain.model.seal import FILE_LIMIT_BYTES, MANIFEST_FILE, Manifest, VersionError, read_sealed
from streamtrain.model.signature import PublicKey
from streamtrain.model.tensors import TensorFileError
from streamtrain.router.scorer import Model
from streamtrain.types import F32, F64

GOLDEN_TOLERANCE = 1e-6
"""Largest difference from a golden vector's recorded confidence. Float64 on any CPU stays far below it."""

_LONGEST_SEQUENCE = 1024  # the configuration's own limit

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


def load_version(
    directory: Path,
    expected_version: str | None = None,
    public_key: PublicKey | None = None,
    model_type: type[Model] = Model,
) -> Model:
    """`load` of a version directory.

    Parameters
    ----------
    directory : Path
    expected_version : str, optional
        What the manifest must call itself.
    public_key : PublicKey, optional
        As in `load`.
    model_type : type of Model
        What is made of it, and answers the golden vectors.

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
        params, scaling = dequantize(content.quantized), content.scaling
        steps = _sequence_length(manifest)
        threshold, max_uncertainty = _advice(manifest)
        model = model_type(
            content.config,
            fold_layer(params.w_update, params.b_update, scaling),
            fold_layer(params.w_candidate, params.b_candidate, scaling),
            _as_float64(params.w_output, params.b_output),
            content.features,
            version,
            sequence_length=steps,
            reset=None if steps == 1 else fold_layer(params.w_reset, params.b_reset, scaling),
            recurrent=None if steps == 1 else params.w_recurrent.astype(np.float64),
            threshold=threshold,
            max_uncertainty=max_uncertainty,
        )
    except TensorFileError as error:
        raise VersionError(directory, f"{INT8_FILE}: {error}") from error
    except ValueError as error:
        raise VersionError(directory, str(error)) from error
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


def _difference(scores: F64, recorded: object) -> float:
    """Largest difference; NaN if there is one among the recorded."""
    return float(np.abs(scores - np.array(recorded, dtype=np.float64)).max())


def _sequence_length(manifest: Manifest) -> int:
    """Return the steps that the version was trained on; one from before this was recorded answers one step."""
    steps = manifest.get("sequence_length", 1)
    if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= _LONGEST_SEQUENCE:
        raise ValueError(f"{MANIFEST_FILE}: sequence_length is {steps!r}; expected 1..{_LONGEST_SEQUENCE}")
    return steps


def _advice(manifest: Manifest) -> tuple[float | None, float | None]:
    """Threshold and most uncertainty that the manifest advises routers to decide by, each if it does."""
    router = manifest.get("router")
    if router is None:
        return None, None
    if not isinstance(router, dict):
        raise ValueError(f"{MANIFEST_FILE}: 'router' is {router!r:.100}; expected an object")
    return _share("threshold", router), _share("max_uncertainty", router)


def _share(key: str, router: dict[str, Any]) -> float | None:
    value = router.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= 1.0:
        raise ValueError(f"{MANIFEST_FILE}: router.{key} is {value!r:.100}; expected a number in 0..1")
    return float(value)


def _as_float64(weight: F32, bias: F32) -> tuple[F64, F64]:
    return weight.astype(np.float64), bias.astype(np.float64)


def _run_golden(directory: Path, manifest: Manifest, model: Model) -> None:
    """Score the vectors recorded in the manifest: the whole path from bytes to answer, on this very machine."""
    golden: Any = manifest.get("golden")
    try:
        features = np.array(golden["features"], dtype=np.float64)
        difference = max(
            _difference(model.score_batch(features), golden["confidences"]),
            _difference(np.array([model.score(row) for row in features]), golden["confidences"]),
        )
        if model.sequence_length > 1:
            # One step alone has no use for the reset gate and the recurrent matrix.
            session = model.score_sequences(features[None, : model.sequence_length])[0]
            difference = max(difference, _difference(session, golden["session_confidences"]))
    except (KeyError, TypeError, ValueError) as error:
        raise VersionError(directory, f"its golden vectors are missing or do not fit the model: {error}") from error
    if not difference <= GOLDEN_TOLERANCE:
        raise VersionError(
            directory,
            f"its golden vectors come out differently here, by {difference:.3g}; expected at most {GOLDEN_TOLERANCE}",
        )
