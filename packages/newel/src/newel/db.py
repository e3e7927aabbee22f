"""The database: engines, and the unit of work that commits before the answer is sent.

``CurrentWork`` is the unit of a request. GET and HEAD get a read unit (no BEGIN, no COMMIT, refuses
to write); every other method gets a write unit that the kernel commits after the endpoint has
returned and *before* the response is sent, so that a 2xx always means "on disk".
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Self, cast

import structlog
from fastapi import Depends
from sqlalchemy import event, make_url, text
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import ORMExecuteState, UOWTransaction
from sqlalchemy.pool import ConnectionPoolEntry
from starlette.requests import HTTPConnection

from newel.database_errors import translate, translate_connect_error
from newel.errors import ConfigurationError
from newel.events import Event, outbox_event
from newel.principal import Principal
from newel.scope import ScopedSession, SystemScope

__all__ = ["CurrentWork", "Database", "ReadOnlyUnit", "Work", "get_database", "get_work"]

SQLITE_BUSY_SECONDS = 5.0
"""How long a writer waits for another process's write before it answers 503."""


class ReadOnlyUnit(RuntimeError):
    """A read unit was asked to write: a mistake in the code (a GET that changes something)."""


class _UnitSession(ScopedSession):
    """A session that knows whether it may write."""

    read_only = False


@event.listens_for(_UnitSession, "do_orm_execute")
def _refuse_to_write(state: ORMExecuteState) -> None:
    session = cast("_UnitSession", state.session)
    if session.read_only and (state.is_insert or state.is_update or state.is_delete):
        raise ReadOnlyUnit(_READ_ONLY)


@event.listens_for(_UnitSession, "before_flush")
def _refuse_to_flush(session: _UnitSession, _context: UOWTransaction, _instances: Any) -> None:
    if session.read_only and (session.new or session.deleted or session.dirty):
        raise ReadOnlyUnit(_READ_ONLY)


_READ_ONLY = "a read unit cannot write: use POST, PUT, PATCH or DELETE, or `database.write(caller)`"


class Work:
    """One unit of work: a session, the caller it works for, and what happens after the commit.

    ``session`` is SQLAlchemy's own ``AsyncSession``. Nobody calls ``commit`` but the kernel.
    """

    def __init__(self, session: AsyncSession, caller: Principal | None) -> None:
        self.session = session
        self._scoped = cast("_UnitSession", session.sync_session)
        self.caller = caller

    @property
    def caller(self) -> Principal | None:
        """Whose rows this unit sees; ``None`` until ``requires`` or ``public`` has set it."""
        scope = self._scoped.scope
        return scope if isinstance(scope, Principal) else None

    @caller.setter
    def caller(self, caller: Principal | None) -> None:
        self._scoped.scope = caller

    @asynccontextmanager
    async def as_system(self, reason: str) -> AsyncGenerator[Self]:
        """See and change everybody's rows inside the block; the reason is logged.

        Pending changes are flushed on both sides, so that each is checked under its own scope.
        """
        await self.session.flush()
        structlog.get_logger("newel.db").info("system_scope", reason=reason)
        before, self._scoped.scope = self._scoped.scope, SystemScope(reason=reason)
        try:
            yield self
            await self.session.flush()
        finally:
            self._scoped.scope = before

    async def flush(self) -> None:
        """Send pending changes to the database inside the open transaction."""
        await self.session.flush()

    def publish(self, event: Event) -> None:
        """Record ``event`` in this transaction: delivered after the commit, or never."""
        self.session.add(outbox_event(event))


