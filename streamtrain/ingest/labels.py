"""Scores of models, and their prices → the label, whether the lightweight model was good enough."""

from __future__ import annotations

import math
from collections.abc import Mapping

from streamtrain.ingest.schema import Schema


class LabelError(ValueError):
    """Scores that no label can be made from; the message says why, in terms of the log."""


class Labeller:
    """Make labels under one schema.

    Parameters
    ----------
    schema : Schema
        Its `prices` are in the unit of its log; only their order counts.
    """

    def __init__(self, schema: Schema) -> None:
        self._field = schema.scores
        self._prices = dict(schema.prices)
        self._tolerance = schema.tolerance
        self._min_quality = schema.min_quality
        self._lightest = min(schema.prices, key=lambda priced: (priced[1], priced[0]))[0] if schema.prices else None

    def from_scores(self, scores: Mapping[str, float | None]) -> float | None:
        """Compare the cheapest model with the best.

        Parameters
        ----------
        scores : mapping of str to float or None
            Score of each model, higher is better; None where it has none.

        Returns
        -------
        float or None
            1 if the cheapest of the models that have a price and a score is within the tolerance of the best score,
            else 0; None where fewer than two models have a score, which compares nothing.

        Raises
        ------
        LabelError
            If none of the models has a price.
        """
        given = {name: score for name, score in scores.items() if score is not None and math.isfinite(score)}
        if len(given) < 2:
            return None
        priced = [name for name in given if name in self._prices]
        if not priced:
            listed = ", ".join(repr(name[:40]) for name in sorted(given)[:5])
            raise LabelError(f"{self._field!r} names {listed}, of which none has a price in schema.prices")
        cheapest = min(priced, key=lambda name: (self._prices[name], name))
        # A hair more than the tolerance, so that 0.90 is within 0.05 of 0.95 in binary too.
        return float(given[cheapest] >= max(given.values()) - self._tolerance - 1e-9)

    def from_quality(self, quality: float | None, model: str | None) -> float | None:
        """Judge the cheapest model by the quality of its own answer.

        Parameters
        ----------
        quality : float or None
            Of the answer that was given.
        model : str or None
            That gave it.

        Returns
        -------
        float or None
            None where another model answered, or nothing is known.
        """
        if quality is None or model is None or model != self._lightest or not math.isfinite(quality):
            return None
        return float(quality >= self._min_quality)
