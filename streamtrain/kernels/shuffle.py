"""A shuffled order without a shuffled array: a keyed bijection on 0..n-1.

Multiplication by an odd number and ``x ^= x >> k`` are bijections on b-bit numbers; values past n are walked on
(cycle walking, Black & Rogaway, 2002). Constant memory, constant cost for any n, and the same order for the same key.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamtrain.kernels.policy import inlined

u64 = np.uint64
_ODD_1, _ODD_2, _ODD_3 = u64(0x9E3779B97F4A7C15), u64(0xD1342543DE82EF95), u64(0xAF251AF3B0F025B5)
_ONE = u64(1)


@inlined
def bits_for(n: int) -> Any:
    """Width b ≥ 2 of the smallest power of two that holds 0..n-1."""
    bits = 2
    while (1 << bits) < n:
        bits += 1
    return bits


@inlined
def shuffled(i: int, n: int, bits: int, key: Any) -> Any:
    """Where position `i` of 0..n-1 goes under `key` (uint64)."""
    mask = (_ONE << u64(bits)) - _ONE
    half = u64((bits + 1) // 2)
    third = u64((bits + 2) // 3)
    x = u64(i)
    while True:
        x = (x * _ODD_1 + key) & mask
        x ^= x >> half
        x = (x * _ODD_2 + (key >> u64(32))) & mask
        x ^= x >> third
        x = (x * _ODD_3) & mask
        x ^= x >> half
        if x < u64(n):
            break
    return np.int64(x)
