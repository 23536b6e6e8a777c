"""What an operator should know and can do when candidates are refused, or when a rule does not do what it seems to."""

from __future__ import annotations

import math
from statistics import median

from streamtrain.judge.evidence import Evidence, Figures, GateRules
from streamtrain.judge.reuse import confidence_after

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
        return _worn_out(figures, rules, failed) or _nothing_learned(figures)
    if "min_accuracy" in failed:
        return _floor_too_high(figures, evidence, rules)
    majority = figures.candidate.majority_accuracy
    if 0 < rules.min_accuracy <= majority:
        return (
            f"The floor gate.min_accuracy = {rules.min_accuracy:.3g} tells nothing here: always giving the commoner "
            f"answer is right on {majority:.3f} of the holdout. The rules against the base rate do the work."
        )
    return None


def _worn_out(figures: Figures, rules: GateRules, failed: list[str]) -> str | None:
    """Say what helps where fresh samples would have convinced, but ones that were used so often do not."""
    only = [name for name in failed if name in _LEARNED] == ["beat_baseline"]
    if not only or figures.uses == 1 or figures.base_rate_gain.lower(rules.confidence) <= 0:
        return None
    return (
        f"On fresh samples this gain would do; these were used {figures.uses:.1f} times, so that more is asked for. "
        "New sessions wear that off. To train less often on hardly anything new, raise trigger.min_new_samples and "
        "trigger.max_interval; to judge by more samples, raise dataset.window or dataset.holdout."
    )


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
    # With gate.bound: lower, what counts lies so much below the accuracy.
    below = 0.0
    if rules.bound == "lower":
        below = candidate.accuracy - figures.accuracy.lower_share(confidence_after(rules.confidence, figures.uses))
        known += f"; its lower bound, which counts, lies {below:.3f} below that"
    if max(reached) - below + 2 * error >= floor:
        text = f"The floor gate.min_accuracy = {floor:.3g} is within reach: {known}. More samples may close the gap."
    else:
        text = f"The floor gate.min_accuracy = {floor:.3g} is out of reach on this data: {known}."
    sensible = math.floor(100 * (median(reached) - below - 2 * error)) / 100
    if sensible > candidate.majority_accuracy:
        text += (
            f" A floor that makes sense is {sensible:.2f}: above the commoner answer, and two standard errors below "
            f"what candidates reach{' by that bound' if below else ''}."
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
