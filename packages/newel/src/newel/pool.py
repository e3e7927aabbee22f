"""The pool of connections: who waits, waits in line, and nobody gets a dead connection.

SQLAlchemy's own pool lets a newcomer take the connection that somebody in the line was just woken
for, who then queues again at the end: under load a few requests wait for very long.

A database that is silent (its host lost power, a firewall forgot us) refuses nothing: who waits for
it would wait as long as TCP does. ``watch`` finds that out and has all of them told at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog
from sqlalchemy import text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import await_only, greenlet_spawn

from newel import context
from newel.errors import Unavailable
from newel.tasks import Line, end_tasks

__all__ = ["FairPool", "refuse_closed", "watch"]

AWAY: Final = "The database does not answer."
_LOOK_SECONDS: Final = 0.1
_SILENT_SECONDS: Final = 0.3
"""How long a connection is taken until we ask whether the database is there at all."""

# Together with the silence, less than the two seconds in which a request is to be answered.
_PULSES_SECONDS: Final = (0.4, 0.8)
_RETURN_SECONDS: Final = 1.5
_AGAIN_SECONDS: Final = 0.3
_TICK_SECONDS: Final = 0.1

_LONG: Final = 8
_LONG_SECONDS: Final = 1.0
"""A line of so many is not joined by a request when its first has waited for half of this: each
who waits holds a place (``admission``) that others, who only read, would make better use of."""

_log = structlog.get_logger("newel.pool")


class FairPool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool behind a line: first come, first served, for at most ``timeout`` seconds.

    It raises ``Unavailable`` for who has waited that long, or would, and at once while the database
    ``is_away``. Belongs to one event loop, as its connections do.
    """

    free: int
    """How many connections may be taken before somebody has to wait."""

    is_away: bool = False
    """Whether the database is silent, as far as ``watch`` knows."""

    def __init__(self, creator: Any, *, pool_size: int, max_overflow: int, **options: Any) -> None:
        super().__init__(creator, pool_size=pool_size, max_overflow=max_overflow, **options)
        # Not under our name: who stops a service is not told how its pool ends.
        self.logger: Any = logging.getLogger("sqlalchemy.pool")
        self.free = self._most = pool_size + max_overflow
        self._line = Line(self._pass_on)
        # Since when each is taken; of one that is being made, by whoever makes it.
        self._taken: dict[object, float] = {}
        self._making: set[asyncio.Timeout] = set()

    @property
    def in_use(self) -> int:
        """How many connections are taken."""
        return self._most - self.free

    @property
    def waiting(self) -> int:
        """How many stand in line for one."""
        return len(self._line)

    @property
    def taken_seconds(self) -> float:
        """How long ago the connection was taken that has been so for longest; 0: there is none."""
        return time.monotonic() - min(self._taken.values()) if self._taken else 0.0

    def give_up(self) -> None:
        """End what is taken and what is being made: who waits for an answer gets an error now."""
        self.is_away = True
        for limit in self._making:
            if not limit.expired():  # one that was told before may still be on its way out
                limit.reschedule(0)
        for taken in list(self._taken):
            if isinstance(taken, ConnectionPoolEntry) and taken.driver_connection is not None:
                _cut(taken.driver_connection)

    # How a pool of SQLAlchemy makes a connection, a new one or again.

    def _should_wrap_creator(self, creator: Any) -> Any:
        create = super()._should_wrap_creator(creator)

        def connect(entry: ConnectionPoolEntry) -> Any:
            return await_only(self._create(create, entry))

        return connect

    async def _create(self, create: Callable[[Any], Any], entry: ConnectionPoolEntry) -> Any:
        limit = asyncio.timeout(None)
        self._making.add(limit)
        try:
            async with limit:
                return await greenlet_spawn(create, entry)
        except TimeoutError:
            raise Unavailable(AWAY) from None
        finally:
            self._making.discard(limit)

    # The two methods that every pool of SQLAlchemy is made of.

    def _do_get(self) -> ConnectionPoolEntry:
        if self.free > 0:
            self.free -= 1
        elif self._is_late or not await_only(self._line.wait(self.timeout())):
            raise Unavailable("The service is busy.", retry_after_seconds=1)
        making, began = object(), time.monotonic()
        self._taken[making] = began
        try:
            self._refuse_if_away()
            record = super()._do_get()
        except BaseException:
            self._pass_on()
            raise
        finally:
            del self._taken[making]
        self._taken[record] = began
        return record

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        self._taken.pop(record, None)
        try:
            connection: Any = record.dbapi_connection
            # Every asyncio driver of SQLAlchemy's has it; a test fails when it is renamed.
            if connection is not None and connection._execute_mutex.locked():  # noqa: SLF001 - see above
                record.invalidate()  # a call on it is under way: its unit ended without it
            super()._do_return_conn(record)
        finally:  # a connection that is not kept is closed, and that may be cut off
            self._pass_on()

    @property
    def _is_late(self) -> bool:
        """Whether a request would wait in vain.

        A worker waits all the same: its jobs are others' if it cannot say that it is there.
        """
        if context.deadline.get() is None:
            return False
        patience = self.timeout()
        if len(self._line) >= _LONG:
            patience = min(patience, _LONG_SECONDS)
        return self._line.is_slow(patience)

    def _refuse_if_away(self) -> None:
        if self.is_away:
            raise Unavailable(AWAY)

    def _pass_on(self) -> None:
        if not self._line.call():
            self.free += 1


