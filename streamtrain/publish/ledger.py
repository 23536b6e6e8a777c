"""Writes receipts in the face of full disks and crashes: what was done gets its receipt in the end."""

from __future__ import annotations

import logging
import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from streamtrain.model.seal import VersionError
from streamtrain.publish.artifact import rfc3339, to_json
from streamtrain.publish.catalog import Catalog, is_version, number
from streamtrain.publish.receipts import Receipt
from streamtrain.types import Decision

_LOG = logging.getLogger(__name__)

_TAIL = 2000
_SAME = ("event", "outcome", "version", "reason")


class Ledger:
    """Records what happens in a models directory. Only for the holder of its write lock.

    Parameters
    ----------
    catalog : Catalog
    clock : callable
        Seconds since the epoch.
    """

    def __init__(self, catalog: Catalog, clock: Callable[[], float]) -> None:
        self._catalog = catalog
        self._clock = clock
        self._owed: list[dict[str, Any]] = []

    def record(self, receipt: Mapping[str, object]) -> None:
        """Append a receipt with time and operating-system user, after those that could not be written before.

        Parameters
        ----------
        receipt : mapping

        Raises
        ------
        OSError
            If it could not be written; it is tried again with the next one.
        """
        self.owe(receipt)
        self.settle()

    def owe(self, receipt: Mapping[str, object]) -> None:
        """Keep a receipt, with time and operating-system user, until one can be written; needs no lock.

        Parameters
        ----------
        receipt : mapping
        """
        owed: dict[str, Any] = {"time": rfc3339(self._clock()), **to_json(receipt), **_user()}
        last = self._owed[-1] if self._owed else {}
        if owed.get("outcome") == "failed" and all(last.get(key) == owed.get(key) for key in _SAME):
            # A disk may stay full for days while the trainer tries again and again: one receipt, counted.
            last["times"] = last.get("times", 1) + 1
            last["last_time"] = owed["time"]
            return
        self._owed.append(owed)

    def settle(self) -> None:
        """Write the receipts that are owed.

        Raises
        ------
        OSError
            If one could not be written; it stays owed.
        """
        while self._owed:
            self._catalog.receipts.append(self._owed[0])
            del self._owed[0]

    def record_done(self, receipt: Mapping[str, object]) -> None:
        """`record` of what is done already: a receipt that cannot be written now is owed, and does not undo it.

        Parameters
        ----------
        receipt : mapping
        """
        try:
            self.record(receipt)
        except OSError as error:
            _LOG.warning("a receipt could not be written and is kept for later: %s", error)

    def recover(self) -> list[tuple[str, str | None]]:
        """Write the receipts of versions that a crash or a full disk kept from being recorded.

        Returns
        -------
        list of (str, str or None)
            The current version and the one before it, if it is among them: nobody was told of it either.

        Raises
        ------
        OSError
            If the receipts cannot be read or written.
        """
        names = self._catalog.names()
        if not names:
            return []
        receipts = self._catalog.receipts
        recorded = _newest_recorded(receipts.read(_TAIL)) or _newest_recorded(receipts.read())
        current = self._catalog.current()
        untold: list[tuple[str, str | None]] = []
        for name in names:
            if number(name) > recorded:
                receipt = self._recovered(name, name == current)
                self.record(receipt)
                if name == current:
                    previous = receipt.get("previous")
                    untold.append((name, previous if isinstance(previous, str) else None))
        return untold

    def _recovered(self, name: str, is_current: bool) -> Receipt:
        try:
            manifest = self._catalog.manifest(name)
        except VersionError as error:
            return {"event": "damaged", "version": name, "reason": error.reason}
        receipt = {"event": "candidate", "outcome": "published"} | (manifest.get("gate") or {})
        receipt |= {"version": name, "previous": manifest.get("previous"), "recovered": True}
        if not is_current:
            # It passed the gate and is complete, but nobody was ever pointed to it.
            receipt["outcome"] = "interrupted"
        return receipt


def candidate_receipt(
    decision: Decision | None, version: str | None, previous: str | None, details: Mapping[str, object] | None
) -> Receipt:
    """Receipt of one candidate.

    Parameters
    ----------
    decision : Decision or None
        None where it was published without a gate.
    version, previous : str or None
        What it became, and what was current before.
    details : mapping or None
        More keys.

    Returns
    -------
    dict
    """
    verdict: Receipt = {"outcome": "published", "reason": "not judged"} if decision is None else asdict(decision)
    return {"event": "candidate", **verdict, "version": version, "previous": previous, **(details or {})}


def _newest_recorded(receipts: Sequence[Mapping[str, object]]) -> int:
    """Highest number of a version that was recorded when it came about; 0 if none was."""
    named = (receipt.get("version") for receipt in receipts if receipt.get("event") in ("candidate", "damaged"))
    return max((number(name) for name in named if isinstance(name, str) and is_version(name)), default=0)


def _user() -> Receipt:
    """Name the operating-system user by the process; what the environment says of who called sudo stands beside it."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    caller = os.environ.get("SUDO_USER")
    return {"user": name, "uid": uid} | ({"sudo_user": caller[:256]} if caller else {})
