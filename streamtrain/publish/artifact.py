"""A candidate to the files of its version directory, and back: bytes in, bytes out; the registry does the writing.

The files exist in two stages. `build` makes them before the gate, so that the gate can score the very bytes that would
be served; its manifest has no version yet. `finish` replaces only ``metrics.json`` and ``manifest.json`` once the
verdict is in; no weight is touched after it was judged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from streamtrain import __version__
from streamtrain.model.fold import fold
from streamtrain.model.formats import (
    F32_FILE,
    INT8_FILE,
    METRICS_FILE,
    NORMALIZATION_FILE,
    TRAINING_FILE,
    WINDOW_FILE,
    Int8File,
    read_int8,
    read_training,
    shapes,
    write_f32,
    write_int8,
    write_training,
)
from streamtrain.model.forward import probabilities, sequence_probabilities
from streamtrain.model.quantize import WEIGHTS, dequantize
from streamtrain.model.seal import MANIFEST_FILE, Manifest, VersionError, digest, read_sealed, schema_of, seal
from streamtrain.model.signature import PublicKey
from streamtrain.model.tensors import TensorFileError
from streamtrain.types import F64, Candidate, Decision, FastGRNNConfig, Params, QuantizedParams, Scaling

_GOLDEN_NUMBERS = 1024
_GOLDEN_VECTORS = (3, 16)


@dataclass(frozen=True, slots=True)
class Champion:
    """A version read back: where fine-tuning goes on from, and what it serves.

    Attributes
    ----------
    version : str or None
        None for a staged candidate.
    config : FastGRNNConfig
    params : Params
        Unquantized weights in the normalised space of `scaling`.
    quantized : QuantizedParams
    scaling : Scaling
    features : tuple of str
    input_scale : tuple of float or None
    manifest : dict
    """

    version: str | None
    config: FastGRNNConfig
    params: Params
    quantized: QuantizedParams
    scaling: Scaling
    features: tuple[str, ...]
    input_scale: tuple[float, ...] | None
    manifest: Manifest


def build(candidate: Candidate) -> dict[str, bytes]:
    """Files of a candidate, with a manifest that has no version yet.

    Parameters
    ----------
    candidate : Candidate

    Returns
    -------
    dict of str to bytes

    Raises
    ------
    ValueError
        If the parts do not fit together, or the weights cannot be folded into float32.
    """
    _check(candidate)
    config, served = candidate.config, dequantize(candidate.quantized)
    folded = fold(served, candidate.scaling, candidate.input_scale)
    normalization = {
        "features": candidate.features,
        "means": candidate.scaling.means.tolist(),
        "stds": candidate.scaling.stds.tolist(),
    }
    epochs = [asdict(row) for row in candidate.epochs]
    files = {
        F32_FILE: write_f32(config, folded),
        INT8_FILE: write_int8(
            Int8File(config, candidate.quantized, candidate.scaling, candidate.features, candidate.input_scale)
        ),
        TRAINING_FILE: write_training(config, candidate.params),
        NORMALIZATION_FILE: _to_bytes(normalization),
        METRICS_FILE: _to_bytes({"epochs": epochs, "holdout": None}),
    }
    golden = _golden_features(candidate.scaling)
    confidences = _normalised_confidences(candidate, served, golden)
    factors = np.ones(config.input_dim) if candidate.input_scale is None else np.array(candidate.input_scale)
    in_float32 = probabilities(folded, golden * factors, config.nu, config.zeta, dtype=np.float32)
    manifest = {
        "schema_version": schema_of(candidate.sequence_length),
        "written_by": f"streamtrain {__version__}",
        "version": None,
        "timestamp": None,
        "model_path": F32_FILE,
        "quantized_path": INT8_FILE,
        "training_path": TRAINING_FILE,
        "metrics_path": METRICS_FILE,
        "normalization_path": NORMALIZATION_FILE,
        "test_accuracy": None,
        "model_size_bytes": len(files[F32_FILE]),
        "quantized_size_bytes": len(files[INT8_FILE]),
        "files": {name: digest(data) for name, data in files.items()},
        "parent": candidate.parent,
        "previous": None,
        "origin": candidate.origin,
        "seed": candidate.seed,
        "sequence_length": candidate.sequence_length,
        "model": asdict(config),
        "features": candidate.features,
        "input_scale": candidate.input_scale,
        "inputs": [asdict(part) for part in candidate.inputs],
        "config": candidate.settings,
        "calibration": candidate.calibration,
        "lineage": candidate.lineage,
        "reference": candidate.reference,
        "gate": None,
        "golden": {"features": golden.tolist(), "confidences": confidences.tolist()}
        | _golden_session(candidate, served, golden),
        "float32_error": float(np.abs(in_float32 - confidences).max()),
    }
    # Not among the files that a router reads; its digest is in the lineage.
    beside = {} if candidate.window is None else {WINDOW_FILE: candidate.window}
    return files | beside | {MANIFEST_FILE: seal(to_json(manifest))}


def finish(
    files: Mapping[str, bytes],
    manifest: Manifest,
    *,
    version: str,
    timestamp_s: float,
    previous: str | None,
    decision: Decision | None = None,
    report: Mapping[str, object] | None = None,
    router: Mapping[str, object] | None = None,
) -> dict[str, bytes]:
    """Files that change when a staged candidate becomes a version.

    Parameters
    ----------
    files : mapping of str to bytes
        The staged files.
    manifest : dict
        Their manifest.
    version : str
    timestamp_s : float
        Time of publishing, seconds since the epoch.
    previous : str or None
        The version that it takes over from, and that a rollback goes back to.
    decision : Decision, optional
        The gate's verdict.
    report : mapping, optional
        What was measured on the holdout; goes into ``metrics.json``.
    router : mapping, optional
        What routers are advised to decide by: ``threshold`` and ``max_uncertainty``, and why.

    Returns
    -------
    dict of str to bytes
        ``metrics.json`` and ``manifest.json``.

    Raises
    ------
    ValueError
        If `report` or `decision` hold what JSON cannot.
    """
    metrics = json.loads(files[METRICS_FILE])
    metrics["holdout"] = report
    written = _to_bytes(metrics)
    finished: Manifest = manifest | {
        "version": version,
        "timestamp": rfc3339(timestamp_s),
        "test_accuracy": None if decision is None else decision.holdout_accuracy,
        "previous": previous,
        "gate": None if decision is None else asdict(decision) | {"version": version},
        "files": manifest["files"] | {METRICS_FILE: digest(written)},
    }
    if router is not None:
        finished["router"] = router
    finished.pop("manifest_sha256", None)
    return {METRICS_FILE: written, MANIFEST_FILE: seal(to_json(finished))}


def load_candidate(directory: Path, public_key: PublicKey | None = None) -> Champion:
    """Read a version (or a staged candidate) back, verified byte by byte.

    Parameters
    ----------
    directory : Path
    public_key : PublicKey, optional
        If given, it must be signed by it.

    Returns
    -------
    Champion

    Raises
    ------
    VersionError
        If it does not verify.
    OSError
        If it could not be read just now.
    """
    manifest, files = read_sealed(directory, public_key=public_key)
    for name in (INT8_FILE, TRAINING_FILE):
        if name not in files:
            raise VersionError(directory, f"{MANIFEST_FILE} does not list {name}")
    try:
        served = read_int8(files[INT8_FILE])
        config, params = read_training(files[TRAINING_FILE])
    except TensorFileError as error:
        raise VersionError(directory, str(error)) from error
    if config != served.config:
        raise VersionError(directory, f"{TRAINING_FILE} is of another model ({config}) than {INT8_FILE}")
    return Champion(
        manifest.get("version"),
        config,
        params,
        served.quantized,
        served.scaling,
        served.features,
        served.input_scale,
        manifest,
    )


def rfc3339(time_s: float) -> str:
    """Time as people and other programs read it, e.g. ``2026-11-22T19:18:18.334Z``.

    Parameters
    ----------
    time_s : float
        Seconds since the epoch.

    Returns
    -------
    str
    """
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_json(value: object) -> Any:
    """Make a value fit for JSON: data classes, tuples and NumPy scalars converted, NaN and infinities to null.

    Parameters
    ----------
    value : object

    Returns
    -------
    JSON value

    Raises
    ------
    ValueError
        If it holds something else; the message names its type.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, Mapping):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(asdict(value))
    raise ValueError(f"to JSON: a value of type {type(value).__name__} ({value!r}); expected plain JSON values")


