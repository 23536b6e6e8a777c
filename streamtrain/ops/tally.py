"""Counts what became of candidates, from the receipts: only what was added since the last count is read."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

_LINE_LIMIT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Tally:
    """Candidates and changes since the models directory was begun.

    Attributes
    ----------
    outcomes : dict of str to int
        Candidates by outcome: published, rejected, skipped, failed, interrupted.
    refusals : dict of str to int
        Candidates that were refused, by the rule that they failed; one that failed two rules counts for both.
    rollbacks : dict of str to int
        Versions that were gone back from, by whom: "itself" or "person".
    """

    outcomes: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    rollbacks: dict[str, int] = field(default_factory=dict)


class ReceiptCounter:
    """Counts the receipts of one models directory. May be called from several threads.

    Parameters
    ----------
    file : Path
        ``receipts.jsonl``; may not exist yet.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._guard = threading.Lock()
        self._begin((0, 0))

    def count(self) -> Tally:
        """Count what is there.

        Returns
        -------
        Tally
            Lines that are not JSON objects are skipped.

        Raises
        ------
        OSError
            If the file is there but cannot be read.
        """
        with self._guard:
            try:
                with self._file.open("rb") as stream:
                    status = os.fstat(stream.fileno())
                    identity = (status.st_dev, status.st_ino)
                    if identity != self._identity or status.st_size < self._offset:
                        self._begin(identity)
                    stream.seek(self._offset)
                    while line := stream.readline(_LINE_LIMIT_BYTES):
                        if not line.endswith(b"\n"):
                            break  # it is being written
                        self._offset += len(line)
                        self._add(line)
            except FileNotFoundError:
                self._begin((0, 0))
            return Tally(dict(self._outcomes), dict(self._refusals), dict(self._rollbacks))

    def _begin(self, identity: tuple[int, int]) -> None:
        self._identity = identity
        self._offset = 0
        self._outcomes: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._rollbacks: Counter[str] = Counter()

    def _add(self, line: bytes) -> None:
        try:
            receipt = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(receipt, dict):
            return
        outcome = receipt.get("outcome")
        if receipt.get("event") == "rollback" and outcome is None:
            self._rollbacks["itself" if receipt.get("automatic") else "person"] += 1
        if receipt.get("event") != "candidate":
            return
        if not isinstance(outcome, str):
            return
        times = receipt.get("times", 1)
        self._outcomes[outcome] += times if isinstance(times, int) and times > 0 else 1
        if outcome in ("rejected", "skipped"):
            self._refusals.update(failed_rules(receipt) or ("other",))


def failed_rules(receipt: dict[str, object]) -> list[str]:
    """Name the rules that a receipt's candidate failed, as far as they can be read.

    Parameters
    ----------
    receipt : dict

    Returns
    -------
    list of str
    """
    rules = receipt.get("rules")
    if not isinstance(rules, list):
        return []
    return [str(rule.get("name")) for rule in rules if isinstance(rule, dict) and rule.get("passed") is False]
