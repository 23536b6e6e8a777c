"""What an operator should know and can do when candidates are refused, or when a rule does not do what it seems to."""

from __future__ import annotations

import math
from statistics import median

from streamtrain.judge.evidence import Evidence, Figures, GateRules

# Rules about what a candidate has learned, whatever floor an operator sets.
_LEARNED = ("beat_baseline", "beat_any_constant", "min_auc", "learned", "plain_model")


def advise(figures: Figures, evidence: Evidence, rules: GateRules, failed: list[str]) -> str | None:
    """Put into words what the verdict means for the operator.

    Parameters
    ----------
    figures : Figures
    evidence : Evidence
    rules : GateRules
    failed : list of str
        Names of the rules that failed.

    Returns
    -------
    str or None
        None when there is nothing to add to the reasons.
    """
    if any(name in failed for name in _LEARNED):
        return _nothing_learned(figures)
    if "min_accuracy" in failed:
        return _floor_too_high(figures, evidence, rules)
    majority = figures.candidate.majority_accuracy
    if 0 < rules.min_accuracy <= majority:
        return (
            f"The floor gate.min_accuracy = {rules.min_accuracy:.3g} tells nothing here: always giving the commoner "
            f"answer is right on {majority:.3f} of the holdout. The rules against the base rate do the work."
        )
    return None


def _nothing_learned(figures: Figures) -> str:
    candidate = figures.candidate
    return (
        f"The candidate does not tell requests apart well enough: AUC {candidate.auc:.3f}, log loss "
        f"{candidate.log_loss:.4f} where always giving the training base rate has {figures.base_rate_loss:.4f}. "
        "More samples may help; if they do not, the features say little about the label: check that schema.features "
        "and schema.label name the right fields, and that label 1 means that the lightweight model was good enough."
    )


def _floor_too_high(figures: Figures, evidence: Evidence, rules: GateRules) -> str:
    candidate, floor = figures.candidate, rules.min_accuracy
    error = figures.accuracy.standard_error
    reached = [*evidence.recent_accuracies, candidate.accuracy]
    known = (
        f"always giving the commoner answer is right on {candidate.majority_accuracy:.3f} of the holdout, this "
        f"candidate on {candidate.accuracy:.3f} (standard error {error:.3f})"
    )
    if len(reached) > 1:
        known += f", the best of the last {len(reached)} on {max(reached):.3f}"
    if max(reached) + 2 * error >= floor:
        text = f"The floor gate.min_accuracy = {floor:.3g} is within reach: {known}. More samples may close the gap."
    else:
        text = f"The floor gate.min_accuracy = {floor:.3g} is out of reach on this data: {known}."
    sensible = math.floor(100 * (median(reached) - 2 * error)) / 100
    if sensible > candidate.majority_accuracy:
        text += (
            f" A floor that makes sense is {sensible:.2f}: above the commoner answer, and two standard errors below "
            "what candidates reach."
        )
    else:
        text += (
            " No floor on accuracy can tell this candidate from the commoner answer with so few samples; "
            "gate.min_accuracy: 0 leaves the decision to the rules against the base rate, which it passes."
        )
    comparison = figures.comparison
    if comparison is not None and comparison.loss_gain.lower(rules.confidence) > 0:
        text += (
            f" Meanwhile the current version serves, with an accuracy of {comparison.current.accuracy:.3f} on the same "
            "samples: the floor keeps a better candidate out."
        )
    return text
