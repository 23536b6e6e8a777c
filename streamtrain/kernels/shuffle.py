"""A shuffled order without a shuffled array: a keyed bijection on 0..n-1.

Multiplication by an odd number, addition and ``x ^= x >> k`` are bijections on b-bit numbers. Hashing 0, 1, 2, … up to
the next power of two and leaving out what is n or more gives every number below n once, in an order that the key
decides. Constant memory, constant cost for any n, `BLOCK` hashes at a time so that they are vectorised. The key has
to change the multipliers: where it is only added, some pairs of samples share a batch ever again.

Far more samples than the caches hold are shuffled in two steps instead, as in CorgiPile (Xu et al., SIGMOD 2022): whole
runs of neighbours are drawn at random, and the samples of `RUNS` of them, a window, are shuffled among each other.
Memory is then read in runs of whole cache lines; one by one, a sample of five features costs three lines of which it
uses a seventh. Where runs begin changes with the key, so that no two samples are always of one run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtrain.kernels.policy import inlined

u64 = np.uint64
# From one round's key to the next: Steele & Vigna's multiplier (2022) and the golden ratio of 64 bits.
_MULTIPLIER, _INCREMENT = u64(0xD1342543DE82EF95), u64(0x9E3779B97F4A7C15)
_HALF_WORD = u64(32)
_ONE = u64(1)


BLOCK = 32
"""Numbers hashed at a time."""
RUN_BITS, RUNS_BITS = 5, 5
WINDOW = 1 << (RUN_BITS + RUNS_BITS)
"""Samples that are shuffled among each other where the order is made in windows."""
N_STARTS = 2 << RUNS_BITS
"""Runs of two windows: the one that is drawn from and the one that is asked for."""
_RUN, _RUNS = u64(RUN_BITS), u64(RUNS_BITS)
_IN_RUN, _IN_WINDOW = u64((1 << RUN_BITS) - 1), u64(WINDOW - 1)
_HALF_WINDOW = u64((RUN_BITS + RUNS_BITS) // 2)
_PHASE = u64(20)  # bits of the key that decide where runs begin


@inlined
def bits_for(n: int) -> Any:
    """Width b of the smallest power of two that holds 0..n-1 and whole blocks."""
    bits = 5
    while (1 << bits) < n:
        bits += 1
    return bits


@inlined
def windowed_bits_for(n: int) -> Any:
    """As `bits_for`, for an order in windows: whole windows, and a first run that may begin before sample 0."""
    return max(bits_for(n + (1 << RUN_BITS)), RUN_BITS + RUNS_BITS)


@inlined
def next_key(key: Any) -> Any:
    """Key of the next round."""
    key = key * _MULTIPLIER + _INCREMENT
    return key ^ (key >> _HALF_WORD)


@inlined
def scrambled(x: Any, bits: int, key: Any) -> Any:
    """Keyed bijection on 0..2**bits-1, uint64."""
    mask = (_ONE << u64(bits)) - _ONE
    half = u64((bits + 1) // 2)
    third = u64((bits + 2) // 3)
    key_2 = next_key(key)
    key_3 = next_key(key_2)
    x = (x * (key | _ONE) + (key >> _HALF_WORD)) & mask
    x ^= x >> half
    x = (x * (key_2 | _ONE) + (key_2 >> _HALF_WORD)) & mask
    x ^= x >> third
    x = (x * (key_3 | _ONE) + (key_3 >> _HALF_WORD)) & mask
    return x ^ (x >> half)


@inlined
def draw(order: Any, held: Any, hashes: Any, position: int, n: int, bits: int, key: Any) -> Any:
    """Append the next of the shuffled numbers to `order` (int64), which holds `held`; return how many it holds then.

    `position` counts hashed numbers, in steps of `BLOCK` from 0 to ``2**bits``; `hashes` (uint64, `BLOCK`) is working
    memory. Between 0 and `BLOCK` numbers are appended, and `order` needs room for all of them.
    """
    for i in range(BLOCK):
        hashes[i] = scrambled(u64(position + i), bits, key)
    limit = u64(n)
    for i in range(BLOCK):
        order[held] = np.int64(hashes[i])
        held += np.int64(hashes[i] < limit)
    return held


@inlined
def run_start(run: int, bits: int, key: Any) -> Any:
    """First sample of the run that is drawn as number `run`, int64; the run may reach beyond 0..n-1 on both sides."""
    phase = (key >> _PHASE) & _IN_RUN
    return np.int64((scrambled(u64(run), bits - RUN_BITS, key) << _RUN) - phase)


@inlined
def draw_in_window(order: Any, held: Any, hashes: Any, starts: Any, position: int, n: int, key: Any) -> Any:
    """As `draw`, in windows: `starts` (int64, `N_STARTS`) holds at ``run % N_STARTS`` where each run of it starts."""
    window = u64(position) >> (_RUN + _RUNS)
    key = next_key(key ^ (window * _MULTIPLIER))
    key_2 = next_key(key)
    for i in range(BLOCK):
        x = u64(position + i) * (key | _ONE) + (key >> _HALF_WORD) & _IN_WINDOW
        x ^= x >> _HALF_WINDOW
        x = x * (key_2 | _ONE) + (key_2 >> _HALF_WORD) & _IN_WINDOW
        hashes[i] = x ^ (x >> _HALF_WINDOW)
    first, limit = window << _RUNS, u64(n)
    for i in range(BLOCK):
        start = starts[(first + (hashes[i] >> _RUN)) & u64(N_STARTS - 1)]
        sample = u64(start) + (hashes[i] & _IN_RUN)  # a huge number where it lies before sample 0
        order[held] = np.int64(sample)
        held += np.int64(sample < limit)
    return held
