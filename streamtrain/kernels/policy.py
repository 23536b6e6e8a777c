"""The one compile policy: every kernel is compiled by a decorator of this file and by nothing else."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from numba import njit, types
from numba.core import config as numba_config

from streamtrain.kernels import cache

# NaN and Inf stay meaningful (no nnan, no ninf): a diverged run must be noticed.
FASTMATH = frozenset({"reassoc", "contract", "arcp", "nsz"})

FLOATS = types.Array(types.float32, 1, "C")
INPUT = types.Array(types.float32, 1, "C", readonly=True)  # takes writable arrays too
DOUBLES = types.Array(types.float64, 1, "C")

_COMPILING = threading.Lock()


def entry(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a kernel that Python calls, for this signature and no other, at once.

    It runs without the GIL, is specialised by the integers that it closes over, and comes from the cache where there
    is one. A call with other types raises TypeError: in service, nothing is compiled by surprise.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        with _COMPILING:
            place = cache.folder(os.environ)
            if place is None:
                return _compile(function, signature, cached=False)
            settings: Any = numba_config
            before = settings.CACHE_DIR
            try:
                # Numba reads this when it is told to cache, which is now.
                settings.CACHE_DIR = str(place)
                return _through_cache(function, signature, place)
            finally:
                settings.CACHE_DIR = before

    return compiled


def _through_cache(function: Callable[..., Any], signature: Any, place: Any) -> Any:
    try:
        with cache.opened(place):
            return _compile(function, signature, cached=True)
    except (OSError, EOFError, ValueError, TypeError, AttributeError, ImportError, IndexError, KeyError):
        # Whatever is wrong with the cache (no space, no lock, a pickle of another program), the kernel is still needed.
        return _compile(function, signature, cached=False)


def _compile(function: Callable[..., Any], signature: Any, cached: bool) -> Any:
    return njit(signature, nogil=True, cache=cached, fastmath=set(FASTMATH), error_model="numpy", boundscheck=False)(
        function
    )


def entry_point(kernel: Any) -> Callable[..., Any]:
    """Return the C function behind a kernel: a call costs half, and nothing looks at the arguments' types.

    For callers that make every argument themselves.
    """
    (signature,) = kernel.signatures
    function: Callable[..., Any] = kernel.overloads[signature].entry_point
    return function


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a step of a kernel: inlined before typing, so that its caller's shapes stay compile-time constants."""
    return njit(inline="always", fastmath=set(FASTMATH), error_model="numpy", boundscheck=False)(function)
