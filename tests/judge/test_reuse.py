from __future__ import annotations

import json

import numpy as np
import pytest

from streamtrain.judge.reuse import MOST_KEPT, HoldoutUses, allowance, confidence_after
from streamtrain.types import U64


def keys(n: int, seed: int = 0) -> U64:
    return np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64)


def test_all_uses_together_spend_at_most_twice_what_the_first_does() -> None:
    assert allowance(1.0) == 1.0
    spent = sum(allowance(k) for k in range(1, 100_000))
    assert 1.9999 < spent < 2.0
    assert confidence_after(0.95, 1.0) == pytest.approx(0.95)
    assert confidence_after(0.95, 4.0) == pytest.approx(0.995)


def test_a_holdout_that_stays_counts_every_use() -> None:
    uses, holdout = HoldoutUses.none(), keys(500)
    for k in range(1, 30):
        assert uses.of(np.random.default_rng(k).permutation(holdout)) == pytest.approx(k)
        uses = uses.after(holdout)


def test_a_holdout_that_is_new_was_never_used() -> None:
    uses = HoldoutUses.none().after(keys(500)).after(keys(500))
    assert uses.of(keys(500, seed=1)) == 1.0
    assert uses.of(keys(500)) == 3.0
    assert uses.after(keys(500, seed=1)).of(keys(500)) == 1.0  # what left is forgotten


def test_each_use_counts_by_the_share_of_todays_samples_that_it_saw() -> None:
    stream, uses = keys(20_000), HoldoutUses.none()
    n, step = 1000, 250
    for cycle in range(20):
        today = stream[cycle * step : cycle * step + n]
        seen_before = [max(0, n - back * step) / n for back in range(1, cycle + 1)]
        assert uses.of(today) == pytest.approx(1 + sum(seen_before))
        uses = uses.after(today)


def test_it_survives_json() -> None:
    uses = HoldoutUses.none().after(keys(300)).after(keys(300)[:200])
    again = HoldoutUses.from_json(json.loads(json.dumps(uses.to_json())))
    assert again.of(keys(300)[:200]) == 3.0
    assert again.to_json() == uses.to_json()


@pytest.mark.parametrize(
    "spoilt", [None, 3, [], {}, {"keys": "x", "counts": "", "limit": 1}, {"keys": "AAAA", "counts": "AAAA", "limit": 4}]
)
def test_what_is_no_such_fact_is_nothing_used_yet(spoilt: object) -> None:
    assert HoldoutUses.from_json(spoilt).of(keys(10)) == 1.0


def test_a_large_holdout_is_remembered_by_a_sample_of_it() -> None:
    stream, uses = keys(200_000), HoldoutUses.none()
    n, step = 50_000, 5_000
    for cycle in range(12):
        today = stream[cycle * step : cycle * step + n]
        exact = 1 + sum(max(0, n - back * step) / n for back in range(1, cycle + 1))
        assert uses.of(today) == pytest.approx(exact, rel=0.02)
        uses = uses.after(today)
        assert len(uses.keys) == MOST_KEPT
    assert len(json.dumps(uses.to_json())) < 20 * MOST_KEPT


def test_a_holdout_that_shrinks_and_grows_again_keeps_its_count() -> None:
    stream, uses = keys(40_000), HoldoutUses.none()
    for n in (40_000, 10_000, 40_000):
        uses = uses.after(stream[:n])
    assert uses.of(stream[:10_000]) == pytest.approx(4.0, rel=0.05)


def test_a_part_that_was_used_leaves_the_rest_remembered() -> None:
    whole = keys(2000)
    uses = HoldoutUses.none()
    for _ in range(10):
        uses = uses.after(whole)
    uses = uses.after(whole[:300], whole)
    assert uses.of(whole) == pytest.approx(11 + 300 / 2000, rel=1e-5)
    assert uses.of(whole[:300]) == pytest.approx(12)
