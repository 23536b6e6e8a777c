"""Breaks the nth system call of a process: kills at it, or makes it fail, once or from there on.

The interpreter's audit hook tells before each system call that concerns a path; what it does not tell (fsync, write,
readlink) is wrapped here.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable

CALLS = {"open", "os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.scandir", "os.listdir"}


class Fault:
    """Breaks the nth call. Kind: KILL, an error's name, or that with ``+``: every call from the nth on fails.

    With an `action`, that is done before the nth call instead, and the call itself goes on.
    """

    def __init__(self, nth: int, kind: str, action: Callable[[], None] | None = None) -> None:
        self.action = action
        self.left = nth
        self.kind = kind.removesuffix("+")
        self.lasting = kind.endswith("+")
        self.armed = True
        self.struck = False

    def strike(self, path: str) -> None:
        if not self.armed:
            return
        self.left -= 1
        if self.left > 0:
            return
        self.struck = True
        self.armed = self.lasting
        if self.action is not None:
            self.action()
            return
        if self.kind == "KILL":
            os.kill(os.getpid(), signal.SIGKILL)
        code = getattr(errno, self.kind)
        raise OSError(code, os.strerror(code), path)

    def install(self) -> None:
        sys.addaudithook(lambda event, args: self.strike(str(args[0])) if event in CALLS else None)
        for name in ("fsync", "write", "readlink"):
            setattr(os, name, self._wrap(getattr(os, name)))

    def _wrap(self, call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object, **options: object) -> object:
            self.strike(f"descriptor {args[0]}")
            return call(*args, **options)

        return wrapped
