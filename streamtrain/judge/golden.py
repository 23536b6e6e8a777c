"""The golden set: cases that must come out right, whatever the holdout says, from the first version on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamtrain.types import F32, F64, Rule

_MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class GoldenAnswers:
    """What the candidate answers to the golden cases.

    Attributes
    ----------
    names : tuple of str
        Of the cases, for sentences: "line 3".
    labels : float32, (N,)
        Expected, in 0..1.
    answers : float64, (N,)
        Probabilities of label 1, from the bytes that would be served.
    """

    names: tuple[str, ...]
    labels: F32
    answers: F64


def golden_rule(golden: GoldenAnswers) -> Rule:
    """Refuse what gets a golden case wrong: an answer on the other side of 0.5 than the label, or no number."""
    right = np.isfinite(golden.answers) & ((golden.answers >= 0.5) == (golden.labels >= 0.5))
    wrong = np.flatnonzero(~right)
    n = len(golden.labels)
    if not len(wrong):
        text = f"all {n:,} golden cases come out right"
        return Rule(name="golden", passed=True, figure=0, bound=0, text=text)
    told = ", ".join(
        f"{golden.names[case]}: {golden.answers[case]:.3f} where the label is {golden.labels[case]:g}"
        for case in wrong[:_MOST_TOLD].tolist()
    )
    more = f", and {len(wrong) - _MOST_TOLD:,} more" if len(wrong) > _MOST_TOLD else ""
    text = f"{len(wrong):,} of {n:,} golden cases come out wrong ({told}{more})"
    return Rule(name="golden", passed=False, figure=len(wrong), bound=0, text=text)
