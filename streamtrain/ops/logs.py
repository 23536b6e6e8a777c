"""What the daemon says of itself: one line an event, with fields; what repeats is counted instead of repeated.

Nothing here is done on import, and nothing is taken from a log that is read: names of files come as fields, and what a
terminal or the journal would obey is escaped, whatever a field or a message holds.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TextIO

BURST, BURST_S = 100, 60.0
"""Of one kind of event, with the same reason, so many are told in so long a time, in seconds; the rest is counted."""

_MAX_CHARS = 4000
_MAX_KINDS = 1000
_BARE = re.compile(r"[\w.:/@%+,-]+", re.ASCII)
_router: ContextVar[str] = ContextVar("router", default="")


def event(log: logging.Logger, level: int, name: str, /, **fields: object) -> None:
    """Log an event.

    Parameters
    ----------
    log : logging.Logger
    level : int
        Of `logging`.
    name : str
        What happened, in a word or two; events of one name are of one kind.
    fields : str, int, float, bool, path or None
        None is left out.
    """
    log.log(level, name, extra={"event": name, "fields": fields})


@contextmanager
def about(router: str) -> Iterator[None]:
    """Let what this thread logs in the body carry a router's name; "" for the only one."""
    token = _router.set(router)
    try:
        yield
    finally:
        _router.reset(token)


def priority(level: int) -> int:
    """Priority of syslog, as the journal takes it in ``<N>`` before a line, for a level of `logging`."""
    return 2 if level >= 50 else 3 if level >= 40 else 4 if level >= 30 else 6 if level >= 20 else 7


def read_by_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Tell whether a stream is the one that systemd connected to the journal, as JOURNAL_STREAM says.

    Parameters
    ----------
    stream : text file
    environ : mapping
    """
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def configure(form: Literal["auto", "text", "json"], stream: TextIO, environ: Mapping[str, str]) -> LineHandler:
    """Send what the package logs to a stream, in this form; the handler of an earlier call goes.

    Parameters
    ----------
    form : {"auto", "text", "json"}
    stream : text file
    environ : mapping

    Returns
    -------
    LineHandler
    """
    journal = form != "text" and read_by_journal(stream, environ)
    handler = LineHandler(stream, LineFormatter(as_json=form == "json", journal=journal))
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, LineHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    return handler


class LineFormatter(logging.Formatter):
    """One record, one line.

    Parameters
    ----------
    as_json : bool
        An object: "time", "level", "event" (or "message") and the fields. Otherwise text for people.
    journal : bool
        For the journal: a priority before it, and no time in text, which the journal knows.
    """

    def __init__(self, *, as_json: bool, journal: bool) -> None:
        super().__init__()
        self._as_json, self._journal = as_json, journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        fields = {key: value for key, value in _fields(record).items() if value is not None}
        line = self._json(record, fields) if self._as_json else self._text(record, fields)
        return f"<{priority(record.levelno)}>{line}" if self._journal else line

    def _json(self, record: logging.LogRecord, fields: Mapping[str, object]) -> str:
        name = {"event": record.msg} if hasattr(record, "event") else {"message": record.getMessage()}
        told = {"time": _moment(record.created), "level": record.levelname.lower(), **name, **fields}
        # In ASCII: a line that holds no character which anything could stumble over. Infinities become words.
        return json.dumps({key: _plain(value) for key, value in told.items()}, allow_nan=False).replace("\x7f", "?")

    def _text(self, record: logging.LogRecord, fields: Mapping[str, object]) -> str:
        told = record.msg if hasattr(record, "event") else _escaped(record.getMessage())
        words = [told, *(f"{key}={_written(value)}" for key, value in fields.items())]
        return " ".join(words if self._journal else [_moment(record.created), record.levelname, *words])


@dataclass(slots=True)
class _Kind:
    since_s: float
    n: int
    record: logging.LogRecord


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines; what repeats too often is left out, and later told how often.

    Parameters
    ----------
    stream : text file
    formatter : logging.Formatter
    monotonic : callable
        Seconds.
    """

    def __init__(
        self, stream: TextIO, formatter: logging.Formatter, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(stream)
        self.setFormatter(formatter)
        self._monotonic = monotonic
        self._kinds: dict[tuple[str, str, str], _Kind] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless there were too many of its kind."""
        now = self._monotonic()
        self._tell_left_out(now - BURST_S)
        record.__dict__["router"] = _router.get()
        # Of one event, what has another reason is of another kind.
        what = f"{record.msg}\0{_own_fields(record).get('reason', '')}"
        kind = self._kinds.setdefault((record.name, what, _router.get()), _Kind(now, 0, record))
        kind.n += 1
        kind.record = record
        if kind.n <= BURST:
            super().emit(record)

    def tick(self) -> None:
        """Tell of what was left out, where its time is over though nothing came after it."""
        with self._locked():
            self._tell_left_out(self._monotonic() - BURST_S)

    def close(self) -> None:
        """Tell of everything that was left out."""
        with self._locked():
            self._tell_left_out(float("inf"))
        super().close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _tell_left_out(self, before_s: float) -> None:
        many = len(self._kinds) > _MAX_KINDS
        over = [key for key, kind in self._kinds.items() if many or kind.since_s <= before_s]
        for key in over:
            kind = self._kinds.pop(key)
            if kind.n > BURST:
                last = kind.record
                what = last.msg if hasattr(last, "event") else last.getMessage()
                record = logging.LogRecord(last.name, last.levelno, last.pathname, last.lineno, "left out", None, None)
                fields = {**_own_fields(last), "last": what, "count": kind.n - BURST, "in_s": BURST_S}
                record.__dict__.update(event="left out", router=key[2], fields=fields)
                super().emit(record)


def _own_fields(record: logging.LogRecord) -> dict[str, object]:
    return dict(getattr(record, "fields", {}))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = {"router": getattr(record, "router", "") or None, **_own_fields(record)}
    if record.exc_info and record.exc_info[1] is not None:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: object) -> object:
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    return _short(str(value))


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    text = _short(str(value))
    return text if _BARE.fullmatch(text) else f'"{_escaped(text, quoted=True)}"'


def _short(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}… ({len(text) - _MAX_CHARS} more)"


def _escaped(text: str, quoted: bool = False) -> str:
    special = '\\"' if quoted else ""
    return "".join(
        f"\\{char}"
        if char in special
        else char
        if char.isprintable()
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in _short(text)
    )
