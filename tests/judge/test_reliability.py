from __future__ import annotations

import numpy as np
import pytest

from streamtrain.judge.metrics import ece
from streamtrain.judge.reliability import N_BINS, reliability


def test_the_bins_add_up_to_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    p, w = rng.random(5000), rng.exponential(size=5000)
    y = (rng.random(5000) < p**2).astype(float)
    table = reliability(y, p, w)
    assert len(table) == N_BINS
    assert sum(one.n_samples for one in table) == 5000
    assert sum(one.share for one in table) == pytest.approx(1.0)
    gaps = sum(one.share * abs((one.frequency or 0) - (one.confidence or 0)) for one in table)
    assert gaps == pytest.approx(ece(y, p, w), abs=1e-12)
    assert gaps > 0.1


def test_bins_are_half_open_and_the_last_is_closed() -> None:
    table = reliability([1, 0, 1], [0.0, 1 / 15, 1.0])
    assert [one.n_samples for one in table[:2]] == [1, 1]
    assert table[-1].n_samples == 1
    assert (table[0].frequency, table[1].frequency, table[2].frequency) == (1.0, 0.0, None)
