"""Fuzzing: a few hundred inputs in the suite, and for as long as `make fuzz` says."""

from __future__ import annotations

import functools
import inspect
import os
import random
import sys
import time

from hypothesis import HealthCheck, seed, settings

SECONDS = float(os.environ.get("STREAMTRAIN_FUZZ_SECONDS", "0"))
unhurried = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


def for_long(test):
    """Again with other seeds until the time is over; once without a time."""

    @functools.wraps(test)
    def repeated(**fixtures):
        end = time.monotonic() + SECONDS
        while True:
            chosen = random.randrange(1 << 32)
            sys.stdout.write(f"seed {chosen}\n")
            seed(chosen)(test)(**fixtures)
            if time.monotonic() >= end:
                return

    # The fixtures that pytest is to fill in, as Hypothesis tells them.
    repeated.__signature__ = inspect.signature(test)
    return repeated
