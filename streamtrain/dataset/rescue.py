"""A damaged state database is moved aside, never deleted, and a new one begins from the logs that are still there."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from streamtrain.dataset.errors import StoreDamagedError
from streamtrain.dataset.store import Store
from streamtrain.dataset.tables import lock_held

_LOG = logging.getLogger(__name__)
REBUILT: Final = "rebuilt"
"""The fact under which a store remembers that it replaced a damaged one."""


def open_store(
    path: Path,
    digest: str,
    *,
    max_samples: int,
    reservoir: int = 0,
    by_session: bool = False,
    clock: Callable[[], float] = time.time,
) -> Store:
    """Open a store for writing; one that is damaged is set aside and begun anew.

    Parameters
    ----------
    path : Path
    digest : str
        Of the log schema.
    max_samples, reservoir, by_session
        As for `Store`.
    clock : callable
        Seconds since the epoch.

    Returns
    -------
    Store

    Raises
    ------
    StoreError
        Whatever else is wrong with it. The database of another program is left alone.
    """
    try:
        return Store(path, digest, max_samples=max_samples, reservoir=reservoir, by_session=by_session, clock=clock)
    except StoreDamagedError as damage:
        if damage.foreign:
            raise
        return rebuild(
            path, digest, damage, max_samples=max_samples, reservoir=reservoir, by_session=by_session, clock=clock
        )


def rebuild(
    path: Path,
    digest: str,
    damage: StoreDamagedError,
    *,
    max_samples: int,
    reservoir: int = 0,
    by_session: bool = False,
    clock: Callable[[], float] = time.time,
) -> Store:
    """Set a damaged database aside and begin a new one, and say so.

    Parameters
    ----------
    path : Path
        No longer open in this process.
    digest : str
        Of the log schema.
    damage : StoreDamagedError
        What is wrong with it.
    max_samples, reservoir, by_session
        As for `Store`.
    clock : callable
        Seconds since the epoch.

    Returns
    -------
    Store
        An empty one; or the same again, if it turns out to be sound.

    Raises
    ------
    StoreError
    """
    if _is_sound(path):
        try:
            store = Store(
                path, digest, max_samples=max_samples, reservoir=reservoir, by_session=by_session, clock=clock
            )
        except StoreDamagedError as again:
            damage = again
        else:
            # To SQLite an input error that passes looks like damage.
            _LOG.error("the state database seemed damaged (%s), but is sound on a second look, and stays", damage)
            return store
    with lock_held(path):
        aside = _free(path, int(clock()))
        # The log of the database first: without it, what is moved last can't be taken for a sound one.
        for suffix in ("-shm", "-wal", ""):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
    _LOG.error(
        "the state database is damaged (%s); it was moved to %s, and the dataset is rebuilt from the logs that are "
        "still there; published models stay as they are",
        damage,
        aside,
    )
    store = Store(path, digest, max_samples=max_samples, reservoir=reservoir, by_session=by_session, clock=clock)
    store.set(REBUILT, {"time": clock(), "aside": str(aside), "reason": str(damage)})
    return store


def _is_sound(path: Path) -> bool:
    """Read all of a database once more."""
    if not path.exists():
        return False
    try:
        # For reading only, or closing it would change what may have to be set aside.
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            return bool(database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except (sqlite3.Error, UnicodeDecodeError):
        return False


def _free(path: Path, seconds: int) -> Path:
    """Choose a name with a time stamp that is not taken yet."""
    while (aside := path.with_name(f"{path.name}.damaged-{seconds}")).exists():
        seconds += 1
    return aside
