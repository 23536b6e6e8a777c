"""A SQLite database of routing logs, opened such that nothing in it, and nobody who has it open, is disturbed.

Strictly for reading, and no file is made beside it. A database in WAL mode takes a shared memory file to read, which
whoever writes keeps there: it is opened for reading too (`readonly_shm`). Where there is no WAL nobody has the database
open, all of it is in the one file, and it is read as it lies there (`immutable`); what was read counts only if nothing
changed meanwhile. What a database brings along to be run (views, virtual tables, computed columns) is never run.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

from streamtrain.ingest.identity import Look, NotReadableError, OpenLog
from streamtrain.ingest.rows import Layout, Rows

MAGIC: Final = b"SQLite format 3\0"
LARGEST: Final = (1 << 63) - 1  # row number

_WAIT_S: Final = 0.25  # for a writer to be done; then the next pass tries again
_AT_ONCE: Final = 5000
_MOST_TABLES: Final = 2000
_VIRTUAL: Final = 2  # as PRAGMA table_xinfo tells a column that is computed when it is read
# What a statement may take: a page of rows needs a hundredth of it.
_STEPS: Final = 100_000
_MOST_CALLS: Final = 500
_SAME_TICK_S: Final = 0.05  # within one tick of the clock that stamps it, a file can change and not show it
_ALLOWED: Final = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_PRAGMA})
_LIMITS: Final = {
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 1 << 20,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 50,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 2,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 100_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 8,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table to read.

    Attributes
    ----------
    name : str
    layout : Layout
        Of the columns that are read.
    number : str
        Name under which SQLite knows the number of a row.
    """

    name: str
    layout: Layout
    number: str

    @property
    def selection(self) -> str:
        """The row number and the columns, as they are selected."""
        return ", ".join([self.number, *map(_quoted, self.layout.names)])


