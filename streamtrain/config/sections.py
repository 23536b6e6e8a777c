"""The sections of a configuration: one frozen dataclass each.

Every key is a field, annotated with its type, its limits and its meaning; values are checked against these, and so is
docs/configuration.md. A field ending in ``_s`` or ``_bytes`` holds seconds or bytes; its key has no such ending
(``trigger.max_interval: 10m`` is read into ``max_interval_s = 600.0``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from streamtrain.ingest.schema import GUIDE_FEATURES, Schema


class WebhookTarget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a publish is told, and where the secret is that signs it: in a file or in an environment variable."""

    url: Annotated[str, Meta(pattern=r"^https?://[^\s/?#@]+([/?][^\s#]*)?$", max_length=2048)]
    secret_file: Annotated[str, Meta(min_length=1, max_length=4096)] | None = None
    secret_env: Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)] | None = None


Seed = Annotated[int, Meta(ge=0, le=2**63 - 1, description="a whole number ≥ 0")]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1, description="a whole number ≥ 1")]
CountFromZero = Annotated[int, Meta(ge=0, le=2**31 - 1, description="a whole number ≥ 0")]
Versions = Annotated[int, Meta(ge=2, le=2**31 - 1, description="a whole number ≥ 2")]
Width = Annotated[int, Meta(ge=1, le=1024, description="a whole number in 1..1024")]
Share = Annotated[float, Meta(ge=0, le=1, description="a number in 0..1")]
Held = Annotated[float, Meta(ge=0.01, le=0.9, description="a number in 0.01..0.9")]
Error = Annotated[float, Meta(ge=0.0001, le=0.5, description="a number in 0.0001..0.5")]
Decay = Annotated[float, Meta(ge=0, lt=1, description="a number ≥ 0 and < 1")]
Rate = Annotated[float, Meta(gt=0, le=10, description="a number > 0 and ≤ 10")]
Factor = Annotated[float, Meta(gt=0, le=1, description="a number > 0 and ≤ 1")]
Scale = Annotated[float, Meta(gt=0, le=1e6, description="a number > 0")]
Penalty = Annotated[float, Meta(ge=0, le=1e6, description="a number ≥ 0")]
Confidence = Annotated[float, Meta(ge=0.5, lt=1, description="a number ≥ 0.5 and < 1")]
Significance = Annotated[float, Meta(gt=0, lt=0.5, description="a number > 0 and < 0.5")]
Seconds = Annotated[
    float,
    Meta(gt=0, le=3.2e9, extra={"unit": "s"}, description="a duration > 0, such as 30s, 10m, 1h30m or 7d, or seconds"),
]
LineBytes = Annotated[
    int,
    Meta(ge=64, le=2**30, extra={"unit": "bytes"}, description="a size in 64..1GiB, such as 64KiB or 8MiB, or bytes"),
]
Column = Annotated[str, Meta(min_length=1, max_length=256, description="the name of a field")]
Pattern = Annotated[str, Meta(min_length=1, max_length=256)]
Patterns = Annotated[tuple[Pattern, ...], Meta(min_length=1, description="a list of file name patterns, at least one")]
AnyPatterns = Annotated[tuple[Pattern, ...], Meta(description="a list of file name patterns")]
Columns = Annotated[tuple[Column, ...], Meta(min_length=1, max_length=4096, description="a list of field names")]
Prices = Annotated[
    dict[Column, Annotated[float, Meta(ge=0, le=1e12)]],
    Meta(min_length=1, max_length=10_000, description="a mapping of model names to prices ≥ 0"),
]
Scales = Annotated[tuple[Scale, ...], Meta(min_length=1, description="a list of numbers > 0, one per feature")]
Word = Annotated[str, Meta(min_length=1, max_length=4096)]
Command = Annotated[tuple[Word, ...], Meta(min_length=1)]
Commands = Annotated[tuple[Command, ...], Meta(description="a list of commands, each a list of words")]
Webhooks = Annotated[
    tuple[WebhookTarget, ...],
    Meta(max_length=64, description="a list of mappings {url, secret_file} or {url, secret_env}"),
]
Address = Annotated[
    str,
    Meta(
        pattern=r"^(unix:/.+|(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5})$",
        max_length=256,
        description="an address as host:port or unix:/path",
    ),
]


