"""The shuffle without an array."""

import numpy as np
import pytest
from kernel_run import shuffled_order

from streamtrain.kernels.shuffle import RUN_BITS, WINDOW
from streamtrain.train.fit import epoch_key

WAYS = pytest.mark.parametrize("windowed", [False, True], ids=["one by one", "in windows"])


@WAYS
@pytest.mark.parametrize("key", [0, 1, 2**32 - 1, 2**64 - 1, 0xD1B54A32D192ED03])
def test_every_sample_once_for_every_small_size(key, windowed):
    for n in range(1, 301):
        np.testing.assert_array_equal(np.sort(shuffled_order(n, key, windowed)), np.arange(n), err_msg=f"n = {n}")


@WAYS
@pytest.mark.parametrize("n", [65_535, 65_536, 65_537, 100_003, 1_000_000])
def test_every_sample_once_for_large_sizes(n, windowed):
    seen = np.zeros(n, np.int64)
    np.add.at(seen, shuffled_order(n, epoch_key(7, 3), windowed), 1)
    assert (seen == 1).all()


@WAYS
def test_the_same_key_gives_the_same_order(windowed):
    np.testing.assert_array_equal(shuffled_order(5_000, 123, windowed), shuffled_order(5_000, 123, windowed))


@WAYS
def test_epochs_and_seeds_give_different_orders(windowed):
    keys = [epoch_key(seed, epoch) for seed in range(4) for epoch in range(4)]
    assert len(set(keys)) == 16
    orders = [shuffled_order(1_000, key, windowed) for key in keys]
    for i, a in enumerate(orders):
        for b in orders[:i]:
            # Two random orders agree in one place on average.
            assert (a == b).sum() < 12


@WAYS
@pytest.mark.parametrize("n", [50, 200, 1_000, 5_000])
def test_places_are_roughly_uniform(n, windowed):
    """Where a sample goes, and in which half of the batches, over many keys: χ² with its own spread."""
    n_keys = 2_000
    orders = np.stack([shuffled_order(n, epoch_key(11, epoch), windowed) for epoch in range(n_keys)])
    cells = 10
    for column in (0, 1, n // 2, n - 1):
        counts = np.bincount(orders[:, column] * cells // n, minlength=cells)
        expected = n_keys / cells
        chi_squared = ((counts - expected) ** 2 / expected).sum()
        # 9 degrees of freedom: above 40 with probability 1e-5 under true randomness.
        assert chi_squared < 40, (column, counts)


@WAYS
@pytest.mark.parametrize("n", [200, 1_000])
def test_neighbours_are_parted(n, windowed):
    """Samples next to each other (of one session, one hour) rarely share a batch, and steps have no fixed stride."""
    steps = np.concatenate([np.diff(shuffled_order(n, epoch_key(5, epoch), windowed)) for epoch in range(200)])
    values, counts = np.unique(steps, return_counts=True)
    expected_largest = 200 * (n - 1) / n  # steps of ±1 come once an order on average
    assert counts.max() < 2.5 * expected_largest, values[counts.argmax()]
    assert np.mean(np.abs(steps)) == pytest.approx(n / 3, rel=0.05)


@pytest.mark.parametrize("n", [200, 1_000])
def test_no_two_samples_keep_sharing_a_batch(n):
    """How often each pair meets in a batch, in standard deviations, spreads as for independent orders."""
    n_epochs, batch = 300, 32
    batches = np.empty((n_epochs, n), np.int64)
    for epoch in range(n_epochs):
        batches[epoch, shuffled_order(n, epoch_key(3, epoch))] = np.arange(n) // batch
    met = np.stack([(batches == batches[:, [i]]).mean(axis=0) for i in range(n)])
    met = met[~np.eye(n, dtype=bool)]
    share = met.mean()
    scores = (met - share) / np.sqrt(share * (1 - share) / n_epochs)
    assert scores.std() < 1.1
    assert scores.max() < 8


def test_windows_mix_runs_from_everywhere():
    """Neighbours of one run meet in a batch as often as any two of a window, and hardly any pair more often."""
    n, n_epochs, batch = 20_000, 400, 32
    batches = np.empty((n_epochs, n), np.int32)
    for epoch in range(n_epochs):
        batches[epoch, shuffled_order(n, epoch_key(3, epoch), windowed=True)] = np.arange(n) // batch
    # Of the numbers that are hashed, up to half are none of the samples.
    run, in_window = 1 << RUN_BITS, WINDOW * n / 2**15
    for apart in (1, 5, run - 1):
        met = (batches[:, apart:] == batches[:, :-apart]).mean(axis=0)
        # Of one run with probability 1 - apart / run, then in one of the window's other places.
        share = (1 - apart / run) * (batch - 1) / in_window + apart / run * batch / n
        assert met.mean() == pytest.approx(share, rel=0.05), apart
        spread = np.sqrt(share * (1 - share) / n_epochs)
        assert met.std() < 1.25 * spread
        assert met.max() < share + 10 * spread
    # A batch spans the whole set: it is no stretch of it.
    spans = [np.ptp(shuffled_order(n, epoch_key(3, epoch), windowed=True)[:batch]) for epoch in range(50)]
    assert np.mean(spans) > 0.85 * n


def test_runs_do_not_always_begin_in_the_same_place():
    n, run = 20_000, 1 << RUN_BITS
    together = np.zeros((60, n - 1), bool)
    for epoch in range(60):
        order = shuffled_order(n, epoch_key(9, epoch), windowed=True)
        window = np.empty(n, np.int64)
        window[order] = np.arange(n) // (WINDOW // 2)
        together[epoch] = window[1:] == window[:-1]
    parted = ~together
    # Were they fixed, the last of one run and the first of the next would be parted far more often than the others.
    by_place = parted[:, : (n - 1) // run * run].reshape(60, -1, run).mean(axis=(0, 1))
    assert by_place.max() < 1.5 * by_place.min()
