"""Pull again and again: at intervals that differ from host to host, and at growing ones while it fails."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from streamtrain.fleet.errors import FleetError, RemoteError, StoppedError
from streamtrain.fleet.pull import Outcome, Puller
from streamtrain.ops.logs import event
from streamtrain.ops.notify import Notifier
from streamtrain.publish.errors import PublishError

JITTER = 0.2
"""An interval is longer or shorter by up to this share of it: hosts that started together do not ask together."""
FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 60.0

_LOG = logging.getLogger(__name__)
_LONGEST_NAP_S = 5.0  # between two kicks of the watchdog


def follow(
    puller: Puller,
    every_s: float,
    *,
    notifier: Notifier,
    rng: random.Random,
    wait: Callable[[float], bool],
    on_outcome: Callable[[Outcome], None],
) -> None:
    """Pull until told to stop. No failure ends it: what is served stays, and the next pull is tried.

    Parameters
    ----------
    puller : Puller
    every_s : float
        Seconds between two pulls, in the middle.
    notifier : Notifier
        Is told when it is ready (after the first pull, whatever became of it), what was done, and that it gets on.
    rng : Random
        For the jitter; seeded by nothing that hosts share.
    wait : callable
        Waits so many seconds; True if it is to stop.
    on_outcome : callable
        Told of each pull that succeeded.
    """
    n_failures, is_ready = 0, False
    while True:
        try:
            outcome = puller.once()
        except StoppedError:
            break
        except (FleetError, PublishError) as error:
            n_failures += 1
            pause_s = after_failures(n_failures, every_s, rng)
            if isinstance(error, RemoteError) and error.retry_after_s is not None:
                pause_s = max(pause_s, error.retry_after_s)
            told = f"pulling from {puller.place} failed, {n_failures} times in a row: {error}"
            event(_LOG, logging.WARNING, "pull failed", reason=str(error), times=n_failures, next_s=round(pause_s, 1))
        else:
            n_failures, pause_s = 0, jittered(every_s, rng)
            told = f"in step with {puller.place}: {outcome.version}, serial {outcome.serial}"
            if outcome.result in ("pulled", "switched"):
                fields = {"version": outcome.version, "previous": outcome.previous, "serial": outcome.serial}
                event(_LOG, logging.INFO, outcome.result, **fields, requests=outcome.requests, bytes=outcome.bytes)
            on_outcome(outcome)
        if is_ready:
            notifier.status(told)
        else:
            is_ready = True
            notifier.ready(told)
        if _wait(pause_s, notifier, wait):
            break
    notifier.stopping()


def jittered(seconds: float, rng: random.Random) -> float:
    """Lengthen or shorten a time by up to `JITTER` of it.

    Parameters
    ----------
    seconds : float
    rng : Random

    Returns
    -------
    float
    """
    return seconds * rng.uniform(1 - JITTER, 1 + JITTER)


def after_failures(n_failures: int, every_s: float, rng: random.Random) -> float:
    """Time to the next try after so many failures in a row.

    Soon after the first, since most pass and what came is kept; then twice as long each time, up to `LONGEST_RETRY_S`
    (or `every_s`, if that is longer): a server that comes back must not be met by all its hosts at once.

    Parameters
    ----------
    n_failures : int
        At least 1.
    every_s : float
    rng : Random

    Returns
    -------
    float
        Seconds.
    """
    longest_s = max(every_s, LONGEST_RETRY_S)
    return jittered(min(min(every_s, FIRST_RETRY_S) * 2.0 ** min(n_failures - 1, 60), longest_s), rng)


def _wait(seconds: float, notifier: Notifier, wait: Callable[[float], bool]) -> bool:
    while seconds > 0:
        notifier.watchdog()
        nap_s = min(seconds, _LONGEST_NAP_S)
        if wait(nap_s):
            return True
        seconds -= nap_s
    return False
