"""What the gate decides by: the evidence, the operator's rules, and the figures that both lead to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from streamtrain.judge.golden import GoldenAnswers
from streamtrain.judge.metrics import Report, calibration_slope, log_losses, report
from streamtrain.judge.paired import MeanDifference, SignTest, mean_difference, sign_test
from streamtrain.judge.plain import PlainGain, plain_gain
from streamtrain.judge.slices import SliceComparison, compare_slices
from streamtrain.types import F32, F64, U64, Bools

Floats = F32 | F64
Bound = Literal["point", "lower"]
VersusCurrent = Literal["not_worse", "better", "off"]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many samples there are to learn from and to judge by, of class 0 and of class 1.

    Attributes
    ----------
    train : (int, int)
        Outside the holdout: training and validation.
    holdout : (int, int)
    holdout_sessions : int or None
        Sessions that the holdout consists of; None where each sample is its own.
    """

    train: tuple[int, int]
    holdout: tuple[int, int]
    holdout_sessions: int | None = None

    @property
    def n_samples(self) -> int:
        """All samples of the window."""
        return sum(self.train) + sum(self.holdout)

    @property
    def n_holdout(self) -> int:
        """Samples of the holdout."""
        return sum(self.holdout)


def class_counts(labels: Floats, weights: Floats | None = None) -> tuple[int, int]:
    """Return the numbers of samples of class 0 and of class 1 (labels ≥ 0.5), leaving out those of weight 0."""
    counted = np.ones(labels.shape, dtype=np.bool_) if weights is None else weights > 0
    positive = int((counted & (labels >= 0.5)).sum())
    return int(counted.sum()) - positive, positive


@dataclass(frozen=True, slots=True)
class GateRules:
    """What the operator asks for, named as in the sections `trigger` and `gate` of the configuration."""

    min_samples: int = 1000
    min_per_class: int = 100
    min_holdout: int = 200
    min_accuracy: float = 0.85
    bound: Bound = "point"
    beat_baseline: bool = True
    min_auc: float = 0.60
    versus_current: VersusCurrent = "not_worse"
    confidence: float = 0.95
    slice_min_samples: int = 100
    max_powerful_rise: float | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about a candidate: its answers on the holdout, and the current version's to the same samples.

    Attributes
    ----------
    labels : float, (N,)
        Of the holdout, in 0..1.
    probabilities : float, (N,)
        The candidate's, of label 1, from the bytes that would be served. NaN and infinity get it refused.
    train_base_rate : float
        Weighted mean label of the training samples.
    n_train_per_class : (int, int)
        Samples outside the holdout (training and validation) of class 0 and of class 1.
    current : float, (N,), or None
        The current version's, to the same samples; None where there is none that can answer.
    weights : float, (N,), or None
        ≥ 0; samples of weight 0 are left out. None weighs all alike.
    groups : uint64, (N,), or None
        Session of each sample; None takes each sample as its own.
    recent_accuracies : tuple of float
        Holdout accuracies of earlier candidates, from the receipts; only for the advice.
    current_version : str or None
        Name of the current version; only for the sentences.
    slices : uint64, (N,), or None
        Slice of each sample, 0 where it has none; None compares no slices.
    slice_names : mapping of int to str
        Names of slices; only for the sentences.
    powerful, current_powerful : bool, (N,), or None
        Which samples a router sends to the powerful model, by the candidate's answers and its threshold, and by those
        of the current version; None where there is none.
    golden : GoldenAnswers or None
        The candidate's answers to the golden cases; None where there are none.
    features : float32, (N, D), or None
        For the plain model that the candidate is held against; None leaves that out.
    uses : float
        How often this holdout was used, this use included; see `streamtrain.judge.reuse`. ≥ 1.
    """

    labels: Floats
    probabilities: Floats
    train_base_rate: float
    n_train_per_class: tuple[int, int]
    current: Floats | None = None
    weights: Floats | None = None
    groups: U64 | None = None
    recent_accuracies: tuple[float, ...] = ()
    current_version: str | None = None
    slices: U64 | None = None
    slice_names: Mapping[int, str] = field(default_factory=dict)
    powerful: Bools | None = None
    current_powerful: Bools | None = None
    golden: GoldenAnswers | None = None
    features: F32 | None = None
    uses: float = 1.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """The candidate against the current version on the same samples. Positive gains are in the candidate's favour.

    Attributes
    ----------
    name : str
        What sentences call the current version.
    current : Report
        Of the current version.
    loss_gain : MeanDifference
        Log loss of the current version minus the candidate's, in nats.
    accuracy_gain : MeanDifference
        Accuracy of the candidate minus that of the current version.
    decisions : SignTest
        Sessions in which the candidate decides more, or fewer, samples right than the current version.
    slices : tuple of SliceComparison, or None
        Those that are large enough; None where no slices are known.
    """

    name: str
    current: Report
    loss_gain: MeanDifference
    accuracy_gain: MeanDifference
    decisions: SignTest
    slices: tuple[SliceComparison, ...] | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that the rules hold against a bound, computed once.

    Attributes
    ----------
    candidate : Report
        Of the candidate on the holdout.
    accuracy : MeanDifference
        The candidate's accuracy with its standard error.
    base_rate_loss : float
        Log loss of always answering the base rate of the training samples, in nats.
    base_rate_gain : MeanDifference
        That, minus the candidate's log loss.
    slope : float
        Calibration slope of the candidate; see `metrics.calibration_slope`.
    comparison : Comparison or None
        None where there is no current version that answers with finite numbers.
    powerful : (float, float) or None
        Share of the samples that go to the powerful model by the candidate and by the current version.
    golden : GoldenAnswers or None
    plain : PlainGain or None
        Where features are known.
    uses : float
        Of `Evidence`.
    """

    candidate: Report
    accuracy: MeanDifference
    base_rate_loss: float
    base_rate_gain: MeanDifference
    slope: float
    comparison: Comparison | None
    powerful: tuple[float, float] | None = None
    golden: GoldenAnswers | None = None
    plain: PlainGain | None = None
    uses: float = 1.0