def _to_bytes(value: object) -> bytes:
    return json.dumps(to_json(value), indent=2, allow_nan=False).encode() + b"\n"


def _check(candidate: Candidate) -> None:
    whole = shapes(candidate.config)
    quantized = candidate.quantized
    for name, shape in whole.items():
        trained = getattr(candidate.params, name)
        served = quantized.weights[name] if name in WEIGHTS else quantized.biases[name]
        for kind, tensor in (("params", trained), ("quantized", served)):
            if tensor.shape != shape:
                raise ValueError(f"build: {kind}.{name} has shape {tensor.shape}; expected {shape} by config")
        if not np.isfinite(trained).all():
            raise ValueError(f"build: params.{name} holds numbers that are not finite; the training diverged")
    if len(candidate.features) != candidate.config.input_dim:
        raise ValueError(
            f"build: {len(candidate.features)} feature names; expected {candidate.config.input_dim} by config.input_dim"
        )


def _golden_features(scaling: Scaling) -> F64:
    """Raw vectors over ±2 standard deviations around the mean, the same for the same scaling."""
    n_features = len(scaling.means)
    fewest, most = _GOLDEN_VECTORS
    row = np.arange(1, max(fewest, min(most, _GOLDEN_NUMBERS // n_features)) + 1)[:, None]
    column = np.arange(n_features)[None, :]
    z = (row * (7 * column + 3) % 17 - 8) / 4
    return scaling.means + scaling.stds * z


def _golden_session(candidate: Candidate, served: Params, raw: F64) -> dict[str, object]:
    """Score the first golden vectors as the requests of one session, for a model trained on sequences."""
    if candidate.sequence_length == 1:
        return {}
    z = (raw[: candidate.sequence_length] - candidate.scaling.means) / candidate.scaling.stds
    return {"session_confidences": sequence_probabilities(served, z[None], candidate.config)[0].tolist()}


def _normalised_confidences(candidate: Candidate, served: Params, raw: F64) -> F64:
    """Score without folding: what the folded weights must agree with."""
    z = (raw - candidate.scaling.means) / candidate.scaling.stds
    return probabilities(served, z, candidate.config.nu, candidate.config.zeta).astype(np.float64)
