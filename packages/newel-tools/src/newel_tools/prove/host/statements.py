"""SQLAlchemy, watched and broken on purpose: statements, commits, connections, lost databases."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import re
import sys
import threading
from typing import Any

from .record import Places, Record, current

__all__ = ["Meeting", "Statements"]

_WRITES = re.compile(
    r"\s*(?:/\*.*?\*/\s*)?(?:INSERT|UPDATE|DELETE|REPLACE|MERGE|WITH\b.*\b(?:INSERT|UPDATE|DELETE)\b)",
    re.IGNORECASE | re.DOTALL,
)
_WROTE = "newel_prove_wrote"
_SQLITE_OPTIONS = {
    "async_creator_fn",
    "autocommit",
    "cached_statements",
    "check_same_thread",
    "detect_types",
    "factory",
    "isolation_level",
    "iter_chunk_size",
    "loop",
    "timeout",
    "uri",
}
_MEETING_SECONDS = 1.0
FAILED_COMMIT = "newel prove let this commit fail"
LOST_DATABASE = "newel prove took the database away"


class Meeting:
    """Lets requests wait for each other before their first write, so that they really race."""

    def __init__(self, *, size: int) -> None:
        self._size = size
        self._arrived = 0
        self._lock = threading.Lock()
        self._all_here = threading.Event()

    def arrive(self, *, pause: Any = None) -> None:
        """Wait for the others, one second at most; ``pause(seconds)`` waits without blocking."""
        with self._lock:
            self._arrived += 1
            if self._arrived >= self._size:
                self._all_here.set()
        if pause is None:
            self._all_here.wait(_MEETING_SECONDS)
            return
        for _ in range(int(_MEETING_SECONDS / 0.01)):
            if self._all_here.is_set():
                return
            pause(0.01)


class Statements:
    """Listens to every engine of the process, present and future."""

    def __init__(self, places: Places) -> None:
        self.database_is_lost = False
        self._places = places
        self._armed: dict[int, Any] = {}
        self._listeners: list[tuple[Any, str, Any]] = []

    def install(self) -> bool:
        """Begin to listen; tell whether SQLAlchemy is there."""
        if importlib.util.find_spec("sqlalchemy") is None:
            return False
        engine: Any = importlib.import_module("sqlalchemy.engine").Engine
        event: Any = importlib.import_module("sqlalchemy.event")
        for name, listener in (
            ("do_connect", self._do_connect),
            ("begin", self._begin),
            ("before_cursor_execute", self._before_execute),
            ("commit", self._commit),
            ("rollback", self._rollback),
            ("handle_error", self._error),
        ):
            event.listen(engine, name, listener)
            self._listeners.append((engine, name, listener))
        return True

    def remove(self) -> None:
        """Stop listening, and give every dialect its own commit back."""
        event: Any = importlib.import_module("sqlalchemy.event")
        for target, name, listener in self._listeners:
            event.remove(target, name, listener)
        for dialect in self._armed.values():
            del dialect.do_commit
        self._listeners, self._armed = [], {}

    def _do_connect(self, dialect: Any, _record: Any, _arguments: Any, options: Any) -> None:
        if self.database_is_lost:
            raise _error(dialect, LOST_DATABASE)
        if dialect.name == "sqlite":
            # What was meant for another driver, where SQLite stands in for its server.
            for name in set(options) - _SQLITE_OPTIONS:
                del options[name]

    def _begin(self, connection: Any) -> None:
        self._arm(connection.dialect)
        connection.info.pop(_WROTE, None)

    def _arm(self, dialect: Any) -> None:
        """Let this dialect's commits fail when the request at hand says so."""
        if id(dialect) in self._armed:
            return
        original = dialect.do_commit

        def do_commit(connection: Any) -> None:
            record = current.get()
            commit = record.commits[-1] if record is not None and record.commits else None
            if commit is None or not commit.pop("doomed", False):
                original(connection)
                return
            commit["failed"] = True
            connection.rollback()
            raise _error(dialect, FAILED_COMMIT)

        dialect.do_commit = do_commit
        self._armed[id(dialect)] = dialect

    def _before_execute(
        self, connection: Any, _cursor: Any, sql: str, values: Any, _context: Any, many: Any
    ) -> None:
        if self.database_is_lost:
            connection.invalidate()
            raise _error(connection.dialect, LOST_DATABASE)
        record = current.get()
        writes = _WRITES.match(sql) is not None
        if writes:
            connection.info[_WROTE] = True
        if record is None:
            return
        where = self._places.here()
        numbers = [] if many else _numbers(values)
        record.add_statement(sql, writes=writes, many=bool(many), numbers=numbers, where=where)
        if writes and record.meeting is not None:
            _meet(record)

    def _commit(self, connection: Any) -> None:
        self._arm(connection.dialect)
        wrote = bool(connection.info.pop(_WROTE, None)) and not _commits_itself(connection)
        record = current.get()
        if record is not None:
            doomed = wrote and record.fail_commits
            said = {"where": self._places.here(), "wrote": wrote, "phase": record.phase}
            record.commits.append({**said, "failed": False, "doomed": doomed})

    def _rollback(self, connection: Any) -> None:
        connection.info.pop(_WROTE, None)

    def _error(self, context: Any) -> None:
        record = current.get()
        if record is not None:
            record.add_error(context.original_exception, where=self._places.here())


def _numbers(values: Any) -> list[int]:
    """Return the integers among a statement's values."""
    listed: Any = values or ()
    if hasattr(listed, "values"):
        listed = listed.values()
    return [value for value in listed if type(value) is int][:20]


def _commits_itself(connection: Any) -> bool:
    """Tell whether the connection is in autocommit: its "commit" is then nothing at all."""
    chosen = connection.get_execution_options().get("isolation_level")
    return "AUTOCOMMIT" in (chosen, connection.default_isolation_level)


def _meet(record: Record) -> None:
    meeting, record.meeting = record.meeting, None
    if threading.current_thread() is not threading.main_thread():
        meeting.arrive()
        return
    greenlet = sys.modules.get("greenlet")
    if greenlet is not None and getattr(greenlet.getcurrent(), "parent", None) is not None:
        wait: Any = importlib.import_module("sqlalchemy.util").await_only

        def pause(seconds: float) -> None:
            wait(asyncio.sleep(seconds))

        meeting.arrive(pause=pause)


def _error(dialect: Any, text: str) -> Exception:
    driver = getattr(dialect, "loaded_dbapi", None) or dialect.dbapi
    return getattr(driver, "OperationalError", driver.Error)(text)
