"""Does the log tell anything of what was not tried? Outcomes are mostly logged where the lightweight model was used.

Weighting by 1/p corrects for that as long as every kind of request had some chance p > 0 of being tried (overlap, or
positivity: Rosenbaum and Rubin 1983). A log whose propensities are all 1 had none, or needs none; nothing in it tells
which. One without propensities does not even say that much.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from streamtrain.types import F32, F64

Status = Literal["unknown", "none", "some", "one_route"]

_CERTAIN = 1.0 - 1e-6
_FEW = 0.1
_ALL = 0.995
_ENOUGH = 200


@dataclass(frozen=True, slots=True)
class Exploration:
    """What is known of how the logged choices were made.

    Attributes
    ----------
    status : {"unknown", "none", "some", "one_route"}
        No propensities; all of them 1; some below; or no more than what the current version itself would have sent to
        the lightweight model.
    n_samples, n_known : int
        Of the window, and how many of these have a propensity.
    n_clipped : int
        Whose inverse is larger than `dataset.max_propensity_weight`: for them a bias remains.
    effective : float
        How many samples of equal weight would say as much (Kish 1965).
    warning : bool
        An operator should know.
    text : str
        All that in words.
    """

    status: Status
    n_samples: int
    n_known: int
    n_clipped: int
    effective: float
    warning: bool
    text: str


def explore(columns: Iterable[tuple[F32, F32]], max_weight: float) -> Exploration:
    """Look at weights and propensities of a window.

    Parameters
    ----------
    columns : iterable of (float32, (N,)) pairs
        Weights and propensities (NaN where the log has none), a part of the window at a time.
    max_weight : float
        Largest factor 1/p.

    Returns
    -------
    Exploration
    """
    n = n_known = n_tried = n_clipped = 0
    total = squares = 0.0
    for weights, propensities in columns:
        known = ~np.isnan(propensities)
        chances = propensities[known].astype(np.float64)
        factors = np.ones(len(weights))
        factors[known] = np.minimum(1.0 / chances, max_weight)
        factors *= weights
        n, n_known = n + len(weights), n_known + len(chances)
        n_tried += int((chances < _CERTAIN).sum())
        n_clipped += int((chances * max_weight < 1.0).sum())
        total, squares = total + float(factors.sum()), squares + float((factors**2).sum())
    effective = total**2 / squares if squares else 0.0
    figures = (n, n_known, n_clipped, effective)
    if not n_known:
        text = (
            "the log has no propensities: if outcomes are logged only where the lightweight model was used, what is "
            "learned and measured holds for such requests (set schema.propensity)"
        )
        return Exploration("unknown", *figures, False, text)
    if not n_tried:
        text = (
            f"all {n_known:,} propensities are 1: nothing was ever tried by chance. If outcomes are logged for every "
            "request, all is well; if only where the router chose the lightweight model, nothing is known of the "
            "others, no weight corrects that, and every figure here holds for such requests alone: let the router "
            "send a few of the others to it too, and log with which probability"
        )
        return Exploration("none", *figures, True, text)
    text = f"{n_known:,} of {n:,} samples have a propensity; weighted, they say as much as {effective:,.0f} would"
    if n_clipped:
        text += (
            f"; {n_clipped:,} were tried so rarely that they would count more than {max_weight:g} times, and count "
            "that much (dataset.max_propensity_weight): towards them a bias remains"
        )
    few = effective < _FEW * n
    if few:
        text += "; a few rarely tried requests decide everything: explore more"
    return Exploration("some", *figures, few or n_known < n, text + ("" if n_known == n else "; the others count once"))


def with_one_route(found: Exploration, chosen: F64, threshold: float) -> Exploration:
    """Notice that a log has nothing but what the current version would have sent to the lightweight model.

    Parameters
    ----------
    found : Exploration
    chosen : (N,)
        1 for samples that the current version sends there, 0 for others.
    threshold : float
        From which confidence on.

    Returns
    -------
    Exploration
        With status "one_route" where that is so, and nothing known speaks against it; else `found`.
    """
    if found.status == "some" or len(chosen) < _ENOUGH or float(chosen.mean()) < _ALL:
        return found
    text = (
        f"{int(chosen.sum()):,} of the {len(chosen):,} held-out samples are such as the current version sends to the "
        f"lightweight model (confidence {threshold:.4g} and above): only one route seems ever to be tried. What is "
        "learned and measured holds for such requests alone; let the router send a few of the others to it too, and "
        "log with which probability (schema.propensity)"
    )
    return Exploration(
        "one_route", found.n_samples, found.n_known, found.n_clipped, found.effective, warning=True, text=text
    )