TEACHERS = ("auto", "column", "trained")
"""What `training.teacher` may be; everything else is the path of a model file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteTable:
    """SQLite databases of routing logs: `logs.sqlite: {table: requests}`."""

    table: Annotated[Column | None, "Name of the table; null reads the one that has the fields of the schema."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsSection:
    """Which logs are read, and how."""

    directory: Annotated[Path, "Where the router's logs arrive; searched with its sub-directories. Required."]
    include: Annotated[Patterns, "Names of the files to read."] = (
        "*.jsonl*",
        "*.ndjson*",
        "*.json",
        "*.json.gz",
        "*.json.zst",
        "*.log*",
        "*.csv*",
        "*.tsv*",
        "*.db",
        "*.sqlite",
        "*.sqlite3",
        "*.parquet",
    )
    exclude: Annotated[AnyPatterns, "Names to leave alone although included."] = (".*", "*.tmp", "*.part", "*~")
    format: Annotated[
        Literal["auto", "jsonl"],
        "`auto`: JSON Lines, CSV, TSV, SQLite or Parquet, told apart by content under any name. `jsonl`: nothing but "
        "JSON Lines.",
    ] = "auto"
    max_line_bytes: Annotated[LineBytes, "A longer line is quarantined without being held in memory."] = 1024 * 1024
    idle_timeout_s: Annotated[
        Seconds, "A last line without its end is taken, and a file is moved or deleted, once unchanged for so long."
    ] = 10.0
    after_ingest: Annotated[
        Literal["keep", "archive", "delete"],
        "What becomes of a file that was read to its end and durably committed, and not changed for `idle_timeout`.",
    ] = "keep"
    sqlite: Annotated[SqliteTable | None, "Which table of SQLite databases is read."] = None
    archive: Annotated[Path | None, "Where `after_ingest: archive` moves files, with their sub-directories."] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorFeatures:
    """All features in one array: `schema.features: {field: embedding, dim: 384}`."""

    field: Annotated[Column, "Name of the field that holds the array."]
    dim: Annotated[
        Annotated[int, Meta(ge=1, le=4096, description="a whole number in 1..4096")], "Length of the array, D."
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinFields:
    """Records that come in two lines: `schema.join: {key: task_hash}`."""

    key: Annotated[Column, "Field of both lines that joins them."] = "task_hash"
    kind: Annotated[Column, "Field that tells decisions and outcomes apart."] = "type"
    decision: Annotated[Column, "Its value in decisions."] = "decision"
    outcome: Annotated[Column, "Its value in outcomes."] = "outcome"
    max_age_s: Annotated[Seconds, "A half that waited so long for the other is given up and counted."] = 7 * 86400.0
    max_pending: Annotated[Count, "At most so many wait; those that waited longest are given up and counted."] = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaSection:
    """How a line of the log is read. Turned into `streamtrain.ingest.schema.Schema`."""

    features: Annotated[
        Columns | VectorFeatures, "The features in order: field names, or one array field and its length."
    ] = GUIDE_FEATURES
    label: Annotated[Column, "1 where the lightweight model was good enough, 0 where not, or anything between."] = (
        "lightweight_successful"
    )
    timestamp: Annotated[
        Column | None, "Epoch seconds, epoch milliseconds or RFC 3339; a line without one gets the time of reading."
    ] = "timestamp"
    id: Annotated[Column | None, "Makes a record known again; without one, its file and offset do."] = "id"
    session: Annotated[
        Column | None, "Records of one session stay on one side of every split, and form a sequence."
    ] = None
    teacher: Annotated[Column | None, "A stronger model's probability of label 1, for distillation."] = None
    weight: Annotated[Column | None, "How much a record counts; 1 without."] = None
    propensity: Annotated[Column | None, "Probability with which the logged choice was made."] = None
    slice: Annotated[
        Column | None, "What a record belongs to, such as a task; the gate looks at every slice by itself."
    ] = None
    scores: Annotated[
        Column | None,
        "Score of each model, by name; the label is then 1 where the cheapest is within `tolerance` of the best.",
    ] = None
    prices: Annotated[Prices | None, "Price of each model, by name, in any unit."] = None
    tolerance: Annotated[Penalty, "How much worse than the best still is good enough."] = 0.05
    quality: Annotated[Column | None, "Quality of the one answer given, where an outcome has no scores."] = None
    model: Annotated[Column | None, "The model that gave it; only of the cheapest does `quality` tell the label."] = (
        None
    )
    min_quality: Annotated[Penalty, "Quality that is good enough."] = 0.7
    join: Annotated[
        JoinFields | None, "Records are two lines, decision and outcome: which fields tell; null reads one a line."
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSection:
    """The daemon's own memory."""

    directory: Annotated[Path, "Holds the database of samples and offsets."] = Path("state")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsSection:
    """Where versions are published."""

    directory: Annotated[Path, "The models directory, which routers read."] = Path("models")
    keep: Annotated[Versions, "Versions kept; the current and pinned ones always are."] = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSection:
    """The rolling window and its splits."""

    window: Annotated[Count, "Newest samples that are learned from and judged on."] = 100_000
    max_age_s: Annotated[Seconds | None, "Older samples leave the window; null keeps them."] = None
    reservoir: Annotated[
        Annotated[float, Meta(ge=0, le=0.9, description="a number in 0..0.9")],
        "Share of the window that is a random choice of older samples, half of either label, once it is full.",
    ] = 0.1
    holdout: Annotated[Held, "Share of sessions that candidates are judged on and never trained on."] = 0.2
    max_propensity_weight: Annotated[
        Annotated[float, Meta(ge=1, le=1e6, description="a number ≥ 1")],
        "Largest factor 1/p by which a record of propensity p counts for more.",
    ] = 10.0
    seed: Annotated[Seed, "Seed of splits, initial weights and shuffling."] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSection:
    """Shape of the FastGRNN."""

    hidden_dim: Annotated[Width, "Hidden units, H."] = 16
    nu: Annotated[Scale, "Scale inside the gates' sigmoid."] = 1.0
    zeta: Annotated[Scale, "Scale inside the candidate state's tanh."] = 1.0
    rank: Annotated[Width | None, "Rank of the factors that the matrices are trained as; null trains them whole."] = (
        None
    )
    sequence_length: Annotated[
        Width,
        "Steps of a session that are trained on one after the other, T. More than 1 makes routers keep hidden states, "
        "and the gate judges answers given from them.",
    ] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSection:
    """How weights are fitted, under the guide's names. A null is filled in by the preset."""

    preset: Annotated[
        Literal["auto", "small", "medium", "large"],
        "Fills in every null below; `auto` chooses by the number of samples.",
    ] = "auto"
    learning_rate: Annotated[Rate | None, "Adam's step size when training from scratch."] = None
    batch_size: Annotated[Count | None, "Samples per step."] = None
    epochs: Annotated[Count | None, "At most so many passes when training from scratch."] = None
    validation_split: Annotated[Held | None, "Share of the training sessions kept for early stopping."] = None
    early_stopping_patience: Annotated[
        CountFromZero | None, "Stop after so many epochs without a better validation loss; 0 never stops early."
    ] = None
    lr_decay: Annotated[Factor | None, "Factor on the learning rate every `lr_decay_step` epochs."] = None
    lr_decay_step: Annotated[Count | None, "Epochs between two decays."] = None
    grad_clip: Annotated[Penalty | None, "Largest norm of a gradient; 0 does not clip."] = None
    adam_beta1: Annotated[Decay | None, "Decay of the mean of gradients."] = None
    adam_beta2: Annotated[Decay | None, "Decay of the mean of squared gradients."] = None
    adam_epsilon: Annotated[Factor | None, "Added to Adam's denominator."] = None
    l2_reg: Annotated[Penalty | None, "L2 penalty on weights."] = None
    enable_distillation: Annotated[bool | None, "Learn from a teacher too (`training.teacher`)."] = None
    distillation_temperature: Annotated[Scale | None, "Divides the logits of both teacher and student."] = None
    distillation_alpha: Annotated[Share | None, "Share of the teacher in the loss."] = None
    fine_tune_learning_rate: Annotated[Rate, "Adam's step size when continuing from the current version."] = 0.0001
    fine_tune_epochs: Annotated[Count, "At most so many passes when continuing from the current version."] = 10
    teacher: Annotated[
        Column,
        "Where distillation learns: `column` (`schema.teacher`), `trained` (a larger network, trained on the spot) "
        "or the path of a model file; `auto` takes the column if there is one, else a trained one.",
    ] = "auto"
    teacher_hidden_dim: Annotated[
        CountFromZero, "Hidden units of a trained teacher; 0 takes twice `model.hidden_dim`."
    ] = 0
    quantization_aware_epochs: Annotated[
        CountFromZero, "Last epochs, with the weights rounded to INT8 in the forward pass; kept only where that helps."
    ] = 0
    prune: Annotated[Decay, "Share of each weight matrix that is set to zero, smallest first."] = 0.0
    calibrate: Annotated[
        bool, "Stretch the winner's logits so that its probabilities come true on the validation split."
    ] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerSection:
    """When the daemon trains."""

    min_samples: Annotated[Count, "Fewer samples in the window than that are not trained on."] = 1000
    min_per_class: Annotated[Count, "Fewer training samples of either label than that are not trained on."] = 100
    min_new_samples: Annotated[Count, "So many new samples start the next training."] = 500
    max_interval_s: Annotated[Seconds, "After so long, any new sample starts the next training."] = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSection:
    """What a candidate must show on the holdout to be published. See docs/gate.md."""

    min_accuracy: Annotated[Share, "The floor: accuracy below it is refused; 0 sets none."] = 0.85
    bound: Annotated[
        Literal["point", "lower"], "What must reach the floor: the accuracy, or its lower bound at `confidence`."
    ] = "point"
    beat_baseline: Annotated[bool, "Refuse what is not surely better than always answering the base rate."] = True
    min_auc: Annotated[Share, "Area under the ROC curve below it is refused."] = 0.60
    versus_current: Annotated[
        Literal["not_worse", "better", "off"], "Against the current version on the same samples, by paired tests."
    ] = "not_worse"
    min_holdout: Annotated[Count, "Fewer holdout samples than that judge nothing; training waits."] = 200
    confidence: Annotated[
        Confidence, "One-sided confidence of every bound and test; tightened when the holdout is used again."
    ] = 0.95
    hear_again: Annotated[
        bool, "Hear a candidate again, on what came after it, that was refused for too little evidence."
    ] = True
    slice_min_samples: Annotated[Count, "Slices with fewer holdout samples are not compared by themselves."] = 100
    max_powerful_rise: Annotated[
        Share | None,
        "At most so much more of the traffic may go to the powerful model than with the current version; null sets no "
        "limit.",
    ] = None
    golden: Annotated[
        Path | None, "Cases that must come out right, always: JSON Lines with features and label; null has none."
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSection:
    """What is made of the champion's answers to new samples. See docs/drift.md."""

    detect: Annotated[bool, "Watch for changes of the world, and learn at once from what comes after one."] = True
    adwin_delta: Annotated[
        Significance, "ADWIN's significance: smaller gives fewer false alarms and finds changes later."
    ] = 1e-6
    page_hinkley: Annotated[
        Penalty, "Page-Hinkley's threshold on errors, in wrong decisions more than before; 0 is never an alarm."
    ] = 60.0
    psi: Annotated[
        Penalty,
        "Population stability index of a feature, against the champion's training samples, that is an alarm; 0: none.",
    ] = 0.25
    rollback: Annotated[
        bool, "Roll a version back that is surely worse on new samples than the last one that proved itself."
    ] = True
    rollback_confidence: Annotated[
        Confidence, "That a version which is no worse is never rolled back, however long it is watched."
    ] = 0.993


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSection:
    """What the router does to features before it asks the model, and what is promised of its decisions."""

    input_scale: Annotated[
        Scales | None, "Factors that the router's own feature engineering applies, one per feature; null means none."
    ] = None
    max_error: Annotated[
        Error | None,
        "Most that may go wrong of what is routed to the lightweight model: each version gets the threshold that keeps "
        "it, with `gate.confidence`, by samples set aside for it alone. Null sets none.",
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishSection:
    """What happens around a publish."""

    hooks: Annotated[Commands, "Commands to run after a publish, a rollback and a promotion; no shell reads them."] = ()
    hook_timeout_s: Annotated[Seconds, "A hook that runs longer is killed, with its process group."] = 30.0
    webhooks: Annotated[Webhooks, "Addresses that are told of the same, signed by HMAC-SHA256."] = ()
    webhook_timeout_s: Annotated[Seconds, "For each of at most five tries."] = 5.0
    signing_key: Annotated[
        Path | None,
        "Ed25519 private key (PEM) that signs manifests; `streamtrain keygen` makes one. Null signs nothing.",
    ] = None
    public_key: Annotated[
        Path | None,
        "Public key (PEM) that `versions`, `rollback` and `promote` check by; null takes that of the signing key.",
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSection:
    """The status page."""

    listen: Annotated[Address | None, "Where the status page and `/metrics` answer; null switches both off."] = (
        "127.0.0.1:9155"
    )
    textfile: Annotated[
        Path | None, "File that the metrics are written to every 15 s, for node_exporter's textfile collector."
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSection:
    """What the daemon says of itself, on stderr."""

    format: Annotated[
        Literal["auto", "text", "json"],
        "`text`: a line an event, with the time; `json`: an object a line; `auto`: text, for the journal with its "
        "priority instead of the time.",
    ] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole configuration, checked."""

    logs: LogsSection
    schema: Schema = field(default_factory=Schema)
    state: StateSection = field(default_factory=StateSection)
    models: ModelsSection = field(default_factory=ModelsSection)
    dataset: DatasetSection = field(default_factory=DatasetSection)
    model: ModelSection = field(default_factory=ModelSection)
    training: TrainingSection = field(default_factory=TrainingSection)
    trigger: TriggerSection = field(default_factory=TriggerSection)
    gate: GateSection = field(default_factory=GateSection)
    drift: DriftSection = field(default_factory=DriftSection)
    router: RouterSection = field(default_factory=RouterSection)
    publish: PublishSection = field(default_factory=PublishSection)
    status: StatusSection = field(default_factory=StatusSection)
    log: LogSection = field(default_factory=LogSection)


SECTIONS: dict[str, type[Any]] = {
    "logs": LogsSection,
    "schema": SchemaSection,
    "state": StateSection,
    "models": ModelsSection,
    "dataset": DatasetSection,
    "model": ModelSection,
    "training": TrainingSection,
    "trigger": TriggerSection,
    "gate": GateSection,
    "drift": DriftSection,
    "router": RouterSection,
    "publish": PublishSection,
    "status": StatusSection,
    "log": LogSection,
}
"""Section classes by the name of their section, in order."""