class Database:
    """An open database.

    Parameters
    ----------
    log : OpenLog
        The same file.
    max_row_bytes : int
        A row with more is passed over.

    Raises
    ------
    NotReadableError
        If it can't be read now; the message says why.
    """

    def __init__(self, log: OpenLog, max_row_bytes: int) -> None:
        self._log = log
        self._max_row_bytes = max_row_bytes
        self._calls = 0
        self._wal = beside(log.path, "-wal")
        self._still, uri = _how(log)
        with self._told():
            self._db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_WAIT_S)
        try:
            with self._told():
                self._guard()
        except NotReadableError:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def table(self, rows: Rows, wanted: str | None) -> Table:
        """Find the table to read.

        Parameters
        ----------
        rows : Rows
        wanted : str or None
            Its name; None for the one that has the fields of the schema.

        Raises
        ------
        NotReadableError
            If there is none, or several, or one that can't be read by row numbers.
        """
        with self._told():
            listed = self._all(
                "SELECT name, type, rootpage FROM sqlite_master WHERE type IN ('table', 'view') LIMIT ?", _MOST_TABLES
            )
        kinds = {name: (kind, root) for name, kind, root in listed if isinstance(name, str)}
        if wanted is not None:
            if wanted not in kinds:
                raise self._refusal(f"no table {wanted!r}; there are: {_named(kinds)}")
            return self._described(rows, wanted, *kinds[wanted])
        ordinary = [name for name, (kind, root) in kinds.items() if kind == "table" and root and name[:7] != "sqlite_"]
        having = [name for name in ordinary if rows.has_fields([column for column, _ in self._columns(name)])]
        if len(having) > 1:
            raise self._refusal(
                f"several tables have the fields of the schema: {_named(having)}; name one in logs.sqlite.table"
            )
        (name,) = having or (ordinary if len(ordinary) == 1 else ("",))
        if not name:
            raise self._refusal(f"no table has the fields of the schema; there are: {_named(kinds)}")
        return self._described(rows, name, *kinds[name])

    def rows_after(
        self, table: Table, number: int, max_bytes: int, most: int = _AT_ONCE
    ) -> tuple[list[tuple[int, Sequence[Any] | None]], int]:
        """Read the rows that come after a number, in order.

        Parameters
        ----------
        table : Table
        number : int
        max_bytes : int
            Stop once they take about so much.
        most : int
            And at so many.

        Returns
        -------
        rows : list of (int, sequence or None)
            Number and values of each; None where it is too long to be read.
        n_bytes : int
        """
        query = f"SELECT {table.selection} FROM {_quoted(table.name)} WHERE {table.number} > ? ORDER BY 1 LIMIT ?"  # noqa: S608 (names are quoted)
        found: list[tuple[int, Sequence[Any] | None]] = []
        n_bytes = 0
        with self._told():
            try:
                with self._cursor(query, number, most) as cursor:
                    for one, *values in cursor:
                        if not isinstance(one, int) or one <= number:
                            raise sqlite3.DatabaseError("its row numbers are out of order")
                        number = one
                        size = sum([len(value) if value.__class__ in (str, bytes) else 9 for value in values], 9)
                        found.append((one, values if size <= self._max_row_bytes else None))
                        n_bytes += min(size, self._max_row_bytes)
                        if n_bytes >= max_bytes:
                            break
            except sqlite3.DataError:
                # A row is too long for what this connection may hold: the one that comes next, or the one after it,
                # which is looked at before the next is given out.
                if not found and most > 1:
                    return self.rows_after(table, number, max_bytes, 1)
                if not found:
                    found = self._passed_over(table, number)
        self.check()
        return found, n_bytes

    def row(self, table: Table, number: int) -> Sequence[Any] | None:
        """Read the row of a number; None where there is none. One that is too long is empty."""
        rows, _ = self.rows_after(table, number - 1, 1, 1)
        return (rows[0][1] or ()) if rows and rows[0][0] == number else None

    def last(self, table: Table) -> int:
        """Look up the highest row number there is; 0 without rows."""
        query = f"SELECT {table.number} FROM {_quoted(table.name)} ORDER BY 1 DESC LIMIT ?"  # noqa: S608
        with self._told():
            rows = self._all(query, 1)
        self.check()
        return int(rows[0][0]) if rows else 0

    def highest_ever(self, table: Table) -> int | None:
        """Look up the highest row number there ever was; None where numbers are given again (no AUTOINCREMENT)."""
        with self._told():
            if not self._all("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence' LIMIT ?", 1):
                return None
            numbers = self._all("SELECT name, seq FROM sqlite_sequence LIMIT ?", _MOST_TABLES)
        return next((seq for name, seq in numbers if name == table.name and isinstance(seq, int)), None)

    def has_below(self, table: Table) -> bool:
        """Tell whether there are rows with a number below 1."""
        query = f"SELECT {table.number} FROM {_quoted(table.name)} WHERE {table.number} < 1 LIMIT ?"  # noqa: S608
        with self._told():
            return bool(self._all(query, 1))

    def check(self) -> None:
        """Make sure that what was read is what the database held.

        Raises
        ------
        NotReadableError
            If somebody began to write to it.
        """
        log = self._log
        try:
            there = os.lstat(log.path)
        except OSError as error:
            raise self._refusal("it was moved or replaced while it was read; the next pass looks again") from error
        if (there.st_dev, there.st_ino) != (log.look.device, log.look.inode):
            raise self._refusal("it was replaced while it was read; the next pass looks again")
        if self._still and (Look.of(there) != log.look or beside(log.path, "-wal") != self._wal):
            raise self._refusal("somebody began to write to it while it was read; the next pass looks again")

    def _described(self, rows: Rows, name: str, kind: str, root: int) -> Table:
        if kind == "view":
            raise self._refusal(f"{name!r} is a view, which has no row numbers; name a table in logs.sqlite.table")
        if not root:
            raise self._refusal(f"{name!r} is a virtual table, whose code is not run; name another one")
        described = self._columns(name)
        columns = [column for column, _ in described]
        computed = next((column for column, hidden in described if hidden == _VIRTUAL and column in rows.fields), None)
        if computed is not None:
            raise self._refusal(
                f"{name!r} computes {computed!r} anew for each reader, which is not done; make it STORED"
            )
        layout = rows.layout(columns)
        if layout.problem is not None:
            raise self._refusal(f"table {name!r}: {layout.problem}")
        taken = {column.lower() for column in columns}
        number = next((alias for alias in ("rowid", "_rowid_", "oid") if alias not in taken), None)
        if number is None:
            raise self._refusal(f"{name!r} has columns rowid, _rowid_ and oid, so that its row numbers can't be read")
        try:
            self._all(f"SELECT {number} FROM {_quoted(name)} LIMIT ?", 0)  # noqa: S608
        except sqlite3.OperationalError as error:
            if "no such column" not in str(error):
                raise self._refusal(str(error)) from error
            raise self._refusal(
                f"{name!r} is a table WITHOUT ROWID, which doesn't tell what is new; make it an ordinary one"
            ) from error
        except (sqlite3.Error, sqlite3.Warning, UnicodeError) as error:
            # SQLite quotes a spoilt schema in what it says, which then is no UTF-8.
            raise self._refusal(_meaning(error)) from error
        return Table(name, rows.layout([columns[place] for place in layout.used]), number)

    def _columns(self, name: str) -> list[tuple[str, int]]:
        """List the columns of a table, and how each is hidden."""
        with self._told():
            described = self._all(f"PRAGMA table_xinfo({_quoted(name)})")
        return [(str(column), hidden) for _, column, _, _, _, _, hidden in described]

    def _passed_over(self, table: Table, number: int) -> list[tuple[int, Sequence[Any] | None]]:
        query = f"SELECT {table.number} FROM {_quoted(table.name)} WHERE {table.number} > ? ORDER BY 1 LIMIT 1"  # noqa: S608
        return [(one, None) for (one,) in self._all(query, number)]

    def _guard(self) -> None:
        """Take from a database whatever it could do besides holding rows."""
        db = self._db
        for limit, value in _LIMITS.items():
            db.setlimit(limit, value)
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(self._max_row_bytes, 1 << 16))
        db.set_progress_handler(self._count, _STEPS)
        db.text_factory = _text
        for setting in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON", "mmap_size = 0"):
            db.execute(f"PRAGMA {setting}").fetchall()
        db.set_authorizer(_authorize)

    def _count(self) -> int:
        self._calls += 1
        return int(self._calls > _MOST_CALLS)

    @contextmanager
    def _cursor(self, query: str, *arguments: object) -> Iterator[sqlite3.Cursor]:
        """Run a statement; its lock on the database is gone afterwards, read to the end or not."""
        self._calls = 0
        cursor = self._db.execute(query, arguments)
        try:
            yield cursor
        finally:
            cursor.close()

    def _all(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        with self._cursor(query, *arguments) as cursor:
            return cursor.fetchall()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, sqlite3.Warning, UnicodeError, OverflowError, ValueError) as error:
            raise self._refusal(_meaning(error)) from error

    def _refusal(self, reason: str) -> NotReadableError:
        return NotReadableError(f"read the database {self._log.path}: {reason}")


