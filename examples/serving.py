"""The routing side of the demo: requests come from the traffic, a router decides each, the world's answer marks it."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from chart import Bin
from numpy.typing import NDArray

from streamtrain import Router
from streamtrain.router.router import NoModelError

BIN_S = 1.0
ENOUGH_FOR_BIN = 20  # requests; fewer only make noise
ROUTED_RIGHT = (
    "a request is routed right when it goes to the lightweight model (confidence ≥ 0.5) exactly if that is good enough"
)


@dataclass(frozen=True, slots=True)
class Served:
    """What happened to the requests so far, one entry each, in order.

    Attributes
    ----------
    at : float64, (N,)
        Seconds since the start.
    right, truth : bool, (N,)
        Routed right; the lightweight model would do.
    median_s, slow_s : float
        Of the calls of `Router.route` that a model answered: the middle one, and what 999 in 1,000 stay below.
    """

    at: NDArray[np.float64]
    right: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    median_s: float
    slow_s: float

    def between(self, start: float | None, end: float | None) -> tuple[float, int]:
        """Share routed right from `start` up to `end`, and of how many requests; NaN of none."""
        low = 0 if start is None else int(np.searchsorted(self.at, start))
        high = len(self.at) if end is None else int(np.searchsorted(self.at, end))
        return (float(self.right[low:high].mean()), high - low) if high > low else (float("nan"), 0)

    def base_rate(self, start: float, end: float) -> float:
        """Share of the commoner truth from `start` up to `end`; NaN of none."""
        truth = self.truth[(self.at >= start) & (self.at < end)]
        return float(max(truth.mean(), 1.0 - truth.mean())) if len(truth) else float("nan")

    def bins(self, edges: list[float]) -> list[Bin]:
        """The whole run in bins of about a second, none across an edge, with values right up to the edges."""
        cuts = [0.0, *sorted(edges), self.at[-1] if len(self.at) else 0.0]
        out = []
        for start, end in pairwise(cuts):
            ends = np.linspace(start, end, max(round((end - start) / BIN_S), 1) + 1)
            shares = [(*self.between(left, right), self.base_rate(left, right)) for left, right in pairwise(ends)]
            middles = (ends[:-1] + ends[1:]) / 2
            part = [
                Bin(float(at), share, base)
                for at, (share, n, base) in zip(middles, shares, strict=True)
                if n >= ENOUGH_FOR_BIN
            ]
            if part:
                out += [replace(part[0], at=start), *part, replace(part[-1], at=end)]
        return out


class Serving:
    """A router at work, in a thread of its own, until the traffic ends.

    Parameters
    ----------
    models : Path
        Which the router follows. While there is no version, everything goes to the powerful model.
    traffic : binary stream
        Standard output of `traffic.py --truth`.
    began : float
        `time.monotonic()` of the start.
    """

    def __init__(self, models: Path, traffic: IO[bytes], began: float) -> None:
        # 0.5 and 1.0 switch off the caution of the defaults: each request counts, and is marked, the same.
        self.router = Router(models, threshold=0.5, max_uncertainty=1.0)
        self.swaps: list[tuple[float, str]] = []
        self.change: float | None = None
        self.done: dict[str, int] | None = None
        self.failure: Exception | None = None
        self._traffic, self._began = traffic, began
        self._at: list[float] = []
        self._right: list[bool] = []
        self._truth: list[bool] = []
        self._took: list[float] = []
        self._thread = threading.Thread(target=self._run, name="serving", daemon=True)
        self._thread.start()

    def so_far(self) -> Served:
        """What was served until now."""
        n = len(self._right)  # appended to last
        took = np.array(self._took or [0.0])
        return Served(
            at=np.array(self._at[:n]),
            right=np.array(self._right[:n], np.bool_),
            truth=np.array(self._truth[:n], np.bool_),
            median_s=float(np.median(took)),
            slow_s=float(np.quantile(took, 0.999)),
        )

    def finish(self, timeout_s: float) -> bool:
        """Wait for the traffic to end; False if it did not in time."""
        self._thread.join(timeout_s)
        self.router.close()
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            for line in self._traffic:
                self._serve(json.loads(line))
        except (ValueError, OSError) as error:
            self.failure = error

    def _serve(self, tick: dict[str, Any]) -> None:
        if "done" in tick:
            self.done = tick["done"]
            return
        if tick["swapped"] and self.change is None:
            self.change = time.monotonic() - self._began
        for features, truth in zip(tick["features"], tick["truth"], strict=True):
            start = time.perf_counter()
            try:
                decision = self.router.route(features)
            except NoModelError:
                light, version = False, None
            else:
                self._took.append(time.perf_counter() - start)
                light, version = decision.use_lightweight, decision.version
            now = time.monotonic() - self._began
            if version is not None and (not self.swaps or self.swaps[-1][1] != version):
                self.swaps.append((now, version))
            self._at.append(now)
            self._truth.append(truth)
            self._right.append(light == truth)
