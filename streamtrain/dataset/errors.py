"""What can go wrong with the state database, each with what to do about it."""

from __future__ import annotations


class StoreError(Exception):
    """The state database could not do something; the message says what, where and what helps."""


class StoreMissingError(StoreError):
    """There is no state database yet."""


class StoreBusyError(StoreError):
    """Another process has the state database open for writing."""


class StoreNewerError(StoreError):
    """The state database was written by a newer version of this program."""


class StoreDamagedError(StoreError):
    """The state database is not readable as one.

    Parameters
    ----------
    message : str
    foreign : bool
        It is sound, but another program's.
    """

    def __init__(self, message: str, *, foreign: bool = False) -> None:
        super().__init__(message)
        self.foreign = foreign
