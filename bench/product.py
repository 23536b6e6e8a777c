"""Ours on recorded outcomes: whole passes of the product, and the answers of its own loader to INT8 versions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from outcomes import TOO_FEW, Outcomes

from streamtrain import Router
from streamtrain.config import parse
from streamtrain.cycle import Cycle
from streamtrain.types import F64

ONCE, DAEMON = "streamtrain, once", "streamtrain, as a daemon"
STEP = 500
"""Rows between two looks at the logs, as many as `trigger.min_new_samples`."""
_FEW, _STEP_OF_FEW = 2 * TOO_FEW, 100


def once(data: Outcomes, seed: int) -> F64:
    """Train and publish once, on the rows before the holdout; the holdout's answers."""
    with Service(data, seed) as service:
        service.read(data.records[: data.n_train])
        decision = service.cycle.learn()
        if decision.outcome != "published":
            raise RuntimeError(f"bench: {data.name}, {data.features}, seed {seed}: {decision.reason}")
        return service.answers(data.x[data.n_train :])


def daemon(data: Outcomes, seed: int) -> F64:
    """Read the stream in steps, train whenever it is due; each step is answered by what serves before it is read.

    Before the first version the answer is the rate of label 1 so far.
    """
    step, answers = _step(len(data.y)), np.empty(len(data.y))
    with Service(data, seed) as service:
        for start in range(0, len(data.y), step):
            rows = slice(start, start + step)
            if service.cycle.registry.current() is None:
                answers[rows] = data.y[:start].mean() if start else 0.5
            else:
                answers[rows] = service.answers(data.x[rows])
            service.read(data.records[rows])
            if service.cycle.due():
                service.cycle.learn()
    return answers


def _step(n_rows: int) -> int:
    return STEP if n_rows >= _FEW else _STEP_OF_FEW


@dataclass
class Service:
    """One router's state in a folder that goes with it; the time is that of the last line read."""

    data: Outcomes
    seed: int

    def __enter__(self) -> Service:
        self._temporary = TemporaryDirectory(prefix="bench-learning-")
        folder = Path(self._temporary.name)
        (folder / "logs").mkdir()
        self._log, self._models, self._now = folder / "logs" / "a.jsonl", folder / "models", 0.0
        self.cycle = Cycle(parse(_config(self.data, self.seed), folder), clock=lambda: self._now)
        return self

    def __exit__(self, *raised: object) -> None:
        self.cycle.close()
        self._temporary.cleanup()

    def read(self, records: Iterable[dict[str, Any]]) -> None:
        """Append rows to the log and have them read."""
        with self._log.open("a") as log:
            for record in records:
                log.write(json.dumps(record) + "\n")
                self._now = datetime.fromisoformat(record["timestamp"]).timestamp()
        self.cycle.ingest()

    def answers(self, x: np.ndarray) -> F64:
        """What the router answers from the version that serves."""
        with Router(self._models) as router:
            return np.asarray(router.score_batch(x), np.float64)


def _config(data: Outcomes, seed: int) -> str:
    """The defaults, with no floor: what a data set allows is not known before; small sets ask for fewer samples."""
    session = ", session: session_id" if "session_id" in data.records[0] else ""
    few = len(data.y) < _FEW
    trigger = f"trigger: {{min_samples: 300, min_per_class: 50, min_new_samples: {_STEP_OF_FEW}}}\n" if few else ""
    return (
        "logs: {directory: logs}\nstate: {directory: state}\nmodels: {directory: models, keep: 3}\n"
        f"schema: {{features: {{field: features, dim: {data.x.shape[1]}}}{session}}}\n"
        f"dataset: {{seed: {seed}}}\n{trigger}"
        f"gate: {{min_accuracy: 0{', min_holdout: 50' if few else ''}}}\n"
    )
