"""The pool of connections: who waits, waits in line, and nobody gets a dead connection.

SQLAlchemy's own pool lets a newcomer take the connection that somebody in the line was just woken
for, who then queues again at the end: under load a few requests wait for very long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import await_only

from newel.errors import Unavailable

__all__ = ["FairPool", "refuse_closed"]


class FairPool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool behind a line: first come, first served, for at most ``timeout`` seconds.

    It raises ``Unavailable`` for who has waited that long. Belongs to one event loop, as its
    connections do.
    """

    free: int
    """How many connections may be taken before somebody has to wait."""

    def __init__(self, creator: Any, *, pool_size: int, max_overflow: int, **options: Any) -> None:
        super().__init__(creator, pool_size=pool_size, max_overflow=max_overflow, **options)
        self.free = self._most = pool_size + max_overflow
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def in_use(self) -> int:
        """How many connections are taken."""
        return self._most - self.free

    @property
    def waiting(self) -> int:
        """How many stand in line for one."""
        return len(self._line)

    # The two methods that every pool of SQLAlchemy is made of.

    def _do_get(self) -> ConnectionPoolEntry:
        if self.free > 0:
            self.free -= 1
        else:
            await_only(self._wait())
        try:
            return super()._do_get()
        except BaseException:
            self._pass_on()
            raise

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        super()._do_return_conn(record)
        self._pass_on()

    async def _wait(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await asyncio.wait_for(turn, self.timeout())
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._pass_on()  # it was our turn in the moment in which we gave up
            if isinstance(error, TimeoutError):
                raise Unavailable("The service is busy.", retry_after_seconds=1) from error
            raise

    def _pass_on(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
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
