"""The stable split: shares, independence, and no sample ever on two sides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.dataset.split import HOLDOUT, VALIDATION, in_fraction, split

FROZEN = [2, 7, 10, 20, 22, 29, 31]
GROUPS = np.random.default_rng(0).integers(0, 2**64, 100_000, np.uint64)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("groups", [GROUPS, np.arange(100_000, dtype=np.uint64)], ids=["hashes", "numbers"])
def test_about_the_fraction_is_chosen(fraction, groups):
    share = in_fraction(groups, fraction, 0, HOLDOUT).mean()
    assert abs(share - fraction) <= 5 * np.sqrt(fraction * (1 - fraction) / len(groups))


def test_salts_and_seeds_choose_independently():
    first = in_fraction(GROUPS, 0.3, 0, HOLDOUT)
    for other in (in_fraction(GROUPS, 0.3, 0, VALIDATION), in_fraction(GROUPS, 0.3, 1, HOLDOUT)):
        assert np.mean(first & other) == pytest.approx(0.09, abs=0.006)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50), st.floats(0, 1), st.integers(), st.text(max_size=5))
def test_a_group_is_on_one_side_whatever_comes_with_it(numbers, fraction, seed, salt):
    groups = np.array(numbers, np.uint64)
    chosen = in_fraction(groups, fraction, seed, salt)
    for group, side in zip(groups, chosen, strict=True):
        assert in_fraction(np.array([group]), fraction, seed, salt)[0] == side


def test_sides_never_change_between_releases():
    """A frozen example: a change here would leak training samples into every holdout that exists."""
    assert np.flatnonzero(in_fraction(np.arange(40, dtype=np.uint64), 0.2, 0, HOLDOUT)).tolist() == FROZEN


def test_growing_the_fraction_only_adds():
    small, large = in_fraction(GROUPS, 0.1, 3, "x"), in_fraction(GROUPS, 0.2, 3, "x")
    assert not np.any(small & ~large)


def test_split_is_complementary():
    rest, chosen = split(GROUPS, 0.2, 0)
    assert np.array_equal(rest, ~chosen)


def test_a_fraction_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"fraction is 1\.5, expected a number in 0\.\.1"):
        in_fraction(GROUPS, 1.5, 0, HOLDOUT)
