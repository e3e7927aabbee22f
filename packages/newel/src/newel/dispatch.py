"""Dispatch: how a job that may run comes to a worker, out of its table or by a carrier.

    carrier = open_carrier(settings.jobs_url, name="agents", is_sqlite=False)  # None: the table
    dispatch = dispatch_by(queue, carrier)
    jobs = await dispatch.claim("default", most=10)

The row stays the truth: a carrier such as NATS JetStream takes no more than "job 7 may run" to one
of any number of workers, which then claims the row and may find that it is not so any more. A row
says when it was announced; one that the carrier should have delivered by then is announced again.
While the carrier is away, workers take their jobs out of the table.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from itertools import groupby
from typing import Final, Protocol
from urllib.parse import urlsplit
from uuid import UUID

import structlog

from newel.errors import ConfigurationError, Unavailable
from newel.extras import import_driver
from newel.job_queue import OVERDUE, Announced, Claimed, Due, JobQueue
from newel.job_rows import JOBS
from newel.outbox import announce, hear

__all__ = ["Carrier", "Dispatch", "dispatch_by", "open_carrier"]

_LANES: Final = ("urgent", "normal", "patient")
"""The lines of a queue, by the sign of the priority; in one of them the first come is the first."""

_OF_LANE: Final = dict(
    zip(_LANES, (JOBS.c.priority < 0, JOBS.c.priority == 0, JOBS.c.priority > 0), strict=True)
)
_ANNOUNCED_ROWS: Final = 500
_DOUBT_EVERY_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 1.0
_log = structlog.get_logger("newel.dispatch")


class Carrier(Protocol):
    """Lines of messages, each of which is delivered to one process, in order and at least once.

    All raise ``Unavailable`` while there is nobody to answer.
    """

    async def send(self, line: str, bodies: Sequence[bytes]) -> None:
        """Put ``bodies`` at the end of ``line`` and wake who hears."""
        ...

    def take(self, line: str, *, most: int) -> AbstractAsyncContextManager[Sequence[bytes]]:
        """Take up to ``most`` messages that are there: gone after the block, back if it fails."""
        ...

    async def oldest(self, line: str) -> bytes | None:
        """Return the first message of ``line`` that is not gone yet."""
        ...

    async def hear(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever something was sent, until cancelled."""
        ...

    async def ping(self) -> None:
        """Return when it answers."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


class Dispatch(Protocol):
    """How the jobs of one ``JobQueue`` come to its worker."""

    async def claim(self, queue: str, *, most: int) -> list[Claimed]:
        """Take up to ``most`` jobs of ``queue`` that may run, the most urgent and oldest first."""
        ...

    async def care(self, due: Due, queues: Sequence[str]) -> int:
        """See to it that what may run can be claimed; return of how many jobs something changed."""
        ...

    async def announce(self) -> None:
        """Tell other processes of what this one records, until cancelled."""
        ...

    async def hear(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when another process says that there may be jobs, until cancelled."""
        ...


def open_carrier(url: str | None, *, name: str, is_sqlite: bool) -> Carrier | None:
    """Return what ``JOBS_URL`` asks for; connects to nothing yet. ``None``: the table will do.

    Services that share a server have a ``name`` each. Raises ``ConfigurationError``, also for
    SQLite: its file is on one machine, whose workers need nobody to carry jobs to others.
    """
    if url is None:
        return None
    if is_sqlite:
        raise ConfigurationError(
            "JOBS_URL is set, and DATABASE_URL is SQLite, which workers elsewhere cannot reach",
            fix="leave JOBS_URL out, or set DATABASE_URL to postgresql+asyncpg://...",
        )
    if urlsplit(url).scheme not in {"nats", "tls"}:
        raise ConfigurationError(
            "JOBS_URL is not an address of NATS",
            fix="write nats://user:password@host:4222, or leave it out: the database will do",
        )
    driver = import_driver("nats", extra="nats", asked="JOBS_URL asks for NATS")
    carrier: Carrier = driver.JetStreamCarrier(url, name=name)
    return carrier


def dispatch_by(queue: JobQueue, carrier: Carrier | None) -> Dispatch:
    """Return the dispatch of ``queue`` by ``carrier``, or, without one, out of the table."""
    return _Table(queue) if carrier is None else _Carried(queue, carrier)


