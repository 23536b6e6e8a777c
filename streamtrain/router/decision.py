"""What a router says to a request, and the ways in which it can have nothing to say."""

from __future__ import annotations

from typing import NamedTuple


class NoModelError(RuntimeError):
    """There is no version to serve with (yet)."""


class ScoringError(RuntimeError):
    """The version that serves could not score a request that it should have, or is not asked for a while after that."""


class RouteDecision(NamedTuple):
    """Answer to one request.

    Attributes
    ----------
    confidence : float
        Probability that the lightweight model is good enough, in 0..1.
    use_lightweight : bool
        ``confidence ≥ threshold and uncertainty ≤ max_uncertainty``, as in Tiny Dancer.
    uncertainty : float
        ``1 - 2 |confidence - 0.5|``: 0 when sure of either answer, 1 at a toss-up.
    version : str
        The version that gave this answer; empty if there is none.
    failure : str or None
        With ``on_error="powerful"``, why no model answered: then it is the powerful model, at confidence 0 and
        uncertainty 1. None where a model did.
    """

    confidence: float
    use_lightweight: bool
    uncertainty: float
    version: str
    failure: str | None = None
