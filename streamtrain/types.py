"""The nouns that travel down the flow: frozen values, no behaviour.

Shapes: N samples, T steps, D features, H hidden units. Times are seconds since the epoch (float64).
Label convention everywhere: 1.0 = the lightweight model was good enough, 0.0 = the powerful model was needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples in columns, in the order in which they were read (or, from a window, in time order).

    Attributes
    ----------
    features : float32, (N, D)
        Raw features, finite, not normalised.
    labels : float32, (N,)
        In 0..1.
    timestamps : float64, (N,)
        Seconds since the epoch.
    keys : uint64, (N,)
        Stable hash of the record's id; without an id, of its source and byte offset.
    groups : uint64, (N,)
        Stable hash of the session; without one, equal to `keys`. The unit of the hash split and of sequences.
    weights : float32, (N,)
        Finite and ≥ 0; 1 where the log has none.
    teachers : float32, (N,)
        A teacher's probability of label 1, in 0..1; NaN where the log has none.
    propensities : float32, (N,)
        Probability with which the logged choice was made, in (0, 1]; NaN where the log has none.
    slices : uint64, (N,)
        Stable hash of the slice (the task, the language …) that a record belongs to; 0 where the log has none.
    """

    features: F32
    labels: F32
    timestamps: F64
    keys: U64
    groups: U64
    weights: F32
    teachers: F32
    propensities: F32
    slices: U64


@dataclass(frozen=True, slots=True)
class Scaling:
    """Z-score normalisation: ``x' = (x - means) / stds``.

    Attributes
    ----------
    means, stds : float64, (D,)
        Fitted on training samples only; a constant feature has std 1.
    """

    means: F64
    stds: F64


@dataclass(frozen=True, slots=True)
class Arrays:
    """Scaled arrays of one split, ready for a kernel. A padded or unlabelled step has weight 0.

    Attributes
    ----------
    features : float32, (N, T, D)
        Normalised.
    labels, weights : float32, (N, T)
        Labels in 0..1; weights ≥ 0.
    teachers : float32, (N, T) or None
        A teacher's logits (not probabilities); None without distillation.
    """

    features: F32
    labels: F32
    weights: F32
    teachers: F32 | None = None


@dataclass(frozen=True, slots=True)
class FastGRNNConfig:
    """Shape and constants of a FastGRNN, under the guide's names.

    Attributes
    ----------
    input_dim, hidden_dim, output_dim : int
        D, H and 1 (a binary classifier has one output).
    nu, zeta : float
        Scale of the gate's and of the candidate's pre-activation.
    rank : int or None
        Rank of the factors that the matrices are trained as; None trains them whole.
    """

    input_dim: int = 5
    hidden_dim: int = 16
    output_dim: int = 1
    nu: float = 1.0
    zeta: float = 1.0
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Params:
    """The nine float32 tensors of a FastGRNN, under Tiny Dancer's names.

    Attributes
    ----------
    w_reset, w_update, w_candidate : float32, (H, D)
    w_recurrent : float32, (H, H)
    w_output : float32, (1, H)
    b_reset, b_update, b_candidate : float32, (H,)
    b_output : float32, (1,)
    """

    w_reset: F32
    w_update: F32
    w_candidate: F32
    w_recurrent: F32
    w_output: F32
    b_reset: F32
    b_update: F32
    b_candidate: F32
    b_output: F32


@dataclass(frozen=True, slots=True)
class QuantizedParams:
    """A FastGRNN with symmetric INT8 weights, one scale per output row, float32 biases.

    ``weight[i, j] ≈ scale[i] · int8[i, j]`` with int8 in -127..127.

    Attributes
    ----------
    weights : dict of str to int8, same shapes as in `Params`
        Keys w_reset, w_update, w_candidate, w_recurrent, w_output.
    scales : dict of str to float32, (rows,)
        Same keys; > 0, and numbers that float16 holds.
    biases : dict of str to float32
        Keys b_reset, b_update, b_candidate, b_output.
    """

    weights: dict[str, I8]
    scales: dict[str, F32]
    biases: dict[str, F32]


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """One row an epoch, under the guide's names. Losses are mean binary cross-entropies in nats."""

    epoch: int
    train_loss: float
    val_loss: float
    train_accuracy: float
    val_accuracy: float
    learning_rate: float


@dataclass(frozen=True, slots=True)
class InputRange:
    """Bytes [start, end) of one log file that samples of the window came from.

    `source` is the stable id of the file in the store, `path` where it was last seen.
    """

    source: str
    path: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trained and quantized model with all that is needed to serve, judge and explain it.

    Attributes
    ----------
    config : FastGRNNConfig
    params : Params
        Trained float weights in normalised space, the starting point of the next fine-tuning.
    quantized : QuantizedParams
        What is served.
    scaling : Scaling
    features : tuple of str
        Names, in column order.
    input_scale : tuple of float or None
        Factor that the router's own feature engineering applies to each feature (folded into the F32 file).
    epochs : tuple of EpochMetrics
    origin : str
        How it was made: "scratch", "fine-tuned", "imported" …
    parent : str or None
        Version that it was fine-tuned from.
    seed : int
    inputs : tuple of InputRange
    settings : dict
        The configuration that it was trained with, as JSON values.
    sequence_length : int
        Steps of a session that it was trained on, one after the other.
    calibration : dict or None
        What was done to its logits after training, as JSON values.
    lineage : dict or None
        All else that determined the training, as JSON values.
    window : bytes or None
        Fingerprints of the samples, in order, that belong to `lineage`.
    reference : dict or None
        How the features that it was trained on are distributed, as JSON values.
    """

    config: FastGRNNConfig
    params: Params
    quantized: QuantizedParams
    scaling: Scaling
    features: tuple[str, ...]
    input_scale: tuple[float, ...] | None
    epochs: tuple[EpochMetrics, ...]
    origin: str
    parent: str | None
    seed: int
    inputs: tuple[InputRange, ...] = ()
    settings: dict[str, object] = field(default_factory=dict)
    sequence_length: int = 1
    calibration: dict[str, object] | None = None
    lineage: dict[str, object] | None = None
    window: bytes | None = None
    reference: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the gate's verdict.

    Attributes
    ----------
    name : str
        "min_accuracy", "beat_baseline", "min_auc", "versus_current", "min_samples", …
    passed : bool
    figure : float or None
        What was measured.
    bound : float or None
        What it was held against.
    text : str
        Both in a sentence that a person understands.
    """

    name: str
    passed: bool
    figure: float | None
    bound: float | None
    text: str


Outcome = Literal["published", "rejected", "skipped"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a cycle and why.

    `version` is set once published. Accuracies are on the holdout; None where nothing was scored. `heard_since` is the
    timestamp of the first sample that judged a refused candidate which was heard again; None of any other.
    """

    outcome: Outcome
    version: str | None
    reason: str
    holdout_accuracy: float | None = None
    current_accuracy: float | None = None
    rules: tuple[Rule, ...] = ()
    advice: str | None = None
    heard_since: float | None = None
