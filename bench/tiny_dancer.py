"""The released Tiny Dancer, under Node: installed by npm, its trainer timed, its models read back."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import numpy as np
from clock import Run
from machine import REPOSITORY
from problem import Problem

from streamtrain.model.formats import read_f32
from streamtrain.types import Params

PACKAGE = "@ruvector/tiny-dancer@0.1.22"
_SCRIPT = Path(__file__).with_name("tiny_dancer.cjs")
# The difference of two epoch counts is timed: of so many epochs that what is done once a call hardly matters.
_FEW, _LEAST_MORE, _MOST_MORE, _TIMED_S = 1, 4, 200, 0.6


class MissingError(RuntimeError):
    """It cannot be run here, and why."""


def installed() -> Path:
    """Folder in which Node finds the package (the tests use the same one)."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise MissingError(f"{program} is not installed")
    folder = REPOSITORY / ".cache" / "npm" / PACKAGE.replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            command = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--prefix", str(folder), PACKAGE]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise MissingError(f"npm could not install {PACKAGE}: {done.stderr[-300:].strip()}")
            (folder / "installed").touch()
    return folder


class TinyDancer:
    """A Node process that holds one data set and trains on it when asked."""

    def __init__(self) -> None:
        folder = installed()
        self._temporary = TemporaryDirectory(prefix="bench-")
        self._folder = Path(self._temporary.name)
        reading, writing = os.pipe()
        command = ["node", "--max-old-space-size=8192", str(_SCRIPT), str(folder), str(writing)]
        self._node = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, pass_fds=(writing,)
        )
        os.close(writing)
        self._answers = os.fdopen(reading)
        self.version = self._ask(task="version")
        self._n_features = 0
        self.processors_used: list[float] = []

    def __enter__(self) -> TinyDancer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._node.stdin is not None:
            self._node.stdin.close()
        self._node.wait()
        self._answers.close()
        self._temporary.cleanup()

    def load(self, problem: Problem) -> None:
        """Hand over the rows: features as they are, label 1 where the cheaper model is within the tolerance."""
        n, _, self._n_features = problem.x.shape
        file = self._folder / "rows.f32"
        np.concatenate([problem.x[:, 0], problem.y], axis=1).astype(np.float32).tofile(file)
        self._ask(task="load", file=str(file), n=n, d=self._n_features)
        file.unlink()

    def train(self, hidden: int, epochs: int, learning_rate: float = 0.001) -> tuple[Params, float]:
        """Train; the weights and the seconds that the call took."""
        output = self._folder / "model.safetensors"
        answer = self._ask(
            task="train", output=str(output), d=self._n_features, hidden=hidden, epochs=epochs,
            learningRate=learning_rate,
        )  # fmt: skip
        self.processors_used.append(answer["cpuSeconds"] / answer["seconds"])
        return read_f32(output.read_bytes())[1], answer["seconds"]

    def epoch(self, n: int, hidden: int) -> Run:
        """An epoch on the `n` rows loaded, both splits evaluated, from the difference of two runs."""
        more = _LEAST_MORE
        while (spent := self._difference(hidden, more)) < _TIMED_S and more < _MOST_MORE:
            more = min(_MOST_MORE, max(2 * more, int(more * _TIMED_S / max(spent, _TIMED_S / 20))))
        return lambda: self._difference(hidden, more) / more / n

    def _difference(self, hidden: int, more: int) -> float:
        _, short = self.train(hidden, _FEW)
        _, long = self.train(hidden, _FEW + more)
        return max(long - short, 1e-9)

    def _ask(self, **request: Any) -> Any:
        if self._node.stdin is None:
            raise RuntimeError("bench: Node was started without an input")
        self._node.stdin.write(json.dumps(request) + "\n")
        self._node.stdin.flush()
        answer = self._answers.readline()
        if not answer:
            raise RuntimeError(f"bench: Node ended with status {self._node.wait()} at {request}")
        return json.loads(answer)