class Database:
    """The engines of one database; makes no connection until the first unit needs one.

    ``url`` is ``sqlite+aiosqlite:///file.db`` or ``postgresql+asyncpg://...``. Reads run on
    connections in AUTOCOMMIT. SQLite writes go through one connection (BEGIN IMMEDIATE, WAL,
    synchronous=FULL), because SQLite has one writer and a queue here is fairer than its busy loop.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 20,
        max_overflow: int = 10,
        pool_recycle_seconds: int = 3600,
        pool_wait_seconds: float = 2.0,
    ) -> None:
        self.url = url
        pool = {
            "pool_size": pool_size,
            "max_overflow": max_overflow,
            "pool_recycle": pool_recycle_seconds,
            "pool_timeout": pool_wait_seconds,
        }
        backend = _backend(url)
        self.is_sqlite: bool = backend == "sqlite"
        if self.is_sqlite:
            self._writer = _sqlite_writer(url)
            self._reader = _sqlite_reader(url, pool)
        else:
            self._writer = _postgresql(url, pool)
            self._reader = self._writer.execution_options(isolation_level="AUTOCOMMIT")
        for engine in {self._writer.sync_engine, self._reader.sync_engine}:
            event.listen(engine, "handle_error", translate)
            event.listen(engine, "do_connect", translate_connect_error)

    @property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's engine for writes; migrations and tests use it."""
        return self._writer

    @property
    def reading_engine(self) -> AsyncEngine:
        """SQLAlchemy's engine for reads: AUTOCOMMIT connections."""
        return self._reader

    @asynccontextmanager
    async def read(self, caller: Principal | None) -> AsyncGenerator[Work]:
        """Open a read unit for ``caller``: AUTOCOMMIT, every write is refused."""
        async with self._session(self._reader, read_only=True) as session:
            yield Work(session, caller)

    @asynccontextmanager
    async def write(self, caller: Principal | None) -> AsyncGenerator[Work]:
        """Open a write unit for ``caller``: commits at the end, rolls back on any exception."""
        async with self._session(self._writer, read_only=False) as session:
            yield Work(session, caller)
            await session.commit()

    async def ping(self) -> None:
        """Run an empty query; raises ``Unavailable`` when the database does not answer."""
        async with self._reader.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every pooled connection."""
        await self._reader.dispose()
        await self._writer.dispose()

    @asynccontextmanager
    async def _session(
        self, engine: AsyncEngine, *, read_only: bool
    ) -> AsyncGenerator[AsyncSession]:
        session = AsyncSession(engine, sync_session_class=_UnitSession, expire_on_commit=False)
        cast("_UnitSession", session.sync_session).read_only = read_only
        async with session:
            yield session


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


def _postgresql(url: str, pool: dict[str, Any]) -> AsyncEngine:
    connect = {"timeout": 2, "server_settings": {"jit": "off"}} if "+asyncpg" in url else {}
    return create_async_engine(
        url,
        **pool,
        connect_args=connect,
        pool_pre_ping=True,
        pool_use_lifo=True,
        hide_parameters=True,  # values of a failed statement are input and may be secret
        skip_autocommit_rollback=True,
    )


def _sqlite_writer(url: str) -> AsyncEngine:
    engine = create_async_engine(
        url, pool_size=1, max_overflow=0, pool_timeout=SQLITE_BUSY_SECONDS, hide_parameters=True
    )
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_immediate)
    return engine


def _sqlite_reader(url: str, pool: dict[str, Any]) -> AsyncEngine:
    engine = create_async_engine(
        url,
        **pool,
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


def _begin_immediate(connection: Connection) -> None:
    """Take the write lock at once: who reads first and writes later may be refused."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def get_database(connection: HTTPConnection) -> Database:
    """Return the application's database."""
    database: Database = connection.app.state.database
    return database


async def get_work(connection: HTTPConnection) -> AsyncIterator[Work]:
    """Open the unit of work of this request; the dependency behind ``CurrentWork``."""
    database = get_database(connection)
    reads = connection.scope.get("method") in {"GET", "HEAD", "OPTIONS"}
    async with database.read(None) if reads else database.write(None) as work:
        yield work


CurrentWork = Annotated[Work, Depends(get_work, scope="function")]
"""The unit of work of a request: ``Annotated[Work, Depends(get_work, scope="function")]``.

The scope makes FastAPI end it, and so commit, before the response is sent.
"""
