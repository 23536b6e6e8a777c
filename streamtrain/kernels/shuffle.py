"""A shuffled order without a shuffled array: a keyed bijection on 0..n-1.

Multiplication by an odd number, addition and ``x ^= x >> k`` are bijections on b-bit numbers; values past n are walked
on (cycle walking, Black & Rogaway, 2002). Constant memory, constant cost for any n, and the same order for the same
key. The key has to change the multipliers: where it is only added, some pairs of samples share a batch ever again.
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


@inlined
def bits_for(n: int) -> Any:
    """Width b ≥ 2 of the smallest power of two that holds 0..n-1."""
    bits = 2
    while (1 << bits) < n:
        bits += 1
    return bits


@inlined
def next_key(key: Any) -> Any:
    """Key of the next round."""
    key = key * _MULTIPLIER + _INCREMENT
    return key ^ (key >> _HALF_WORD)


@inlined
def shuffled(i: int, n: int, bits: int, key: Any) -> Any:
    """Where position `i` of 0..n-1 goes under `key` (uint64)."""
    mask = (_ONE << u64(bits)) - _ONE
    half = u64((bits + 1) // 2)
    third = u64((bits + 2) // 3)
    key_2 = next_key(key)
    key_3 = next_key(key_2)
    x = u64(i)
    while True:
        x = (x * (key | _ONE) + (key >> _HALF_WORD)) & mask
        x ^= x >> half
        x = (x * (key_2 | _ONE) + (key_2 >> _HALF_WORD)) & mask
        x ^= x >> third
        x = (x * (key_3 | _ONE) + (key_3 >> _HALF_WORD)) & mask
        x ^= x >> half
        if x < u64(n):
            break
    return np.int64(x)
