"""Memory that is free goes back to the machine: a daemon rests far longer than it trains."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # malloc.h of glibc


def share_arenas(count: int = 2) -> bool:
    """Let threads share so many heaps: each that comes and goes would leave its own behind, half empty.

    Parameters
    ----------
    count : int

    Returns
    -------
    bool
        Whether the C library does so.
    """
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    return option is not None and bool(option(_M_ARENA_MAX, count))


def give_back() -> bool:
    """Let the C library return what it keeps for later, which after a training is a good part of what was used.

    Returns
    -------
    bool
        Whether anything was returned; False also where the C library can't (it is not glibc).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim is not None and bool(trim(0))
