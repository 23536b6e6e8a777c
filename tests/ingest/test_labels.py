"""Scores and prices → labels."""

import pytest

from streamtrain.ingest.labels import LabelError, Labeller
from streamtrain.ingest.schema import Schema

SCHEMA = Schema(scores="scores", prices=(("large", 25.0), ("medium", 3.0), ("small", 1.0)))


@pytest.mark.parametrize(
    ("scores", "label"),
    [
        ({"small": 0.9, "large": 0.92}, 1.0),
        ({"small": 0.9, "large": 0.95}, 1.0),  # exactly the tolerance
        ({"small": 0.89, "large": 0.95}, 0.0),
        ({"medium": 0.9, "large": 0.92}, 1.0),  # the cheapest of those that were scored
        ({"small": 0.5, "medium": 0.9, "unpriced": 0.99}, 0.0),
        ({"small": 0.9, "medium": 0.2, "unpriced": 0.99}, 0.0),
        ({"small": 0.97, "unpriced": 0.99}, 1.0),
        ({"small": 0.1}, None),
        ({"small": 0.1, "large": None}, None),
        ({}, None),
    ],
)
def test_the_cheapest_against_the_best(scores, label):
    assert Labeller(SCHEMA).from_scores(scores) == label


def test_scores_without_any_price_are_refused_by_name():
    with pytest.raises(LabelError, match=r"'scores' names 'x', 'y', of which none has a price in schema\.prices"):
        Labeller(SCHEMA).from_scores({"x": 1.0, "y": 2.0})


@pytest.mark.parametrize(
    ("quality", "model", "label"),
    [(0.7, "small", 1.0), (0.69, "small", 0.0), (0.9, "large", None), (None, "small", None), (0.9, None, None)],
)
def test_quality_tells_only_of_the_cheapest(quality, model, label):
    assert Labeller(SCHEMA).from_quality(quality, model) == label
