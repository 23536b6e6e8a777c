"""The one compile policy: every kernel is compiled by a decorator of this file and by nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

# NaN and Inf stay meaningful (no nnan, no ninf): a diverged run must be noticed.
FASTMATH = frozenset({"reassoc", "contract", "arcp", "nsz"})


def entry(function: Callable[..., Any]) -> Any:
    """Compile a kernel that Python calls: no GIL, cached on disk, specialised by the integers it closes over."""
    return njit(nogil=True, cache=True, fastmath=set(FASTMATH), error_model="numpy", boundscheck=False)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a step of a kernel: inlined before typing, so that its caller's shapes stay compile-time constants."""
    return njit(inline="always", fastmath=set(FASTMATH), error_model="numpy", boundscheck=False)(function)