class _Table:
    """Workers look for themselves; PostgreSQL's NOTIFY tells them when."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue

    async def claim(self, queue: str, *, most: int) -> list[Claimed]:
        return await self._queue.claim(queue, most=most)

    async def care(self, due: Due, queues: Sequence[str]) -> int:  # noqa: ARG002 - see Dispatch
        """Take back what was announced while there was a carrier."""
        return await self._queue.withdraw(OVERDUE) if due.overdue else 0

    async def announce(self) -> None:
        database = self._queue.database
        if database.is_sqlite:
            await asyncio.Event().wait()  # there is nobody to tell
        await announce(database.reading_engine, database.bell)

    async def hear(self, wake: Callable[[], None]) -> None:
        if self._queue.database.is_sqlite:
            await asyncio.Event().wait()  # there is nobody to hear
        await hear(self._queue.database.reading_engine, wake)


class _Carried:
    """A carrier delivers, to one worker each, what was announced."""

    def __init__(self, queue: JobQueue, carrier: Carrier) -> None:
        self._queue = queue
        self._carrier = carrier
        self._is_away = False
        self._doubted_at = 0.0

    async def claim(self, queue: str, *, most: int) -> list[Claimed]:
        claimed: list[Claimed] = []
        try:
            for lane in _LANES:
                await self._claim_of(f"{queue}.{lane}", claimed, most=most)
            self._note(None)
        except Unavailable as error:
            if not claimed:
                self._note(error)
                return await self._queue.claim(queue, most=most)
        return claimed

    async def _claim_of(self, line: str, claimed: list[Claimed], *, most: int) -> None:
        """Fill ``claimed`` from ``line``; of what is delivered, some may not run any more."""
        while room := most - len(claimed):
            async with self._carrier.take(line, most=room) as bodies:
                if ids := [said[0] for body in bodies if (said := _read(body))]:
                    claimed += await self._queue.claim_these(ids)
            if len(bodies) < room:
                return

    async def care(self, due: Due, queues: Sequence[str]) -> int:
        """Announce what may run, and again what was never sent, or was lost."""
        moved = 0
        try:
            if due.overdue and time.monotonic() - self._doubted_at > _DOUBT_EVERY_SECONDS:
                moved += await self._doubt(queues)
                self._doubted_at = time.monotonic()
            if due.unannounced or moved:
                moved += await self._announce_some()
        except Unavailable as error:
            self._note(error)
            if due.overdue:  # nobody delivers it now: it is to be claimed out of the table
                moved += await self._queue.withdraw(OVERDUE)
        return moved

    async def _doubt(self, queues: Sequence[str]) -> int:
        """Have announced again what the carrier does not hold any more; return how many jobs.

        A line is in order: what was announced before the first message it holds is lost.
        """
        doubted = 0
        for queue in queues:
            for lane, of_lane in _OF_LANE.items():
                which = [OVERDUE, JOBS.c.queue == queue, of_lane]
                if said := _read(await self._carrier.oldest(f"{queue}.{lane}")):
                    which.append(JOBS.c.announced_at < said[1])
                doubted += await self._queue.withdraw(*which)
        return doubted

    async def _announce_some(self) -> int:
        """Announce some hundred jobs at most; return how many.

        They are marked before they are sent. Who is killed in between leaves it to ``_doubt``.
        """
        await self._carrier.ping()
        self._note(None)
        marked = sorted(await self._queue.announce(most=_ANNOUNCED_ROWS), key=_order)
        try:
            for line, jobs in groupby(marked, key=_line):
                await self._carrier.send(line, [_written(job) for job in jobs])
        except Unavailable:
            await self._queue.withdraw(JOBS.c.id.in_([job.id for job in marked]))
            raise
        return len(marked)

    async def announce(self) -> None:
        recorded = asyncio.Event()
        async with self._queue.database.bell.listening(recorded):
            while True:
                await recorded.wait()
                recorded.clear()
                try:
                    while await self._announce_some():
                        pass
                except Unavailable as error:
                    self._note(error)

    async def hear(self, wake: Callable[[], None]) -> None:
        try:
            await self._carrier.hear(wake)
        except Unavailable as error:
            self._note(error)
            await asyncio.sleep(_AGAIN_SECONDS)

    def _note(self, error: Unavailable | None) -> None:
        """Log once that the carrier, or the database, is away, and once that it is back."""
        if (error is not None) != self._is_away:
            self._is_away = error is not None
            _log.warning("carrier_away" if error else "carrier_back", exc_info=error)


def _line(job: Announced) -> str:
    lane = _LANES[(job.priority >= 0) + (job.priority > 0)]
    return f"{job.queue}.{lane}"


def _order(job: Announced) -> tuple[str, int, UUID]:
    return _line(job), job.priority, job.id


def _written(job: Announced) -> bytes:
    return f"{job.id} {job.announced_at.isoformat()}".encode()


def _read(body: bytes | None) -> tuple[UUID, datetime] | None:
    """Return whom a message is about, and of when it is; ``None``: it is not one of ours."""
    try:
        id, _, announced_at = (body or b"").decode().partition(" ")
        return UUID(id), datetime.fromisoformat(announced_at)
    except ValueError:
        return None
