"""The candidate against the current version, slice by slice: better on the whole must not mean worse for somebody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from streamtrain.judge.paired import MeanDifference, SignTest, mean_difference, sign_test
from streamtrain.types import F64, U64, Rule

NO_SLICE = 0
"""The hash of samples that belong to no slice. They are compared with the whole only."""

_MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class SliceComparison:
    """One slice of the holdout.

    Attributes
    ----------
    name : str
    n_samples : int
    gain : MeanDifference
        Accuracy of the candidate minus that of the current version.
    decisions : SignTest
        Sessions in which the candidate decides more, or fewer, samples of the slice right.
    """

    name: str
    n_samples: int
    gain: MeanDifference
    decisions: SignTest


def compare_slices(
    gained: F64, weights: F64, groups: U64 | None, slices: U64, names: Mapping[int, str], min_samples: int
) -> tuple[SliceComparison, ...]:
    """Compare two versions' decisions within each slice that is large enough.

    Parameters
    ----------
    gained : float64, (N,)
        Right by the candidate (1 or 0) minus right by the current version.
    weights : float64, (N,)
        > 0.
    groups : uint64, (N,), or None
        Session of each sample.
    slices : uint64, (N,)
        Slice of each sample; `NO_SLICE` where it has none.
    names : mapping of int to str
        Of slices; one that is missing here is called by its hash.
    min_samples : int
        Smaller slices are left out.

    Returns
    -------
    tuple of SliceComparison
        In the order of their names.
    """
    order = np.argsort(slices, kind="stable")
    found, starts, sizes = np.unique(slices[order], return_index=True, return_counts=True)
    compared = []
    for one, start, size in zip(found.tolist(), starts.tolist(), sizes.tolist(), strict=True):
        if one == NO_SLICE or size < min_samples:
            continue
        rows = order[start : start + size]
        part = (gained[rows], weights[rows], None if groups is None else groups[rows])
        name = names.get(one, f"{one:016x}")
        compared.append(SliceComparison(name, size, mean_difference(*part), sign_test(*part)))
    return tuple(sorted(compared, key=lambda slice_: slice_.name))


def slices_rule(compared: tuple[SliceComparison, ...], of: str, alpha: float, min_samples: int) -> Rule:
    """Refuse what is worse beyond chance in any slice: exact sign tests, Holm's step-down over the slices (Holm 1979).

    Parameters
    ----------
    compared : tuple of SliceComparison
    of : str
        What sentences call the current version.
    alpha : float
        Chance to refuse a candidate that is equally good in every slice, over all slices.
    min_samples : int
        Of the slices that were compared; for the sentence.
    """
    if not compared:
        text = f"no slice has the {min_samples:,} holdout samples that are needed to compare it"
        return Rule(name="slices", passed=True, figure=None, bound=alpha, text=text)
    ordered = sorted(compared, key=lambda slice_: slice_.decisions.p_worse)
    worse, adjusted = [], 0.0
    for n_before, slice_ in enumerate(ordered):
        adjusted = max(adjusted, min(1.0, (len(ordered) - n_before) * slice_.decisions.p_worse))
        if adjusted >= alpha:
            break
        # Many small sessions lost against few large ones won is no loss of accuracy.
        if slice_.gain.mean < 0:
            worse.append((slice_, adjusted))
    n_slices = f"{len(compared):,} slice{'s' if len(compared) > 1 else ''} of at least {min_samples:,} samples"
    if not worse:
        least = min(1.0, len(ordered) * ordered[0].decisions.p_worse)
        text = (
            f"of {n_slices} none is worse beyond chance than with {of} (the nearest to it is {_told(ordered[0])}: "
            f"p = {least:.2g} over all slices, refused below {alpha:.2g})"
        )
        return Rule(name="slices", passed=True, figure=least, bound=alpha, text=text)
    told = ", ".join(f"{_told(slice_)}: p = {p:.2g} over all slices" for slice_, p in worse[:_MOST_TOLD])
    more = f", and {len(worse) - _MOST_TOLD:,} more" if len(worse) > _MOST_TOLD else ""
    text = f"of {n_slices} {len(worse):,} worse beyond chance than with {of} ({told}{more}; refused below {alpha:.2g})"
    return Rule(name="slices", passed=False, figure=worse[0][1], bound=alpha, text=text)


def _told(slice_: SliceComparison) -> str:
    test = slice_.decisions
    return (
        f"'{slice_.name}', accuracy {100 * slice_.gain.mean:+.1f} points on {slice_.n_samples:,} samples, "
        f"{test.n_better:,} won, {test.n_worse:,} lost"
    )
