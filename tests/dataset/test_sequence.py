"""Rows of steps: against a plain loop over sessions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.dataset.sequence import gather, layout, scatter


def plain_layout(groups, timestamps, steps):
    sessions = {}
    for index in sorted(range(len(groups)), key=lambda index: timestamps[index]):
        sessions.setdefault(groups[index], []).append(index)
    rows = []
    for members in sessions.values():
        for start in range(0, len(members), steps):
            row = members[start : start + steps]
            rows.append(row + [-1] * (steps - len(row)))
    return sorted(rows)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=40), st.integers(2, 5))
def test_same_as_a_plain_loop(samples, steps):
    groups = np.array([group for group, _ in samples], np.uint64)
    timestamps = np.array([time for _, time in samples], np.float64)
    index = layout(groups, timestamps, steps)
    assert index.shape[1] == steps
    assert index.tolist() == plain_layout(groups.tolist(), timestamps.tolist(), steps)


def test_one_step_is_the_samples_in_order():
    index = layout(np.array([7, 7, 1], np.uint64), np.array([3.0, 1.0, 2.0]), 1)
    assert index.tolist() == [[0], [1], [2]]
    features = np.arange(6, dtype=np.float32).reshape(3, 2)
    arrays = gather(index, features, np.ones(3, np.float32), np.ones(3, np.float32))
    assert arrays.features.shape == (3, 1, 2)
    assert np.shares_memory(arrays.features, features)
    assert arrays.teachers is None


def test_padding_is_zeros_with_weight_0():
    groups, times = np.array([1, 1, 1], np.uint64), np.array([2.0, 0.0, 1.0])
    index = layout(groups, times, 2)
    assert index.tolist() == [[0, -1], [1, 2]]
    arrays = gather(index, np.full((3, 2), 5, np.float32), np.ones(3, np.float32), np.full(3, 2, np.float32))
    assert arrays.features.tolist() == [[[5, 5], [0, 0]], [[5, 5], [5, 5]]]
    assert arrays.weights.tolist() == [[2, 0], [2, 2]]
    assert arrays.labels.tolist() == [[1, 0], [1, 1]]
    assert all(array.flags.c_contiguous for array in (arrays.features, arrays.labels, arrays.weights))
    assert scatter(index, np.array([[10.0, -1.0], [20.0, 30.0]]), 4)[:3].tolist() == [10, 20, 30]
    assert np.isnan(scatter(index, np.zeros((2, 2)), 4)[3])


def test_teachers_become_logits_and_a_missing_one_stays_missing():
    teachers = np.array([0.5, 0.75, np.nan, 0.0, 1.0], np.float32)
    labels = np.ones(5, np.float32)
    arrays = gather(np.arange(5)[:, None], np.zeros((5, 1), np.float32), labels, labels, teachers)
    expected = [0, np.log(3), np.nan, -13.8155, 13.8155]
    np.testing.assert_allclose(arrays.teachers[:, 0], expected, atol=1e-3)
    padded = gather(np.array([[0, -1]]), np.zeros((5, 1), np.float32), labels, labels, teachers)
    assert padded.teachers.tolist() == [[0, 0]]


def test_nothing_in_nothing_out():
    assert layout(np.empty(0, np.uint64), np.empty(0), 3).shape == (0, 3)
    assert layout(np.empty(0, np.uint64), np.empty(0), 1).shape == (0, 1)


def test_no_steps_is_refused():
    with pytest.raises(ValueError, match="steps is 0"):
        layout(np.empty(0, np.uint64), np.empty(0), 0)
