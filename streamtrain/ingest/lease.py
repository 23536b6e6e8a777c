"""Has anybody this file open for writing? The kernel knows, and grants a lease for reading only if nobody has."""

from __future__ import annotations

import errno
import fcntl
import signal


def take_lease(descriptor: int) -> bool | None:
    """Take a lease for reading, which is broken by whoever opens the file for writing.

    Parameters
    ----------
    descriptor : int
        Open for reading. The lease goes with it.

    Returns
    -------
    bool or None
        True: nobody writes. False: somebody may. None: it can't be told, for the file is another user's or the file
        system has no leases.
    """
    try:
        # The default signal of a broken lease would end the process; this one does nothing unless asked for.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return False if error.errno in (errno.EAGAIN, errno.EBUSY) else None
    return True


def nobody_writes(descriptor: int) -> bool:
    """Tell whether it is certain that nobody has a file open for writing."""
    if not take_lease(descriptor):
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True