def counted(evidence: Evidence) -> Evidence:
    """Return the evidence as float64 and without the samples of weight 0, checked.

    Raises
    ------
    ValueError
        Naming the array, for different lengths, labels outside 0..1, negative or infinite weights, a training base rate
        outside 0..1, or fewer uses than 1.
    """
    labels = np.asarray(evidence.labels, dtype=np.float64)
    weights = np.ones_like(labels) if evidence.weights is None else np.asarray(evidence.weights, dtype=np.float64)
    for name in ("probabilities", "current", "weights", "groups", "slices", "powerful", "current_powerful"):
        values = getattr(evidence, name)
        if values is not None and values.shape != (len(labels),):
            raise ValueError(f"gate: {name} have the shape {values.shape} for {len(labels)} labels; expected one each")
    if evidence.features is not None and len(evidence.features) != len(labels):
        raise ValueError(f"gate: {len(evidence.features)} rows of features for {len(labels)} labels")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("gate: weights are negative, NaN or infinite; expected finite ones ≥ 0")
    if not ((labels >= 0) & (labels <= 1)).all():
        raise ValueError("gate: labels are not all in 0..1; expected 1 where the lightweight model was good enough")
    if not 0 <= evidence.train_base_rate <= 1:
        raise ValueError(f"gate: the training base rate is {evidence.train_base_rate}; expected a number in 0..1")
    if not evidence.uses >= 1:
        raise ValueError(f"gate: the holdout was used {evidence.uses} times; expected a number ≥ 1")
    kept = weights > 0

    def of_kept(values: Any) -> Any:
        return None if values is None else values[kept]

    return replace(
        evidence,
        labels=labels[kept],
        probabilities=np.asarray(evidence.probabilities, dtype=np.float64)[kept],
        current=None if evidence.current is None else np.asarray(evidence.current, dtype=np.float64)[kept],
        weights=weights[kept],
        groups=of_kept(evidence.groups),
        slices=of_kept(evidence.slices),
        powerful=of_kept(evidence.powerful),
        current_powerful=of_kept(evidence.current_powerful),
        features=of_kept(evidence.features),
    )


def counts_of(evidence: Evidence) -> Counts:
    """Count the samples of a piece of counted evidence."""
    sessions = None if evidence.groups is None else len(np.unique(evidence.groups))
    return Counts(evidence.n_train_per_class, class_counts(evidence.labels), sessions)


def figures_of(evidence: Evidence, slice_min_samples: int) -> Figures:
    """Compute the figures of a piece of counted evidence whose probabilities are finite.

    Parameters
    ----------
    evidence : Evidence
    slice_min_samples : int
        Smaller slices are not compared.

    Raises
    ------
    ValueError
        For probabilities outside 0..1.
    """
    labels, probabilities, weights, groups = _columns(evidence)
    losses = log_losses(labels, probabilities)
    right = _right(labels, probabilities)
    base_rate_losses = log_losses(labels, evidence.train_base_rate)
    comparison = None
    if evidence.current is not None and np.isfinite(evidence.current).all():
        current = evidence.current.astype(np.float64)
        gained = right - _right(labels, current)
        comparison = Comparison(
            name=evidence.current_version or "the current version",
            current=report(labels, current, weights),
            loss_gain=mean_difference(log_losses(labels, current) - losses, weights, groups),
            accuracy_gain=mean_difference(gained, weights, groups),
            decisions=sign_test(gained, weights, groups),
            slices=None
            if evidence.slices is None
            else compare_slices(gained, weights, groups, evidence.slices, evidence.slice_names, slice_min_samples),
        )
    powerful = None
    if evidence.powerful is not None and evidence.current_powerful is not None:
        shares = [np.average(sent, weights=weights) for sent in (evidence.powerful, evidence.current_powerful)]
        powerful = (float(shares[0]), float(shares[1]))
    return Figures(
        candidate=report(labels, probabilities, weights),
        accuracy=mean_difference(right, weights, groups),
        base_rate_loss=float(np.average(base_rate_losses, weights=weights)),
        base_rate_gain=mean_difference(base_rate_losses - losses, weights, groups),
        slope=calibration_slope(labels, probabilities, weights),
        comparison=comparison,
        powerful=powerful,
        golden=evidence.golden,
        plain=_plain(evidence, labels, weights, base_rate_losses, losses),
        uses=evidence.uses,
    )


def _plain(evidence: Evidence, labels: F64, weights: F64, base_rate_losses: F64, losses: F64) -> PlainGain | None:
    if evidence.features is None:
        return None
    n_trained = sum(evidence.n_train_per_class)
    return plain_gain(evidence.features, labels, weights, evidence.groups, n_trained, base_rate_losses, losses)


def _columns(evidence: Evidence) -> tuple[F64, F64, F64, U64 | None]:
    labels = evidence.labels.astype(np.float64)
    weights = np.ones_like(labels) if evidence.weights is None else evidence.weights.astype(np.float64)
    return labels, evidence.probabilities.astype(np.float64), weights, evidence.groups


def _right(labels: F64, probabilities: F64) -> F64:
    return np.equal(probabilities >= 0.5, labels >= 0.5).astype(np.float64)
