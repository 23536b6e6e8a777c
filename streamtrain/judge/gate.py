"""The gate decides whether a candidate has earned publication, on samples that it never saw.

It is a list of small rules. Preconditions say whether there is enough to learn from and to judge by; where one fails,
the candidate is skipped and waits. Requirements say whether the candidate is good enough; where one fails, it is
refused. Every rule leaves a line with its figure, its bound and a sentence, whatever the others say.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streamtrain.judge.advice import advise
from streamtrain.judge.evidence import (
    Counts,
    Evidence,
    Figures,
    GateRules,
    counted,
    counts_of,
    figures_of,
)
from streamtrain.judge.golden import golden_rule
from streamtrain.judge.plain import ASKED_SHARE
from streamtrain.judge.reuse import confidence_after
from streamtrain.judge.versus import max_powerful_rise, percent, slices, versus_current_decisions, versus_current_loss
from streamtrain.types import Decision, Rule

MIN_HOLDOUT_PER_CLASS = 10
"""Fewer holdout samples of a class than that: the AUC is noise, and no normal approximation holds."""

MIN_HOLDOUT_SESSIONS = 20
"""Fewer holdout sessions than that: their spread, which every bound is made of, cannot be estimated."""

MAX_SLOPE = 2.0
SMALL_SKILL = 0.1
"""A candidate whose log loss is less than `SMALL_SKILL` below the base rate's must have a calibration slope of at most
`MAX_SLOPE`. Simulated on six logs with 4,000 training samples: good models have slopes of 0.8 to 1.3; models trained on
shuffled labels that pass every other rule (0 to 33 % of them) have 1.7 and more, half of them above 3."""

HEARD_AGAIN = frozenset({"beat_baseline", "beat_any_constant"})
"""Rules that a good candidate may fail because too few samples judge it: it may be heard again on others."""

Precondition = Callable[[Counts, GateRules], Rule | None]
Requirement = Callable[[Figures, GateRules], Rule | None]


def ready(counts: Counts, rules: GateRules) -> Decision | None:
    """Say whether there is enough to train and to judge: asked before training, so that none is wasted.

    Parameters
    ----------
    counts : Counts
    rules : GateRules

    Returns
    -------
    Decision or None
        "skipped" with every precondition in its rules; None when all of them hold.
    """
    lines = _preconditions(counts, rules)
    failed = [line.text for line in lines if not line.passed]
    if not failed:
        return None
    return Decision(outcome="skipped", version=None, reason=_sentence(failed), rules=tuple(lines))


def judge(evidence: Evidence, rules: GateRules) -> Decision:
    """Decide about a candidate.

    Parameters
    ----------
    evidence : Evidence
    rules : GateRules

    Returns
    -------
    Decision
        "skipped" when a precondition fails, "rejected" when a requirement fails, else "published" with the version
        still None. All rules that apply are in `rules`.

    Raises
    ------
    ValueError
        As `counted`, and for probabilities outside 0..1.
    """
    evidence = counted(evidence)
    counts = counts_of(evidence)
    skipped = ready(counts, rules)
    if skipped is not None:
        return skipped
    finite = _finite(evidence)
    lines = [*_preconditions(counts, rules), finite]
    if not finite.passed:
        return Decision(outcome="rejected", version=None, reason=_sentence([finite.text]), rules=tuple(lines))
    figures = figures_of(evidence, rules.slice_min_samples)
    required = [requirement(figures, rules) for requirement in REQUIREMENTS]
    lines.extend(line for line in required if line is not None)
    failed = [line for line in lines if not line.passed]
    return Decision(
        outcome="rejected" if failed else "published",
        version=None,
        reason=_sentence([line.text for line in failed]) if failed else _summary(figures, rules),
        holdout_accuracy=figures.candidate.accuracy,
        current_accuracy=None if figures.comparison is None else figures.comparison.current.accuracy,
        rules=tuple(lines),
        advice=advise(figures, evidence, rules, [line.name for line in failed]),
    )


def may_be_heard_again(decision: Decision) -> bool:
    """Say whether a refused candidate might pass on other samples, by the rules that it failed.

    Parameters
    ----------
    decision : Decision
        From `judge`.

    Returns
    -------
    bool
    """
    failed = {line.name for line in decision.rules if not line.passed}
    return decision.outcome == "rejected" and bool(failed) and failed <= HEARD_AGAIN


def _preconditions(counts: Counts, rules: GateRules) -> list[Rule]:
    lines = (precondition(counts, rules) for precondition in PRECONDITIONS)
    return [line for line in lines if line is not None]


def _min_samples(counts: Counts, rules: GateRules) -> Rule:
    n = counts.n_samples
    return _at_least("min_samples", n, rules.min_samples, f"{n:,} samples in the window")


def _min_per_class(counts: Counts, rules: GateRules) -> Rule:
    n = min(counts.train)
    what = f"{n:,} training samples with label {counts.train.index(n)}"
    return _at_least("min_per_class", n, rules.min_per_class, what)


def _min_holdout(counts: Counts, rules: GateRules) -> Rule:
    n = counts.n_holdout
    return _at_least("min_holdout", n, rules.min_holdout, f"{n:,} holdout samples")


def _holdout_classes(counts: Counts, _rules: GateRules) -> Rule:
    n = min(counts.holdout)
    what = f"{n:,} holdout samples with label {counts.holdout.index(n)}"
    return _at_least("holdout_classes", n, MIN_HOLDOUT_PER_CLASS, what)


def _holdout_sessions(counts: Counts, _rules: GateRules) -> Rule | None:
    n = counts.holdout_sessions
    if n is None:
        return None
    return _at_least("holdout_sessions", n, MIN_HOLDOUT_SESSIONS, f"{n:,} holdout sessions")


def _at_least(name: str, n: int, bound: int, what: str) -> Rule:
    passed = n >= bound
    text = f"{what}, of at least {bound:,} that are needed" if passed else f"only {what}; {bound:,} are needed"
    return Rule(name=name, passed=passed, figure=n, bound=bound, text=text)


def _finite(evidence: Evidence) -> Rule:
    n_bad = int((~np.isfinite(evidence.probabilities)).sum())
    text = "every answer is a number" if n_bad == 0 else f"{n_bad:,} answers on the holdout are NaN or infinite"
    return Rule(name="finite", passed=n_bad == 0, figure=n_bad, bound=0, text=text)


def _min_accuracy(figures: Figures, rules: GateRules) -> Rule | None:
    if rules.min_accuracy <= 0:
        return None
    accuracy = figures.candidate.accuracy
    what = f"accuracy {accuracy:.3f} on {figures.candidate.n_samples:,} holdout samples"
    if rules.bound == "lower":
        confidence = confidence_after(rules.confidence, figures.uses)
        figure = figures.accuracy.lower_share(confidence)
        what += f", at least {figure:.3f} with {percent(confidence)} confidence,"
    else:
        figure = accuracy
    # A weighted mean of 0.85 may come out a rounding error below it.
    passed = figure >= rules.min_accuracy - 1e-12
    text = f"{what} is {'not ' if passed else ''}below the floor of {rules.min_accuracy:.4g}"
    return Rule(name="min_accuracy", passed=passed, figure=figure, bound=rules.min_accuracy, text=text)


def _beat_baseline(figures: Figures, rules: GateRules) -> Rule | None:
    if not rules.beat_baseline:
        return None
    gain, confidence = figures.base_rate_gain, confidence_after(rules.confidence, figures.uses)
    lower = gain.lower(confidence)
    passed = lower > 0
    text = (
        f"log loss {figures.candidate.log_loss:.4f} is {'' if passed else 'not '}better beyond chance than the "
        f"{figures.base_rate_loss:.4f} of always giving the training base rate (gain {gain.mean:.4f}; at least "
        f"{lower:.4f} with {percent(confidence)} confidence)"
    )
    return Rule(name="beat_baseline", passed=passed, figure=lower, bound=0.0, text=text)


def _beat_any_constant(figures: Figures, rules: GateRules) -> Rule | None:
    """Hold the candidate against the constant that fits this very holdout best, so that none passes by luck."""
    if not rules.beat_baseline:
        return None
    loss, bound = figures.candidate.log_loss, figures.candidate.base_rate_log_loss
    # Rounding may leave the best constant a hair's breadth below itself.
    passed = loss < bound - 1e-9
    text = f"log loss {loss:.4f} is {'' if passed else 'not '}below {bound:.4f}, the least that a constant reaches"
    return Rule(name="beat_any_constant", passed=passed, figure=loss, bound=bound, text=text)


def _min_auc(figures: Figures, rules: GateRules) -> Rule | None:
    if rules.min_auc <= 0:
        return None
    auc = figures.candidate.auc
    passed = auc >= rules.min_auc
    text = f"AUC {auc:.3f} is {'not ' if passed else ''}below {rules.min_auc:.4g}"
    return Rule(name="min_auc", passed=passed, figure=auc, bound=rules.min_auc, text=text)


def _learned(figures: Figures, rules: GateRules) -> Rule | None:
    """Refuse what is better than the base rate by accident.

    A model that learned nothing (from shuffled labels, say) still leans some way, and in few dimensions that is the
    right way every now and then: its AUC and its log loss are then truly better than a constant's, on any holdout. What
    gives it away is that its answers hardly leave the base rate, far less than the labels would bear.
    """
    if not rules.beat_baseline:
        return None
    skill = 1.0 - figures.candidate.log_loss / figures.base_rate_loss
    passed = skill >= SMALL_SKILL or figures.slope <= MAX_SLOPE
    side = "below" if skill >= 0 else "above"
    text = (
        f"log loss is {100 * abs(skill):.2g} % {side} the base rate's and the log-odds of the answers fit the labels "
        f"best when multiplied by {figures.slope:.2f}: "
    )
    if not passed:
        text += f"right by accident rather than learned (at most {MAX_SLOPE:g} is allowed)"
    elif figures.slope <= 0:
        text += "not right by accident; the answers point the wrong way"
    else:
        text += "this was learned" if skill >= 0 else "not right by accident"
    return Rule(name="learned", passed=passed, figure=figures.slope, bound=MAX_SLOPE, text=text)


def _plain_model(figures: Figures, rules: GateRules) -> Rule | None:
    """Refuse what is surely nowhere near what the features give away."""
    plain = figures.plain
    if not rules.beat_baseline or plain is None:
        return None
    upper = plain.beyond.upper(rules.confidence)
    passed = upper >= 0
    text = (
        f"a gain of {figures.base_rate_gain.mean:.4f} in log loss over the base rate, where a plain logistic "
        f"regression, fitted to one half of the holdout and asked the other, gains {plain.plain:.4f}: "
        f"{'not surely' if passed else 'surely'} less than {100 * ASKED_SHARE:g} % of it (at most {upper:+.4f} beyond "
        f"that with {percent(rules.confidence)} confidence)"
    )
    return Rule(name="plain_model", passed=passed, figure=upper, bound=0.0, text=text)


def _golden(figures: Figures, _rules: GateRules) -> Rule | None:
    return None if figures.golden is None else golden_rule(figures.golden)


def _holdout_uses(figures: Figures, rules: GateRules) -> Rule:
    """Tell by how much the other rules are stricter than on a fresh holdout. It refuses nothing itself."""
    uses, confidence = figures.uses, confidence_after(rules.confidence, figures.uses)
    if uses == 1:
        text = f"none of the holdout samples was used before: tests hold with {percent(confidence)} confidence"
    else:
        text = (
            f"this is use {uses:.2f} of the holdout samples, earlier ones counted by the share of today's that they "
            f"saw: tests hold with {percent(confidence)} confidence instead of {percent(rules.confidence)}"
        )
    return Rule(name="holdout_uses", passed=True, figure=uses, bound=None, text=text)


PRECONDITIONS: tuple[Precondition, ...] = (
    _min_samples,
    _min_per_class,
    _min_holdout,
    _holdout_classes,
    _holdout_sessions,
)
REQUIREMENTS: tuple[Requirement, ...] = (
    _min_accuracy,
    _beat_baseline,
    _beat_any_constant,
    _min_auc,
    _learned,
    _plain_model,
    versus_current_loss,
    versus_current_decisions,
    slices,
    max_powerful_rise,
    _golden,
    _holdout_uses,
)


def _sentence(texts: list[str]) -> str:
    text = "; ".join(texts)
    return text[0].upper() + text[1:]


def _summary(figures: Figures, rules: GateRules) -> str:
    candidate, comparison = figures.candidate, figures.comparison
    floor = f"floor {rules.min_accuracy:.4g}, " if rules.min_accuracy > 0 else ""
    text = (
        f"Accuracy {candidate.accuracy:.3f} on {candidate.n_samples:,} holdout samples ({floor}always giving the "
        f"commoner answer {candidate.majority_accuracy:.3f}); log loss {candidate.log_loss:.4f} (the base rate "
        f"{figures.base_rate_loss:.4f}); AUC {candidate.auc:.3f}"
    )
    if comparison is None:
        return f"{text}; no current version answers, so there is none to compare with"
    return (
        f"{text}; {comparison.name} on the same samples: accuracy {comparison.current.accuracy:.3f}, "
        f"log loss {comparison.current.log_loss:.4f}"
    )
