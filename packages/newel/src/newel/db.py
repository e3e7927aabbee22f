"""The database: engines, and the unit of work that commits before the answer is sent.

``CurrentWork`` is the unit of a request. GET and HEAD get a read unit (no BEGIN, no COMMIT, refuses
to write); every other method gets a write unit that the kernel commits after the endpoint has
returned and *before* the response is sent, so that a 2xx always means "on disk".
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    Callable,
    Collection,
    Hashable,
    Mapping,
    Sequence,
)
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import chain
from typing import Annotated, Any, Final, ParamSpec, Self, TypeVar, cast
from uuid import UUID
from weakref import WeakSet

import structlog
from anyio import CancelScope
from fastapi import Depends
from pydantic import BaseModel
from sqlalchemy import Select, literal, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import InstanceState
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.util import greenlet_spawn
from starlette.requests import HTTPConnection

from newel.cache import Cache, PassedBy, Unit
from newel.cache_levels import LevelCache
from newel.database_errors import ConnectionLost
from newel.engines import is_watched, open_beside, open_engines, read
from newel.entity import Cached, Entity
from newel.errors import Unavailable
from newel.events import Audience, Event, event_row, topic_of, write_events
from newel.outbox import Bell, Enqueueable, record, unless_rolled_back, write_recorded
from newel.pool import FairPool, watch
from newel.principal import Principal
from newel.room_delivery import Rooms, Spoken
from newel.room_log import Position
from newel.rows import Listeners, Rows
from newel.scope import OVER, SCOPED, Scope, SystemScope
from newel.shapes import is_plain
from newel.statements import Statements
from newel.tasks import beside
from newel.telemetry import traced
from newel.unit_session import READ_ONLY, ReadOnlyUnit, UnitSession

__all__ = ["CurrentWork", "Database", "Work", "get_database", "get_work"]

P = ParamSpec("P")
T = TypeVar("T")


class Work(Unit):
    """One unit of work: a session, the caller it works for, and what happens after the commit.

    ``session`` is SQLAlchemy's own ``AsyncSession``. Nobody calls ``commit`` but the kernel.
    """

    def __init__(self, database: Database, caller: Principal | None, *, read_only: bool) -> None:
        self.database = database
        self.read_only = read_only
        self.scope: Scope | None = caller
        self._session: AsyncSession | None = None
        self._rows: Rows | None = None
        self._is_over = False
        self._after_commit: list[Callable[[], None]] = []
        self._forgotten: dict[str, None] = {}
        self._spoken: list[Sequence[Spoken]] = []
        self._gone: Collection[InstanceState[Any]] = ()
        self.said_at: Position | None = None

    @property
    def cache(self) -> Cache:
        """The application's cache; a unit that writes passes it by, and forgets after its commit.

        What it reads may not be committed yet, and what it changes must not rest on what is old.
        """
        return self.database.cache if self.read_only else PassedBy(self.forget)

    @property
    def seen_by(self) -> Hashable:
        """Whose rows it sees."""
        return self.scope

    @property
    def session(self) -> AsyncSession:
        """SQLAlchemy's session; made when it is first asked for, since rows need none.

        It has what was done without it: the transaction, and the entities.
        """
        self._refuse_over()
        if self._session is None:
            session = self.database.session(self)
            if self._rows is not None:
                self._rows.hand_over(session.sync_session)
            self._session = session
        return self._session

    def plain(self, kind: type[Entity]) -> Rows | None:
        """Return what reads and writes ``kind`` without a session; ``None``: the session does.

        ``Repository`` asks it anew for each thing that it does.
        """
        rows = self._without_session()
        return rows if rows is not None and is_plain(kind) else None

    def _without_session(self) -> Rows | None:
        if self.read_only or self._session is not None:
            return None
        self._refuse_over()
        if self._rows is None:
            self._rows = self.database.without_session()
        return self._rows if self._rows is not None and self._rows.is_clean else None

    @property
    def caller(self) -> Principal | None:
        """Whose rows this unit sees; ``None`` until ``requires`` or ``public`` has set it."""
        return self.scope if isinstance(self.scope, Principal) else None

    @caller.setter
    def caller(self, caller: Principal | None) -> None:
        self.scope = caller

    async def admit(self, caller: Principal) -> None:
        """Work for ``caller``, who may call this route: ``requires`` and ``public`` end with it."""
        self.caller = caller

    @asynccontextmanager
    async def as_system(self, reason: str) -> AsyncGenerator[Self]:
        """See and change everybody's rows inside the block; the reason is logged.

        Pending changes are flushed on both sides, so that each is checked under its own scope. What
        was read or added in the block and is not the caller's to see is of this unit no longer.
        """
        await self.flush()
        structlog.get_logger("newel.db").info("system_scope", reason=reason)
        known = self._identities()
        before, self.scope = self.scope, SystemScope(reason=reason)
        try:
            yield self
            await self.flush()
        finally:
            self.scope = before
            self._let_go(known)

    def _identities(self) -> AbstractSet[object]:
        known = set[object]() if self._rows is None else self._rows.identities()
        return known if self._session is None else known.union(self._session.identity_map.keys())

    def _let_go(self, known: AbstractSet[object]) -> None:
        gone: list[Entity] = []
        if self._rows is not None:
            gone.extend(self._rows.let_go(known, self.scope))
        if self._session is not None:
            gone.extend(cast("UnitSession", self._session.sync_session).let_go(known))
        if gone:
            self._gone = WeakSet([*self._gone, *map(instance_state, gone)])

    async def rows(
        self, statement: Select[*tuple[Any, ...]], parameters: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """Return the rows of a SELECT of columns *that has its scope in it*, as ``reading`` makes.

        A unit that only reads holds no connection before or after.
        """
        if self.read_only and self._session is None:
            return await self.database.rows(statement, parameters)
        if (rows := self._without_session()) is not None:
            return await rows.select(statement, parameters)
        return (await self.session.execute(statement, parameters, execution_options=SCOPED)).all()

    async def flush(self) -> None:
        """Send all that is pending inside the open transaction: events and jobs, too."""
        await self.flush_entities()
        if self._session is not None:
            await greenlet_spawn(write_recorded, self._session.sync_session)
        elif self._rows is not None:
            await greenlet_spawn(self._rows.write_recorded)

    async def flush_entities(self) -> None:
        """Send pending changes of entities inside the open transaction."""
        if self._rows is not None:
            self._rows.refuse_after_failure()
        if self._session is not None or (self._rows is not None and not self._rows.is_clean):
            await self.session.flush()

    def publish(self, event: Event) -> None:
        """Record ``event`` in this transaction: delivered after the commit, or never.

        Raises ``Unavailable`` while as many events wait for the broker as may.
        """
        audience, leaves = self.database.audience, topic_of(type(event)) is not None
        if leaves and audience.is_full:
            raise Unavailable("Too many events wait for the message broker.")
        is_handled = audience.handles(type(event))
        self._recording(rings=is_handled or (leaves and audience.has_broker))
        row = event_row(event, self.caller, is_handled=is_handled)
        if (rows := self._without_session()) is not None:
            rows.record(write_events, row)
        else:
            record(self.session.sync_session, write_events, row)

    def enqueue(self, job: Enqueueable[P], /, *args: P.args, **kwargs: P.kwargs) -> UUID:
        """Record a call of ``job`` in this transaction: run after the commit, or never.

        Returns the job's id; it runs as ``caller``. Raises ``ValueError`` for arguments that are
        not of the declared types.
        """
        self._recording()
        return job.record(self.session.sync_session, self.caller, *args, **kwargs)

    def _recording(self, *, rings: bool = True) -> None:
        if self.read_only:
            raise ReadOnlyUnit(READ_ONLY)
        if rings and self.database.bell.ring not in self._after_commit:
            self.after_commit(self.database.bell.ring)

    def after_commit(self, forget: Callable[[], None]) -> None:
        """Call ``forget`` after the commit: for what this process remembers.

        Also after one that was cut off, since nobody knows whether it happened. It must not fail,
        and a kill may lose it: what has to happen is an event.
        """
        self._after_commit.append(forget)

    def note_changed(self, entity: Entity) -> None:
        """Forget what is cached of an entity that was written, when it is of such a kind."""
        if isinstance(entity, tuple(self.database.watched)):
            self.forget(entity.__tablename__, f"{entity.__tablename__}:{entity.id}")

    def note_changed_rows(self, kind: type[Entity]) -> None:
        """Forget what is cached of a kind of which a statement has changed nobody knows which."""
        if issubclass(kind, tuple(self.database.watched)):
            self.forget(kind.__tablename__, f"{kind.__tablename__}:*")

    def forget(self, *tags: str) -> None:
        """Forget what is cached under ``tags``, in every process, after the commit or never.

        The answer waits for it. What a kill between the two leaves behind expires.
        """
        self._forgotten.update(dict.fromkeys(tags))

    def broadcast(self, room: str, message: BaseModel, *, but: str = "") -> None:
        """Say ``message``, which has a ``type``, in ``room`` after the commit, or never.

        It is from the unit's caller, and in a room of the caller's tenant; the connection ``but``
        does not get it. The answer waits for it; a kill between the two loses it. Raises
        ``ValueError`` for what is no room or no message.
        """
        if self.read_only:
            raise ReadOnlyUnit(READ_ONLY)
        caller = self.caller
        spoken = self.database.rooms.spoken(
            room,
            message,
            tenant_id=None if caller is None else caller.tenant_id,
            sender=None if caller is None else caller.id,
            but=but,
        )
        session = None if self._session is None else self._session.sync_session
        self._spoken.append(unless_rolled_back(session, spoken))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Commit (or, on an exception, roll back) and give the connection back."""
        try:
            if self._session is not None or self._rows is not None:
                with traced("commit" if kind is None else "roll back"):
                    await self._end(commit=kind is None)
        finally:
            self._is_over = True
            if kind is None:
                for forget in self._after_commit:
                    forget()
                if self._forgotten:
                    await self.database.cache.forget(*self._forgotten)
        if kind is None:  # only what is known to be committed
            for spoken in chain.from_iterable(self._spoken):
                self.said_at = await self.database.rooms.say(spoken)

    async def _end(self, *, commit: bool) -> None:
        """Commit and close in one switch into SQLAlchemy; what goes wrong is rolled back."""
        is_closed = False
        try:
            if commit:
                await greenlet_spawn(self._commit)
                is_closed = True
        finally:
            if not is_closed:  # shielded, as we may be on our way out because we were cancelled
                await asyncio.shield(asyncio.create_task(greenlet_spawn(self._close)))

    def _commit(self) -> None:
        if any(state.modified for state in self._gone):
            raise InvalidRequestError(
                "what was read in a block of `as_system` was changed after it: change it in the "
                "block, or read it again"
            )
        if self._rows is not None:
            self._rows.refuse_after_failure()
        if (rows := self._without_session()) is not None:
            rows.commit()
        else:
            self.session.sync_session.commit()
            self._close()

    def _close(self) -> None:
        self._is_over = True
        try:
            if self._session is not None:
                cast("UnitSession", self._session.sync_session).leave()
        finally:
            if self._rows is not None:
                self._rows.close()

    def _refuse_over(self) -> None:
        if self._is_over:
            raise InvalidRequestError(OVER)


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
        cache: LevelCache | None = None,
        rooms: Rooms | None = None,
    ) -> None:
        self.url = url
        self.bell: Bell = Bell()
        self.audience: Audience = Audience()
        self.cache: LevelCache = cache or LevelCache()
        self.rooms: Rooms = rooms or Rooms()
        self.watched: list[type[Entity]] = [Cached]
        self._listeners: Final = Listeners(UnitSession())
        pool = {
            "pool_size": pool_size,
            "max_overflow": max_overflow,
            "pool_recycle": pool_recycle_seconds,
            "pool_timeout": pool_wait_seconds,
        }
        self._reader, self._writer = open_engines(url, pool)
        self.statements: Statements = Statements(self._reader.dialect)
        self.is_sqlite: bool = self._writer.dialect.name == "sqlite"

    @property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's engine for writes; migrations and tests use it."""
        return self._writer

    @property
    def reading_engine(self) -> AsyncEngine:
        """SQLAlchemy's engine for reads: AUTOCOMMIT connections."""
        return self._reader

    def read(self, caller: Principal | None) -> Work:
        """Return a read unit for ``caller``, for ``async with``: every write is refused."""
        return Work(self, caller, read_only=True)

    def write(self, caller: Principal | None) -> Work:
        """Return a write unit for ``caller``, for ``async with``.

        It commits at the end and rolls back on any exception.
        """
        return Work(self, caller, read_only=False)

    def watch(self, kind: type[Entity]) -> None:
        """Treat entities of ``kind`` as if they were ``Cached``: changing one forgets its tags."""
        self.watched.append(kind)

    def session(self, work: Work) -> AsyncSession:
        """Return the session of a unit of work."""
        engine = self._reader if work.read_only else self._writer
        session = AsyncSession(
            engine,
            sync_session_class=UnitSession,
            expire_on_commit=False,
            join_transaction_mode="control_fully",  # what was begun without it is its own
        )
        cast("UnitSession", session.sync_session).work = work
        return session

    def without_session(self) -> Rows | None:
        """Return what a unit that writes begins with; ``None``: with its session.

        Who listens to flushes and commits, or makes sessions of their own, would miss them.
        """
        is_ours = type(self).session is Database.session and self._listeners.are_ours
        return Rows(self._writer.sync_engine) if is_ours else None

    async def rows(
        self, statement: Select[*tuple[Any, ...]], parameters: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """Run one SELECT on a connection of its own: one switch into SQLAlchemy and back.

        A read may be sent twice, so it is, when the connection turns out to be dead.
        """
        try:
            return await greenlet_spawn(self._rows, statement, parameters)
        except ConnectionLost:
            return await greenlet_spawn(self._rows, statement, parameters)

    def _rows(
        self, statement: Select[*tuple[Any, ...]], parameters: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        engine = self._reader.sync_engine
        prepared = self.statements.prepared(statement)
        if prepared is not None and not is_watched(engine):
            values = prepared.parameters(parameters)
            with suppress(engine.dialect.loaded_dbapi.Error):  # sent again, it is SQLAlchemy's
                return read(engine, prepared, values)
        with engine.connect() as connection:
            return connection.execute(statement, parameters).all()

    def connections(self) -> dict[str, int]:
        """Count the connections of this process that are in use, and the units that wait for one.

        On SQLite those that read: the one that writes is a queue of its own.
        """
        pool = cast("FairPool", self._reader.sync_engine.pool)
        return {"in_use": pool.in_use, "waiting": pool.waiting}

    async def ping(self) -> None:
        """Run an empty query; raises ``Unavailable`` when the database does not answer."""
        await self.rows(select(literal(1)), {})

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        """Inside the block, give up on a database that is silent: ``Unavailable`` in two seconds.

        One on this machine, SQLite, is never silent.
        """
        if self.is_sqlite:
            yield
            return
        async with beside(watch(self._reader, open_beside(self.url))):
            yield

    async def close(self) -> None:
        """Close every pooled connection."""
        await self._reader.dispose()
        await self._writer.dispose()


def get_database(connection: HTTPConnection) -> Database:
    """Return the application's database."""
    return cast("Database", connection.app.state.database)


async def get_work(connection: HTTPConnection) -> Work:
    """Open the unit of work of this request; the dependency behind ``CurrentWork``.

    It ends where FastAPI ends a dependency with ``yield``, whose way there costs more than a read.
    """
    unit: Work | None = connection.scope.get("newel.work")  # of a POST with an idempotency key
    ends: AsyncExitStack = connection.scope["fastapi_function_astack"]
    database = get_database(connection)
    if unit is None and connection.scope.get("method") in {"GET", "HEAD", "OPTIONS"}:
        return await ends.enter_async_context(database.read(None))
    work = await (unit or database.write(None)).__aenter__()

    async def end(*raised: Any) -> None:
        with CancelScope(shield=True):  # a middleware that gives up now, does so after the commit
            await work.__aexit__(*raised)

    ends.push_async_exit(end)
    return work


CurrentWork = Annotated[Work, Depends(get_work, scope="function")]
"""The unit of work of a request: ``Annotated[Work, Depends(get_work, scope="function")]``.

It ends, and so commits, before the response is sent. The scope says so to FastAPI, which refuses a
dependency that outlives the response and needs it.
"""
