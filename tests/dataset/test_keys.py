"""The index of keys against a plain set."""

import numpy as np
import pytest

from streamtrain.dataset.keys import KeyIndex


def keys(*values):
    return np.array(values, np.uint64)


def test_only_new_keys_are_fresh_and_of_equal_ones_the_first():
    index = KeyIndex([keys(5, 1), keys(9)])
    assert index.fresh(keys(9, 2, 2, 1, 7, 2)).tolist() == [False, True, False, False, True, False]
    assert index.fresh(keys()).tolist() == []
    assert len(index) == 3


@pytest.mark.parametrize("seed", range(5))
def test_same_as_a_set_over_many_batches(seed):
    rng = np.random.default_rng(seed)
    index, plain = KeyIndex(), set()
    for _ in range(200):
        batch = rng.integers(0, 5000, rng.integers(0, 60)).astype(np.uint64)
        fresh = index.fresh(batch)
        expected, within = [], set()
        for key in batch.tolist():
            expected.append(key not in plain and key not in within)
            within.add(key)
        assert fresh.tolist() == expected
        index.add(batch[fresh])
        plain |= within
        assert len(index) == len(plain)


def test_the_number_of_arrays_stays_logarithmic():
    index = KeyIndex()
    for number in range(1000):
        index.add(keys(number))
    assert len(index._runs) <= 10
    assert index.fresh(np.arange(1001, dtype=np.uint64)).sum() == 1


def test_extreme_keys():
    index = KeyIndex([keys(0, 2**64 - 1)])
    assert index.fresh(keys(2**64 - 1, 0, 2**63)).tolist() == [False, False, True]
