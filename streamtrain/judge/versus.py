"""The rules that hold a candidate against the current version, on the same holdout samples.

What `versus_current` promises, at the default confidence of 0.95 and on a holdout of 5,000 (docs/judgement.md has the
figures, `make bench-judgement` makes them):

- ``better``: a candidate that is no better is published in at most 1 of 100 cases.
- ``not_worse``: a candidate that decides 2 points worse is published in at most 1 of 100 cases, and one that is equally
  good in at least 85.
"""

from __future__ import annotations

import math

from streamtrain.judge.distributions import normal_tail, normal_upper
from streamtrain.judge.evidence import Comparison, Figures, GateRules
from streamtrain.judge.reuse import allowance
from streamtrain.judge.slices import slices_rule
from streamtrain.types import Rule

LEAST_DIFFERENCE = 0.01
"""A log loss that differs by less than this share of the current version's counts as the same. Trainings on fresh draws
of the same data do differ in truth: on four logs, with 3,000 or 4,000 samples to train on, by 0.7 to 1.1 % (standard
deviation). On a large holdout that is beyond chance, but neither worth a swap nor a refusal."""

SERIOUS_LOSS = 0.02
"""Share of decisions whose loss `not_worse` is to notice."""

MOST_REFUSED = 0.10
"""At most this share of equally good candidates may be refused for the sake of noticing a serious loss."""

_TENTH = 0.1


def versus_current_loss(figures: Figures, rules: GateRules) -> Rule | None:
    """Compare log losses, by a bound on their paired mean difference."""
    comparison = figures.comparison
    if comparison is None or rules.versus_current == "off":
        return None
    gain, least = comparison.loss_gain, LEAST_DIFFERENCE * comparison.current.log_loss
    losses = f"log loss {figures.candidate.log_loss:.4f} against {comparison.current.log_loss:.4f} of {comparison.name}"
    if rules.versus_current == "better":
        # The one that carries the budget: with equals, whatever else is asked, no more than this gets through.
        confidence = 1.0 - _TENTH * (1.0 - rules.confidence) * allowance(figures.uses)
        figure, bound = gain.lower(confidence), least
        passed = figure > bound
        text = (
            f"{losses} is {'' if passed else 'not '}better beyond chance by more than {bound:.4f} (gain "
            f"{gain.mean:.4f}; at least {figure:.4f}"
        )
    else:
        # A hair's breadth in log loss is let pass only where decisions hold what they were.
        least = least if comparison.accuracy_gain.mean > -SERIOUS_LOSS / 4 else 0.0
        confidence = _each_of_two(rules.confidence)
        figure, bound = gain.upper(confidence), -least
        passed = figure >= bound
        text = (
            f"{losses} is {'not ' if passed else ''}worse beyond chance{f' by more than {least:.4f}' if least else ''} "
            f"(gain {gain.mean:.4f}; at most {figure:.4f}"
        )
    text += f" with {percent(confidence)} confidence)"
    return Rule(name="versus_current_loss", passed=passed, figure=figure, bound=bound, text=text)


def versus_current_decisions(figures: Figures, rules: GateRules) -> Rule | None:
    """Compare decisions, by the exact sign test over sessions (McNemar's where each sample is its own)."""
    comparison = figures.comparison
    if comparison is None or rules.versus_current == "off":
        return None
    test, name = comparison.decisions, "versus_current_decisions"
    text = f"accuracy {figures.candidate.accuracy:.3f} against {comparison.current.accuracy:.3f} of {comparison.name} "
    won = f"({test.n_better:,} won, {test.n_worse:,} lost; between equals that happens with p = "
    if rules.versus_current == "better":
        alpha = 1.0 - _each_of_two(rules.confidence)
        passed = test.p_better < alpha and comparison.accuracy_gain.mean > 0
        text += f"is {'' if passed else 'not '}better beyond chance {won}{test.p_better:.2g}, asked below {alpha:.2g})"
        return Rule(name=name, passed=passed, figure=test.p_better, bound=alpha, text=text)
    alpha = refusal_level(comparison, rules.confidence, figures.uses)
    # Many small sessions lost against few large ones won is no loss of accuracy.
    passed = test.p_worse >= alpha or comparison.accuracy_gain.mean >= 0
    noticed = 1.0 - _missed(comparison, alpha)
    text += (
        f"is {'not ' if passed else ''}worse beyond chance {won}{test.p_worse:.2g}, refused below {alpha:.2g}; a loss "
        f"of {100 * SERIOUS_LOSS:g} points would be refused with {percent(noticed)} probability)"
    )
    return Rule(name=name, passed=passed, figure=test.p_worse, bound=alpha, text=text)


def refusal_level(comparison: Comparison, confidence: float, uses: float) -> float:
    """Return the p-value below which `not_worse` refuses for decisions.

    The larger it is, the more equals are refused and the fewer losses get through. On a large holdout it is half of
    ``1 - confidence``, as one of two tests. On a smaller one it is raised until a loss of `SERIOUS_LOSS` gets through
    no more often than the budget allows (that is a test of non-inferiority with that margin, in terms of the test of
    equality), but never above `MOST_REFUSED`: that fresh models come through matters too.
    """
    least = 1.0 - _each_of_two(confidence)
    error = comparison.accuracy_gain.standard_error
    if not 0 < error < math.inf:
        return least
    miss = _TENTH * (1.0 - confidence) * allowance(uses)
    wanted = normal_tail(SERIOUS_LOSS / error - normal_upper(miss))
    return min(max(wanted, least), max(MOST_REFUSED, least))


def slices(figures: Figures, rules: GateRules) -> Rule | None:
    """Compare decisions within slices."""
    comparison = figures.comparison
    if comparison is None or comparison.slices is None or rules.versus_current == "off":
        return None
    return slices_rule(comparison.slices, comparison.name, 1.0 - rules.confidence, rules.slice_min_samples)


def max_powerful_rise(figures: Figures, rules: GateRules) -> Rule | None:
    """Limit what a version may cost more than the current one: requests that it sends to the powerful model."""
    shares, bound = figures.powerful, rules.max_powerful_rise
    if bound is None or shares is None:
        return None
    candidate, current = shares
    rise = candidate - current
    passed = rise <= bound + 1e-12  # weighted means of the same samples differ by rounding
    text = (
        f"{percent(candidate)} of the requests go to the powerful model, {percent(current)} with "
        f"{'the current version' if figures.comparison is None else figures.comparison.name}, each at its own "
        f"threshold: {100 * rise:+.3g} points, {'not ' if passed else ''}more than the {100 * bound:.4g} allowed"
    )
    return Rule(name="max_powerful_rise", passed=passed, figure=rise, bound=bound, text=text)


def percent(share: float) -> str:
    """Write a share in percent: with as many digits as tell it from 100."""
    missing = 100.0 * (1.0 - share)
    digits = 4 if missing >= 0.01 or missing <= 0 else 2 + math.ceil(-math.log10(missing)) + 1
    return f"{100 * share:.{digits}g} %"


def _missed(comparison: Comparison, alpha: float) -> float:
    """Chance that a serious loss gets past a test at this level."""
    error = comparison.accuracy_gain.standard_error
    if error == 0:
        return 0.0
    return 1.0 - alpha if error == math.inf else normal_tail(SERIOUS_LOSS / error - normal_upper(alpha))


def _each_of_two(confidence: float) -> float:
    """Return the confidence that each of two tests needs so that both together keep to the given one (Bonferroni)."""
    return 1.0 - (1.0 - confidence) / 2.0
