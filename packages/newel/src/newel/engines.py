"""SQLAlchemy's engines for a database: one that reads, one that writes, told by the address.

Reads run on connections that are in AUTOCOMMIT from the connect on. On PostgreSQL both engines
share one pool; on SQLite there is one connection that writes (WAL, ``synchronous=FULL``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, cast

from pydantic_core import from_json
from sqlalchemy import Dialect, Engine, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, PoolProxiedConnection

from newel.database_errors import ConnectionLost, translate, translate_connect_error
from newel.errors import ConfigurationError
from newel.pool import FairPool, refuse_closed
from newel.statements import Constant, Prepared
from newel.telemetry import is_heard_by

__all__ = ["begin_immediate", "execute", "is_watched", "open_beside", "open_engines", "read"]

SQLITE_BUSY_SECONDS = 5.0
"""How long a writer waits for other writers, here or in another process, before it answers 503. A
request that comes when the first in line has waited for half of it is answered so at once."""

CONNECT_SECONDS = 1.5
"""How long a connection may take to be made: less than the two seconds of an answer."""

IDLE_SECONDS = 60
"""How long nothing may happen in a transaction on PostgreSQL until the server ends it: a process
that was stopped in the middle of one, with SIGSTOP for example, holds its locks no longer. The
statements themselves may take their time; a request has its own end."""

_PREPARED: Final = 500
"""Bounds the statements that are remembered: clients choose which columns an UPDATE writes."""


def _from_json(text: str) -> Any:
    """Read JSON as fast as it can be; what is too deep for that, or no Unicode, as Python does."""
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)


_JSON: Final[dict[str, Any]] = {"json_deserializer": _from_json}


def open_engines(url: str, pool: dict[str, Any]) -> tuple[AsyncEngine, AsyncEngine]:
    """Return the engine that reads and the one that writes; connects to nothing yet.

    ``pool`` has SQLAlchemy's options of a pool. Raises ``ConfigurationError`` for an address of no
    database that is supported.
    """
    if _backend(url) == "sqlite":
        reader, writer = _sqlite_reader(url, pool), _sqlite_writer(url)
    else:
        reader = _postgresql(url, pool)
        writer = _postgresql_writer(reader)
    for engine in {writer.sync_engine, reader.sync_engine}:
        event.listen(engine, "handle_error", translate)
        event.listen(engine, "do_connect", translate_connect_error)
    return reader, writer


def open_beside(url: str) -> AsyncEngine:
    """Return an engine on PostgreSQL whose connections are its own, each for one use."""
    return create_async_engine(
        url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=_connect_options(url)
    )


_HEARD: Final = ("before_execute", "before_cursor_execute", "after_cursor_execute", "after_execute")


def is_watched(engine: Engine) -> bool:
    """Tell whether somebody listens to the statements of ``engine``, or has them logged.

    Only what SQLAlchemy itself sends is seen there.
    """
    watched: Any = engine
    # What SQLAlchemy asks first; test_engines.py fails when one of the two is renamed.
    return (
        (watched._has_events and any(getattr(watched.dispatch, name) for name in _HEARD))  # noqa: SLF001 - see above
        or watched._should_log_info()  # noqa: SLF001 - see above
        or any(is_heard_by(each) for each in watched.dialect.dispatch.do_execute)
    )


def read(engine: Engine, prepared: Prepared, parameters: Any) -> Sequence[Sequence[Any]]:
    """Run a prepared SELECT on a connection of its own; in a greenlet of SQLAlchemy's.

    Raises the driver's own errors.
    """
    connection = engine.raw_connection()
    is_usable = False
    try:
        rows, kinds = prepared.fetch(connection, parameters)
        is_usable = True
    except engine.dialect.loaded_dbapi.Error as error:
        is_usable = not engine.dialect.is_disconnect(error, None, None)
        raise
    finally:
        if not is_usable:
            connection.invalidate()  # an answer may be on its way
        connection.close()
    return prepared.decoded(rows, kinds)


def execute(
    connection: Connection, statement: Constant, values: Mapping[str, Any]
) -> tuple[Sequence[Sequence[Any]], int]:
    """Run a statement that is built once; return its rows, and how many they were.

    In the transaction of ``connection``, and in a greenlet of SQLAlchemy's, which it bypasses when
    nobody listens.
    """
    prepared = None
    if not is_watched(connection.engine):
        prepared = _prepared(statement, connection.dialect, tuple(values))
    if prepared is None:
        done = connection.execute(statement, values)
        return done.all() if done.returns_rows else (), done.rowcount
    if not connection.in_transaction():
        connection.begin()
    try:
        return prepared.run(connection, values)
    except ConnectionLost:
        # Or it would say so again and again, of what it prepared before the tables were changed.
        connection.invalidate()
        raise


@lru_cache(maxsize=_PREPARED)
def _prepared(statement: Constant, dialect: Dialect, names: tuple[str, ...]) -> Prepared | None:
    return Prepared.of(statement, dialect, names)


def _backend(url: str) -> str:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError(
            "DATABASE_URL is not a database address",
            fix="write sqlite+aiosqlite:///./data.db or postgresql+asyncpg://user@host/name",
        ) from None
    if parsed.drivername not in {"sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg"}:
        raise ConfigurationError(
            f"DATABASE_URL names the driver {parsed.drivername}, which newel does not support",
            fix="write sqlite+aiosqlite:// or postgresql+asyncpg://",
        )
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise ConfigurationError(
            "an in-memory SQLite database is a new, empty one on every connection",
            fix="name a file, for example sqlite+aiosqlite:////tmp/service.db",
        )
    return backend


def _connect_options(url: str) -> dict[str, Any]:
    said = {"jit": "off", "idle_in_transaction_session_timeout": str(IDLE_SECONDS * 1000)}
    if "+psycopg" in url:
        options = " ".join(f"-c {name}={value}" for name, value in said.items())
        return {"connect_timeout": 2, "options": options}  # libpq knows whole seconds, from two
    return {"timeout": CONNECT_SECONDS, "server_settings": said}


def _postgresql(url: str, pool: dict[str, Any]) -> AsyncEngine:
    engine = create_async_engine(
        url,
        **pool,
        **_JSON,
        connect_args=_connect_options(url),
        poolclass=FairPool,
        pool_use_lifo=True,
        # From the connect on: a read pays neither for BEGIN and COMMIT nor for switching.
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,  # values of a failed statement are input and may be secret
        skip_autocommit_rollback=True,
    )
    event.listen(engine.sync_engine, "checkout", refuse_closed)
    return engine


def _postgresql_writer(reader: AsyncEngine) -> AsyncEngine:
    """Return an engine on the same connections whose units are transactions.

    With asyncpg, SQLAlchemy's ``execution_options(isolation_level=...)`` would cost as much again
    as the transaction. A connection that is given back goes back to AUTOCOMMIT.
    """
    if reader.driver != "asyncpg":
        return reader.execution_options(isolation_level="READ COMMITTED")
    engine = create_async_engine(
        reader.url, pool=reader.sync_engine.pool, hide_parameters=True, **_JSON
    )
    # How a dialect begins a transaction. A listener to `begin` would have each statement look for
    # others, which costs as much as the statement.
    cast("Any", engine.dialect).do_begin = _isolate
    event.listen(reader.sync_engine, "checkin", _end_isolation)
    return engine


def _isolate(connection: PoolProxiedConnection) -> None:
    _set_isolation(connection.dbapi_connection, "read_committed")


def _end_isolation(connection: DBAPIConnection | None, _entry: ConnectionPoolEntry) -> None:
    _set_isolation(connection, "autocommit")


def _set_isolation(connection: DBAPIConnection | None, level: str) -> None:
    if connection is not None:  # it is gone when the server has ended it
        cast("Any", connection).set_isolation_level(level)


def _sqlite_writer(url: str) -> AsyncEngine:
    engine = create_async_engine(
        url,
        **_JSON,
        poolclass=FairPool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=SQLITE_BUSY_SECONDS,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", begin_immediate)
    event.listen(engine.sync_engine, "checkin", _end_transaction)
    return engine


def _sqlite_reader(url: str, pool: dict[str, Any]) -> AsyncEngine:
    engine = create_async_engine(
        url,
        **pool,
        **_JSON,
        poolclass=FairPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        skip_autocommit_rollback=True,
    )
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "connect", _only_query)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    """WAL lets readers read while one writes; FULL puts a commit on the disk before it answers."""
    cast("Any", connection).isolation_level = None  # sqlite3's word for: BEGIN is ours
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {int(SQLITE_BUSY_SECONDS * 1000)}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _only_query(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only = ON")
    cursor.close()


def _end_transaction(connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
    """Roll back what a COMMIT that failed has left open: SQLAlchemy takes it for ended.

    Nothing else could be written until a restart: there is this one connection.
    """
    driver: Any = entry.driver_connection
    if connection is not None and driver is not None and driver.in_transaction:
        connection.rollback()


def begin_immediate(connection: Connection) -> None:
    """Take the write lock at once: who reads first and writes later may be refused."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