def refuse_closed(
    _connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection
) -> None:
    """Let the pool replace a connection that the server has closed (SQLAlchemy's ``checkout``).

    It asks the driver, which has seen the end of the stream, and so costs no round trip.
    """
    is_closed = getattr(entry.driver_connection, "is_closed", None)
    if is_closed is not None and is_closed():
        raise DisconnectionError


# ----------------------------------------------------------------------------------------- silence


async def watch(engine: AsyncEngine, alone: AsyncEngine) -> None:
    """Look after the pool of ``engine`` until cancelled; ``alone`` connects beside it.

    When a connection is taken for long, the database is asked for a sign of life on a connection
    of our own: a statement may take its time, a silent database is given up after 1.6 seconds.
    """
    pulse = _Pulse(alone)
    try:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            pool = engine.sync_engine.pool
            assert isinstance(pool, FairPool)  # noqa: S101 - what `engines` makes
            if pool.is_away:
                if await pulse.beats(_RETURN_SECONDS):
                    pool.is_away = False
                    _log.info("database_back")
            elif not pulse.is_ready or pool.taken_seconds > _SILENT_SECONDS:
                # The first connection is made while there is time: far away it takes a second.
                patience = _PULSES_SECONDS if pulse.is_ready else [_RETURN_SECONDS]
                if not await pulse.beats(*patience) and pool.taken_seconds > _SILENT_SECONDS:
                    pool.give_up()
                    _log.warning("database_silent")
                await asyncio.sleep(_AGAIN_SECONDS)
    finally:
        await pulse.end()


class _Pulse:
    """A connection that asks for signs of life."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._connection: AsyncConnection | None = None

    @property
    def is_ready(self) -> bool:
        """Whether there is a connection to ask on."""
        return self._connection is not None

    async def beats(self, *patience_seconds: float) -> bool:
        """Tell whether the database answers; each try but the first is on a new connection."""
        for seconds in patience_seconds:
            if await self._is_answered(seconds):
                return True
            await self.end()
        return False

    async def _is_answered(self, seconds: float) -> bool:
        """Wait so long for an answer; while this process stands still, its time does too."""
        asking = asyncio.create_task(self._ask())
        try:
            for _ in range(round(seconds / _TICK_SECONDS)):
                done, _ = await asyncio.wait([asking], timeout=_TICK_SECONDS)
                if done:
                    return asking.exception() is None
            return False
        finally:
            if not asking.done():
                await self._cut()  # else SQLAlchemy takes leave of it, and waits two seconds
                await end_tasks([asking])

    async def _ask(self) -> None:
        if self._connection is None:
            self._connection = await self._engine.connect()
        await self._connection.execute(text("SELECT 1"))

    async def _cut(self) -> None:
        if self._connection is not None:
            with suppress(Exception):  # it may be in any state
                raw = await self._connection.get_raw_connection()
                _cut(raw.driver_connection)

    async def end(self) -> None:
        """Let the connection go, without a word that nobody may answer."""
        await self._cut()
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # as above
                await connection.close()


def _cut(driver: Any) -> None:
    """End a connection of a driver from here, while somebody waits for its answer."""
    terminate = getattr(driver, "terminate", None)
    if terminate is not None:
        terminate()  # asyncpg
        return
    with suppress(OSError), socket.socket(fileno=os.dup(driver.fileno())) as its:
        its.shutdown(socket.SHUT_RDWR)  # psycopg, which sees the end of the stream
