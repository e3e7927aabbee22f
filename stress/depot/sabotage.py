"""The defects that `stress faults` exists to find; they reach into the kernel to break it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import FastAPI
from sqlalchemy import ColumnElement, bindparam, func, literal, update

from newel import job_queue
from newel.clock import utc_now
from newel.db import Database
from newel.drivers.redis import RedisLink
from newel.entity import UTCDateTime
from newel.errors import Unavailable
from newel.job_queue import JobQueue
from newel.job_rows import JOBS

__all__ = ["SABOTAGES", "Sabotage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sabotage:
    """A defect: how it is put into the depot, in which scenario, and the figure that shows it."""

    plant: Callable[[FastAPI], None]
    fault: str
    found_by: str
    scenario: str = "faults"


_Queue: Final[Any] = JobQueue
_Link: Final[Any] = RedisLink
_Database: Final[Any] = Database
_PATIENCE_SECONDS: Final = 10.0


def _no_watch(app: FastAPI) -> None:
    """Wait for a database that is silent."""

    @asynccontextmanager
    async def unwatched() -> AsyncGenerator[None]:
        yield

    database: Any = app.state.database
    database.watching = unwatched


def _no_breaker(app: FastAPI) -> None:
    """Let every call find out by itself, and at length, that Redis is away."""
    pool = app.state.redis._client.connection_pool
    for wait in ("socket_timeout", "socket_connect_timeout"):
        pool.connection_kwargs[wait] = _PATIENCE_SECONDS

    async def tried(link: Any, *arguments: Any) -> Any:
        link._wait_seconds, link._is_away = _PATIENCE_SECONDS, False
        return await try_it(link, *arguments)

    try_it = _Link._try
    _Link._try = tried


def _lease_by_own_clock(_: FastAPI) -> None:
    """Let leases, and what is due, be told by the clock of the process."""

    def clock(seconds: float | ColumnElement[float] = 0.0) -> ColumnElement[datetime]:
        if isinstance(seconds, ColumnElement):
            return literal(utc_now(), UTCDateTime()) + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
        return literal(utc_now() + timedelta(seconds=seconds), UTCDateTime())

    queue: Any = job_queue

    async def claim(self: Any, queue_name: str, *, most: int) -> Any:
        queue.from_now = clock
        which = (queue._UNANNOUNCED, JOBS.c.queue == bindparam("b_queue"))
        statement = queue._claim(*which)
        return await self._claim(statement, {"b_queue": queue_name, "b_most": most})

    queue.from_now = clock
    _Queue.claim = claim


def _uncounted(_: FastAPI) -> None:
    """Count an attempt when it has failed, which one that kills its worker never does."""
    claim = _Queue._claim

    async def claim_uncounted(self: Any, statement: Any, which: Mapping[str, Any]) -> Any:
        claimed = await claim(self, statement, which)
        ids = [one.id for one in claimed if one.name == "explode"]
        async with self._engine.begin() as connection:
            changed = update(JOBS).where(JOBS.c.id.in_(ids))
            await connection.execute(changed.values(attempt=JOBS.c.attempt - 1))
        return claimed

    _Queue._claim = claim_uncounted


def _leak(_: FastAPI) -> None:
    """Leave a file open at every look at the database that fails."""
    ping = _Database.ping

    async def ping_and_leak(database: Any) -> None:
        try:
            await ping(database)
        except Unavailable:
            os.open("/dev/null", os.O_RDONLY)
            raise

    _Database.ping = ping_and_leak


SABOTAGES: Final[Mapping[str, Sabotage]] = {
    "no-watch": Sabotage(
        plant=_no_watch, fault="database-black-hole", found_by="slowest answer during it, s"
    ),
    "no-breaker": Sabotage(
        plant=_no_breaker, fault="redis-black-hole", found_by="slowest answer during it, s"
    ),
    "own-clock": Sabotage(
        plant=_lease_by_own_clock,
        fault="clock-of-processes",
        found_by="jobs that were begun again",
    ),
    "uncounted": Sabotage(
        plant=_uncounted, fault="worker-poison", found_by="workers that it killed"
    ),
    "leak": Sabotage(
        plant=_leak,
        fault="database-refuse",
        found_by="growth of connections, threads, files",
    ),
}
