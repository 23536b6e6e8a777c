"""The workers of all routers: begun, looked after, changed by a new configuration as a whole, and ended together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from streamtrain.config import Config
from streamtrain.daemon.trainer import RETRY_S, told
from streamtrain.daemon.turns import Turns
from streamtrain.daemon.worker import Worker
from streamtrain.dataset.errors import StoreError
from streamtrain.ops.board import Board
from streamtrain.ops.logs import about, event
from streamtrain.ops.status import REFUSED
from streamtrain.outlet import Outlet
from streamtrain.publish.errors import PublishError

_LOG = logging.getLogger(__name__)

REFUSALS = (StoreError, PublishError, OSError, ValueError)
"""What a configuration is refused for; `ConfigError` is a ValueError."""

_LOOK_S = 0.2


@dataclass(slots=True)
class _Place:
    """A router's place: who works there, or why nobody does and when it is tried again."""

    config: Config
    worker: Worker | None = None
    trouble: str = ""
    retry_at_s: float = 0.0


class Crew:
    """One worker a router.

    Parameters
    ----------
    clock, monotonic : callable
        Seconds since the epoch; seconds of a clock that is never set back.
    patience_s : float
        See `streamtrain.daemon.pulse`.
    on_change : callable
        Called, from any thread, when there is something new to tell.
    while_waiting : callable
        Called again and again where something takes long; what it raises ends that.
    board : Board, optional
        Where it is written what is done.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        patience_s: float,
        on_change: Callable[[], None],
        while_waiting: Callable[[], None],
        board: Board | None = None,
    ) -> None:
        self._clock, self._monotonic, self._patience_s = clock, monotonic, patience_s
        self._on_change, self._while_waiting = on_change, while_waiting
        self._board = board or Board(clock, monotonic)
        self._turns = Turns()
        self._places: dict[str, _Place] = {}
        self._refusal: dict[str, object] | None = None

    @property
    def workers(self) -> list[Worker]:
        """Those that work."""
        return [place.worker for place in self._places.values() if place.worker is not None]

    @property
    def ready(self) -> bool:
        """Whether each has read its logs once and compiled its kernels, or can't work for now."""
        return bool(self.workers) and all(worker.ready for worker in self.workers)

    def hire(self, routers: Mapping[str, Config]) -> None:
        """Begin; a router among several whose database or models can't be used is tried again later.

        Raises
        ------
        StoreError, PublishError, OSError, ValueError
            Of the first, if not one can begin.
        """
        first: Exception | None = None
        for name, config in routers.items():
            place = self._places[name] = _Place(config)
            try:
                place.worker = self._begin(name, config)
            except REFUSALS as error:
                first = first or error
                if len(routers) > 1:
                    self._give_up(name, place, error)
        if first is not None and not self.workers:
            raise first

    def look_after(self) -> None:
        """Begin anew, after a while, where a worker failed.

        Raises
        ------
        BaseException
            Whatever ended the only router's worker: a new process is better than one of which a part is gone.
        """
        for name, place in self._places.items():
            failure = None if place.worker is None else place.worker.failure
            if place.worker is not None and failure is not None:
                if len(self._places) == 1:
                    raise failure
                self._end({name})
                self._give_up(name, place, failure)
            elif place.worker is None and self._monotonic() >= place.retry_at_s:
                try:
                    place.worker, place.trouble = self._begin(name, place.config), ""
                except REFUSALS as error:
                    self._give_up(name, place, error)

    def change(self, routers: Mapping[str, Config]) -> None:
        """Take a new configuration; where it can't be carried out as a whole, all is as it was before.

        A router of which nothing changed works on undisturbed.

        Raises
        ------
        StoreError, PublishError, OSError, ValueError
        """
        before = {name: place.config for name, place in self._places.items()}
        kept = {name for name, config in routers.items() if name in before and _same(before[name], config)}
        for name in routers.keys() - kept:
            Outlet(routers[name]).close()  # keys and secrets can be read, before anything is stopped for them
        idle = {name for name in kept if self._places[name].worker is None}
        self._end(self._places.keys() - kept)
        old, self._places = self._places, {}
        try:
            for name, config in routers.items():
                if name in kept:
                    self._places[name] = replace(old[name], config=config)
                else:
                    self._places[name] = _Place(config, self._begin(name, config))
        except REFUSALS:
            self._end(self._places.keys() - kept)
            self._places = {name: old[name] if name in kept else _Place(config) for name, config in before.items()}
            self.look_after()
            raise
        for name in idle:
            self._places[name].retry_at_s = 0.0

    def stalled(self) -> dict[str, float]:
        """Work that hangs, by its name, and for how long nothing was heard of it, in seconds."""
        found = {}
        for worker in self.workers:
            for pulse in worker.pulses:
                seconds = pulse.stalled_s()
                if seconds is not None:
                    found[pulse.name] = seconds
        return found

    def told(self) -> str:
        """Say what is done now, in one line."""
        parts = []
        for name, place in self._places.items():
            text = place.trouble if place.worker is None else place.worker.told()
            parts.append(f"{name}: {text}" if name else text)
        return " | ".join(parts)

    def retry_in_s(self) -> float:
        """When to look after a place without a worker, in seconds from now; infinite for none."""
        waits = [place.retry_at_s for place in self._places.values() if place.worker is None]
        return max(0.0, min(waits) - self._monotonic()) if waits else float("inf")

    def note_refusal(self, reason: str | None) -> None:
        """Remember, for `streamtrain status`, that the configuration file can't be used; None that it can."""
        self._board.note_refusal(reason)
        self._refusal = None if reason is None else {"time": self._clock(), "reason": reason}
        for worker in self.workers:
            self._keep_refusal(worker)

    def ask_to_stop(self) -> None:
        """Let all threads end at their next block or epoch; `dismiss` waits for them."""
        for worker in self.workers:
            worker.ask_to_stop()

    def dismiss(self, deadline_s: float, hooks_s: float) -> bool:
        """End all work: threads by the deadline on the monotonic clock, then hooks within so many seconds more.

        Returns
        -------
        bool
            False if a thread did not end. Nothing is lost by that, but the process must not go on.
        """
        workers = self.workers
        self.ask_to_stop()
        ended = [worker.join(deadline_s) for worker in workers]
        if workers:
            # Side by side: hooks of each may take as long as they are given.
            with ThreadPoolExecutor(len(workers)) as pool:
                list(pool.map(lambda worker: worker.close(hooks_s), workers))
        return all(ended)

    def _begin(self, name: str, config: Config) -> Worker:
        worker = Worker(name, config, self._turns, self._clock, self._on_change, self._patience_s, self._board)
        self._keep_refusal(worker)  # what a process before this one noted may be mended by now
        worker.start()
        return worker

    def _keep_refusal(self, worker: Worker) -> None:
        store = worker.cycle.store
        try:
            if store.get(REFUSED) != self._refusal:
                store.set(REFUSED, self._refusal)
        except StoreError as error:
            event(_LOG, logging.WARNING, "the refusal could not be noted", error=told(error))

    def _give_up(self, name: str, place: _Place, error: BaseException) -> None:
        place.worker, place.retry_at_s = None, self._monotonic() + RETRY_S
        place.trouble = f"not working, trying again: {told(error)}"
        with about(name):
            known = isinstance(error, REFUSALS)
            text = "this router can't work, the others do"
            extra = {"event": text, "fields": {"error": told(error), "next_s": RETRY_S}}
            _LOG.error(text, extra=extra, exc_info=None if known else error)

    def _end(self, names: Iterable[str]) -> None:
        """Stop workers at their next block or epoch, however long that takes, and their hooks, and close them."""
        ending = [worker for name in names if (worker := self._places[name].worker) is not None]
        for worker in ending:
            worker.ask_to_stop()
        for worker in ending:
            while not worker.join(time.monotonic() + _LOOK_S):
                self._while_waiting()
            worker.hush()
        for worker in ending:
            while worker.telling:
                self._while_waiting()
                time.sleep(_LOOK_S)
            worker.close()


def _same(old: Config, new: Config) -> bool:
    """Tell whether a router's work is the same; where keys are configured, they may be others under their old names."""
    keys = (new.publish.signing_key, new.publish.public_key)
    return keys == (None, None) and replace(new, log=old.log, status=old.status) == old