def beside(path: str, suffix: str) -> Look | None:
    """Look at a file beside a database; None where there is none.

    Raises
    ------
    NotReadableError
        If it is no regular file: SQLite would wait for a FIFO.
    """
    try:
        status = os.lstat(path + suffix)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotReadableError(f"read the database {path}: {path}{suffix}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise NotReadableError(f"read the database {path}: {path}{suffix} is not a regular file")
    return Look.of(status)


def _how(log: OpenLog) -> tuple[bool, str]:
    """Choose how to open a database, by what lies beside it; whether it has to lie still, and the URI."""
    wal, shared, _ = (beside(log.path, suffix) for suffix in ("-wal", "-shm", "-journal"))
    uri = f"file:{quote(os.fsencode(log.path))}?mode=ro"
    if log.read_at(18, 2) != b"\2\2":
        return False, uri
    if wal is None or (wal.size == 0 and shared is None):
        changed = max(log.look.mtime_ns, log.look.ctime_ns) / 1e9
        if abs(time.time() - changed) < _SAME_TICK_S:
            time.sleep(_SAME_TICK_S)
        return True, f"{uri}&immutable=1"
    if shared is None:
        raise NotReadableError(
            f"read the database {log.path}: its -wal was not taken in, and the -shm that belongs to it is missing; "
            "open and close it once with the program that writes it, or copy the -shm along"
        )
    return False, f"{uri}&readonly_shm=1"


def _authorize(action: int, *_: object) -> int:
    return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _named(names: Sequence[str] | dict[str, Any]) -> str:
    listed = [repr(name[:60]) for name in names]
    return ", ".join(listed[:20]) + (f" and {len(listed) - 20} more" if len(listed) > 20 else "") or "none"


def _meaning(error: Exception) -> str:
    """Say what an error means, and what can be done."""
    kind = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"{error}; the next pass tries again (a writer in WAL mode never locks readers out)"
    if kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return f"{error}; it is damaged, `PRAGMA integrity_check` says where"
    if kind == sqlite3.SQLITE_INTERRUPT:
        return "reading a few rows takes too many steps, which no log does"
    if kind in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
        return f"{error}; its program ended in the middle of a write, or this user may not read it"
    return str(error)
