"""A shuffled order without a shuffled array: a keyed bijection on 0..n-1.

Multiplication by an odd number, addition and ``x ^= x >> k`` are bijections on b-bit numbers. Hashing 0, 1, 2, … up to
the next power of two and leaving out what is n or more gives every number below n once, in an order that the key
decides. Constant memory, constant cost for any n, a block of hashes at a time so that they are vectorised. The key has
to change the multipliers: where it is only added, some pairs of samples share a batch ever again.
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


@inlined
def bits_for(n: int) -> Any:
    """Width b of the smallest power of two that holds 0..n-1 and whole blocks."""
    bits = 5
    while (1 << bits) < n:
        bits += 1
    return bits


@inlined
def next_key(key: Any) -> Any:
    """Key of the next round."""
    key = key * _MULTIPLIER + _INCREMENT
    return key ^ (key >> _HALF_WORD)


@inlined
def draw(order: Any, held: Any, hashes: Any, position: int, n: int, bits: int, key: Any) -> Any:
    """Append the next of the shuffled numbers to `order` (int64), which holds `held`; return how many it holds then.

    `position` counts hashed numbers, in steps of `BLOCK` from 0 to ``2**bits``; `hashes` (uint64, `BLOCK`) is working
    memory. Between 0 and `BLOCK` numbers are appended, and `order` needs room for all of them.
    """
    mask = (_ONE << u64(bits)) - _ONE
    half = u64((bits + 1) // 2)
    third = u64((bits + 2) // 3)
    key_2 = next_key(key)
    key_3 = next_key(key_2)
    odd, odd_2, odd_3 = key | _ONE, key_2 | _ONE, key_3 | _ONE
    high, high_2, high_3 = key >> _HALF_WORD, key_2 >> _HALF_WORD, key_3 >> _HALF_WORD
    for i in range(BLOCK):
        x = u64(position + i)
        x = (x * odd + high) & mask
        x ^= x >> half
        x = (x * odd_2 + high_2) & mask
        x ^= x >> third
        x = (x * odd_3 + high_3) & mask
        hashes[i] = x ^ (x >> half)
    limit = u64(n)
    for i in range(BLOCK):
        order[held] = np.int64(hashes[i])
        held += np.int64(hashes[i] < limit)
    return held
