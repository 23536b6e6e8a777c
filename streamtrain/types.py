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
    """

    features: F32
    labels: F32
    timestamps: F64
    keys: U64
    groups: U64
    weights: F32
    teachers: F32
    propensities: F32


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
        How it was made: "scratch" or "fine-tuned".
    parent : str or None
        Version that it was fine-tuned from.
    seed : int
    inputs : tuple of InputRange
    settings : dict
        The configuration that it was trained with, as JSON values.
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

    `version` is set once published. Accuracies are on the holdout; None where nothing was scored.
    """

    outcome: Outcome
    version: str | None
    reason: str
    holdout_accuracy: float | None = None
    current_accuracy: float | None = None
    rules: tuple[Rule, ...] = ()
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A stream of log content and how far it has been read, whatever files carry it.

    A rotated file, its hard links, its copy and its `.gz` are one source. Offsets count decompressed bytes.

    Attributes
    ----------
    key : int
        Stable id in the store, 63 bits.
    path : str
        Where it was last seen.
    head_hash, head_bytes : bytes, int
        Hash and length of its first bytes (up to 1 KiB of what was read; of what was seen while nothing was read).
    offset : int
        Everything before it is in the dataset or the quarantine.
    tail_hash, tail_bytes : bytes, int
        Hash and length of the bytes just before `offset` (up to 1 KiB).
    checksum : int
        CRC-32 of everything before `offset`.
    oversize : bool
        `offset` lies inside a line that is longer than the limit and is being skipped.
    lost_bytes : int
        Bytes after `offset` that were seen but can't be read any more, because no file carries them (of a compressed
        file, its size).
    """

    key: int
    path: str
    head_hash: bytes
    head_bytes: int
    offset: int = 0
    tail_hash: bytes = b""
    tail_bytes: int = 0
    checksum: int = 0
    oversize: bool = False
    lost_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file that carries a source.

    Attributes
    ----------
    device, inode, birth_ns : int
        Which file; `birth_ns` is 0 where the file system doesn't say.
    source : int
        Key of its `Source`; 0 while it has none (empty, or not readable as a log).
    path : str
    size : int
        As last seen; compressed bytes if it is compressed.
    mtime_ns, ctime_ns : int
        As they were when it was last read to its end; -1 while it was not.
    compressed : bool
        It is gzip or zstd.
    waiting : bool
        Its end is not a complete line yet, or it was not read to its end.
    gone : bool
        No longer in the directory.
    """

    device: int
    inode: int
    birth_ns: int
    source: int
    path: str
    size: int = 0
    mtime_ns: int = -1
    ctime_ns: int = -1
    compressed: bool = False
    waiting: bool = False
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A line that could not become a sample.

    Attributes
    ----------
    source : int
        Key of its `Source`.
    path : str
        Where the source was when it was read.
    offset : int
        Byte offset of the line in the (decompressed) file.
    reason : str
        What is wrong with it, in words.
    line : bytes
        Its first 4 KiB.
    id : int
        Number in the store, never given twice; 0 before it has one.
    """

    source: int
    path: str
    offset: int
    reason: str
    line: bytes
    id: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Pending:
    """What is known of a record that comes in two lines.

    Attributes
    ----------
    key : int
        Signed 64-bit hash of the key that joins them.
    waiting : bool
        One half waits for the other; otherwise it is only remembered which lines were joined.
    record : bytes
        The halves, in a form that only ingestion reads.
    """

    key: int
    waiting: bool
    record: bytes


@dataclass(frozen=True, slots=True)
class Bound:
    """How long, and how many, halves of records are waited for: those that waited longest go first."""

    max_age_s: float
    max_pending: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What was read since the last commit; goes into the store in one transaction.

    Attributes
    ----------
    samples : Samples
    ranges : tuple of InputRange
        The bytes that were read; `InputRange.source` is the source's key in hexadecimal.
    sources : tuple of Source
        New state of each source that was read.
    files : tuple of SourceFile
        New state of each file that was looked at.
    quarantined : tuple of Quarantined
        Examples, possibly fewer than `n_quarantined`.
    n_lines, n_quarantined : int
        Complete lines read, and how many of them were no samples.
    n_recognised : int
        Files whose content turned out to have been read under another name.
    pending : tuple of Pending
        New state of each record of which a half was read.
    bound : Bound or None
        Of all that are pending.
    n_repeated, n_unlabelled : int
        Halves that were read before or that a later one replaced; outcomes that no label can be made from.
    released : tuple of int
        Quarantined lines, by `Quarantined.id`, that are in quarantine no longer.
    """

    samples: Samples
    ranges: tuple[InputRange, ...] = ()
    sources: tuple[Source, ...] = ()
    files: tuple[SourceFile, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    n_lines: int = 0
    n_quarantined: int = 0
    n_recognised: int = 0
    pending: tuple[Pending, ...] = ()
    bound: Bound | None = None
    n_repeated: int = 0
    n_unlabelled: int = 0
    released: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit did.

    Attributes
    ----------
    n_samples : int
        New samples.
    n_duplicates : int
        Samples dropped because their key was in the window already.
    n_expired : int
        Records given up because their other half did not come in time, or too many were waiting.
    """

    n_samples: int
    n_duplicates: int
    n_expired: int = 0
