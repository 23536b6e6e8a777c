"""Stable splits: a group is on the same side for its whole life, on every machine."""

from __future__ import annotations

import hashlib

import numpy as np

from streamtrain.types import U64, Bools

HOLDOUT = "holdout"
VALIDATION = "validation"
PROMISE = "promise"


def in_fraction(groups: U64, fraction: float, seed: int, salt: str) -> Bools:
    """Choose about `fraction` of the groups by hash.

    A group's side depends on its hash, the seed and the salt only: not on the other samples, the order or the window.
    Different salts choose independently of each other. The mixing is splitmix64's finalizer (Steele, Lea and Flood
    2014, "Fast splittable pseudorandom number generators").

    Parameters
    ----------
    groups : uint64, (N,)
        `Samples.groups`.
    fraction : float
        Share to choose, in 0..1.
    seed : int
        Any whole number; its low 64 bits count.
    salt : str
        What the split is for: `HOLDOUT`, `VALIDATION`, `PROMISE`, …

    Returns
    -------
    bool, (N,)

    Raises
    ------
    ValueError
        If `fraction` is outside 0..1.
    """
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"in_fraction: fraction is {fraction}, expected a number in 0..1")
    salted = hashlib.blake2b(f"{seed & (2**64 - 1)}:{salt}".encode(), digest_size=8).digest()
    bits = mix(groups ^ np.uint64(int.from_bytes(salted, "little")))
    # 53 bits are exact in a float64, so that fraction 1 chooses everything and 0 nothing.
    return (bits >> np.uint64(11)).astype(np.float64) < fraction * 2.0**53


def split(groups: U64, fraction: float, seed: int, salt: str = HOLDOUT) -> tuple[Bools, Bools]:
    """Split into the rest and the chosen `fraction`.

    Parameters
    ----------
    groups, fraction, seed, salt
        As for `in_fraction`.

    Returns
    -------
    rest, chosen : bool, (N,)
        Complementary masks.
    """
    chosen = in_fraction(groups, fraction, seed, salt)
    return ~chosen, chosen


def mix(values: U64) -> U64:
    """Apply the finalizer of splitmix64, a bijection of 64 bits."""
    bits = values + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
