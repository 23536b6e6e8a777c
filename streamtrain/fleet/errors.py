"""What goes wrong between a models directory and a remote one, told apart by what helps: another try, or a person."""

from __future__ import annotations


class FleetError(Exception):
    """Pushing or pulling failed. What is served stays."""


class RemoteError(FleetError):
    """The remote did not give what was asked for, or not all of it: worth another try.

    Parameters
    ----------
    message : str
    retry_after_s : float, optional
        How long the remote asks to be left alone.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AbsentError(RemoteError):
    """There is no such object at the remote, or not yet."""


class RefusedError(FleetError):
    """What the remote has is whole and is not taken: it will not get better by downloading it again."""


class MissingLibraryError(FleetError):
    """A kind of URL needs a library that is not installed, or there is no such kind."""


class StoppedError(FleetError):
    """Told to stop in the middle; the next pull goes on from what is there."""
