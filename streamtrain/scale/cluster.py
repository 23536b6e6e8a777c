"""Workers of Dask: started here for one command, or somebody's cluster. The only module that loads Dask.

Whatever a worker held when it died is made again from the inputs by another, as Dask does for every result that is
still wanted. Dask says of a task at which several workers died that it killed them; here it was the machines that died,
and the task is tried again.
"""

from __future__ import annotations

import concurrent.futures
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, Final, Self

from streamtrain.scale.rounds import Task, Trained, score_parts, train_parts
from streamtrain.train.fit import Moved
from streamtrain.types import F32, F64, FastGRNNConfig

_LOG = logging.getLogger(__name__)

_TRIES: Final = 3
"""Of a task that can't read its input."""
_DEATHS: Final = 100
"""So often is a task tried again at which workers died."""
_LOOK_S: Final = 0.25
_WORKER_S: Final = 300.0
"""How long a worker is waited for where there is none: a new machine takes minutes."""


class ClusterError(OSError):
    """Dask is missing, or its scheduler can't be reached, or has given up."""


class StoppedError(Exception):
    """Asked to stop while waiting for workers."""


class Cluster:
    """A connection to workers.

    Parameters
    ----------
    scheduler : str, optional
        Address of a scheduler, such as ``tcp://host:8786``. Without it, `workers` processes are started here.
    workers : int
        How many.
    memory : str
        Of each of them, as Dask has it: ``auto``, ``1GiB``. Beyond, what is held goes to disk.
    should_stop : callable
        Asked while waiting.

    Raises
    ------
    ClusterError
    """

    def __init__(
        self,
        scheduler: str | None = None,
        workers: int = 1,
        memory: str = "auto",
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        try:
            import dask
            import dask.distributed
        except ImportError as error:
            raise ClusterError("start workers: Dask is missing; install streamtrain[dask]") from error
        distributed: Any = dask.distributed
        self._dask = distributed
        self._should_stop = should_stop
        with ExitStack() as opened:
            # A kernel keeps its process for seconds; that the event loop waits meanwhile is nothing to warn of.
            opened.enter_context(dask.config.set({"distributed.admin.tick.limit": "1h"}))
            try:
                if scheduler is None:
                    cluster = opened.enter_context(
                        distributed.LocalCluster(
                            n_workers=workers,
                            threads_per_worker=1,
                            processes=True,
                            memory_limit=memory,
                            dashboard_address="127.0.0.1:0",
                            silence_logs=logging.CRITICAL,
                        )
                    )
                    self.client = opened.enter_context(distributed.Client(cluster))
                else:
                    self.client = opened.enter_context(distributed.Client(scheduler, timeout=30))
            except (OSError, ValueError) as error:
                raise ClusterError(f"reach the scheduler {scheduler or 'of workers started here'}: {error}") from error
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def threads(self) -> list[str]:
        """List the workers that are there now, each as often as it has threads; wait for one if there is none.

        Raises
        ------
        ClusterError
            If none comes.
        StoppedError
            If `should_stop` says so.
        """
        for _ in range(int(_WORKER_S / _LOOK_S)):
            threads = self.client.nthreads()
            if threads:
                return [address for address in sorted(threads) for _ in range(threads[address])]
            if self._should_stop():
                raise StoppedError("stopped; nothing was published")
            time.sleep(_LOOK_S)
        raise ClusterError(f"train: the scheduler has no worker, and none came within {_WORKER_S:g} s; start one")

    def submit(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Have a worker call a function of values, or of what other calls come to; returns a future."""
        return self.client.submit(function, *arguments, **named, pure=False, retries=_TRIES - 1)

    def gathered(self, futures: Sequence[Any], on_done: Callable[[int], None] = lambda n_done: None) -> list[Any]:
        """Wait for futures, and bring what they came to here, in their order.

        Raises
        ------
        StoppedError
            If `should_stop` says so.
        ClusterError
            If workers can't do it at all. What a call itself raises is raised here.
        """
        for _ in range(_DEATHS):
            self._wait(futures, on_done)
            killed = [one for one in futures if one.status == "error" and self._was_killed(one)]
            if not killed:
                break
            _LOG.warning("workers died at %d tasks, which are tried again", len(killed))
            self.client.retry(killed)
        try:
            return list(self.client.gather(list(futures)))
        except (self._dask.KilledWorker, ImportError, concurrent.futures.CancelledError) as error:
            raise ClusterError(
                f"work on the cluster: {error or type(error).__name__}; expected workers that stay, with this version "
                "of streamtrain and its extra `dask` installed"
            ) from error

    def _wait(self, futures: Sequence[Any], on_done: Callable[[int], None]) -> None:
        waiting, n_done = {future.key for future in futures}, 0
        while waiting:
            if self._should_stop():
                self.client.cancel(list(futures))
                raise StoppedError("stopped; nothing was published")
            with suppress(self._dask.TimeoutError):
                self._dask.wait([one for one in futures if one.key in waiting], _LOOK_S, "FIRST_COMPLETED")
            waiting -= {one.key for one in futures if one.done()}
            if len(futures) - len(waiting) != n_done:
                n_done = len(futures) - len(waiting)
                on_done(n_done)

    def _was_killed(self, future: Any) -> bool:
        return isinstance(future.exception(), self._dask.KilledWorker)


class Workers:
    """Parts on workers, as a crew of rounds (`streamtrain.scale.rounds.Crew`).

    A round is one task for each worker, with the parts that it holds: a task costs the scheduler about a millisecond,
    which is what a small part costs a worker. What a part comes to does not depend on who else is in its task.

    Parameters
    ----------
    cluster : Cluster
    prepared : sequence of futures
        Of `Prepared`, in the order of the parts.
    weights : sequence of float
        About how much there is to do for each.
    validates : bool
        Whether any of them has validation samples.
    """

    def __init__(self, cluster: Cluster, prepared: Sequence[Any], weights: Sequence[float], validates: bool) -> None:
        self.validates = validates
        self._cluster, self._prepared, self._weights = cluster, list(prepared), list(weights)

    def train(self, task: Task, start: Moved, rate: float, key: int) -> list[Trained]:
        """Have every part trained for an epoch."""
        found = self._round(train_parts, task, start, rate, key)
        return sorted(found, key=lambda one: one.index)

    def score(self, config: FastGRNNConfig, steps: int, served: F32) -> list[F64]:
        """Have every part's validation samples scored."""
        # A copy: what is kept is the optimiser's own, and moves on.
        found = self._round(score_parts, config, steps, served.copy())
        return [report for _, report in sorted(found, key=lambda one: one[0])]

    def _round(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        futures = [
            self._cluster.submit(function, parts, *arguments, workers=[address], allow_other_workers=True)
            for address, parts in self._shared()
        ]
        return [one for some in self._cluster.gathered(futures) for one in some]

    def _shared(self) -> list[tuple[str, list[Any]]]:
        """Share the parts out among threads, each to one whose worker holds it, unless he has his share already."""
        threads = self._cluster.threads()
        holders = self._cluster.client.who_has(self._prepared)
        fair = sum(self._weights) / len(threads)
        shared: list[list[Any]] = [[] for _ in threads]
        loads = [0.0 for _ in threads]
        homeless = []
        for future, weight in zip(self._prepared, self._weights, strict=True):
            holding = set(holders.get(future.key, ()))
            near = [place for place, address in enumerate(threads) if address in holding]
            idlest = min(near, key=loads.__getitem__, default=None)
            if idlest is None or loads[idlest] + weight / 2 > fair:
                homeless.append((future, weight))
                continue
            shared[idlest].append(future)
            loads[idlest] += weight
        for future, weight in homeless:
            idlest = min(range(len(threads)), key=loads.__getitem__)
            shared[idlest].append(future)
            loads[idlest] += weight
        return [(address, parts) for address, parts in zip(threads, shared, strict=True) if parts]
