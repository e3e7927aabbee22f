"""What the harness sees of the jobs while they run: how many are open, and who is overdue."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from newel.clock import utc_now
from newel.events import OUTBOX
from newel.job_rows import JOBS, STEPS
from stress.databases import DatabaseUnderTest
from stress.fleet import Member

__all__ = ["Monitor"]

_LOOK_SECONDS: Final = 0.1
_REMEMBERED: Final = 200


class Monitor:
    """Looks at the tables ten times a second; ``open`` are the jobs and events that wait.

    ``overdue_seconds`` is the longest that a job was left to a dead worker after its lease had
    ended, while another worker could have taken it.
    """

    def __init__(
        self, database: DatabaseUnderTest, *, working: Callable[[], Sequence[Member]]
    ) -> None:
        self._database = database
        self._working = working
        self._waits: deque[tuple[datetime, Mapping[int, float]]] = deque(maxlen=_REMEMBERED)
        self.open = 0
        self.looks = 0
        self.overdue_seconds = 0.0

    async def watch(self) -> None:
        """Look until cancelled; a database that is away is looked at when it is back."""
        while True:
            with suppress(DBAPIError, OSError):
                await self._look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self) -> None:
        leases = select(JOBS.c.leased_until).where(JOBS.c.state == "running")
        unfinished = select(func.count()).where(JOBS.c.finished_at.is_(None))
        unpublished = select(func.count()).where(OUTBOX.c.published_at.is_(None))
        async with self._database.engine.connect() as connection:
            now = utc_now()
            ended = (await connection.scalars(leases)).all()
            # The events first: what they are handed over to is among the jobs that are seen then.
            counts = [
                (await connection.execute(one)).scalar_one() for one in (unpublished, unfinished)
            ]
        self.open = sum(counts)
        self.looks += 1
        up_since = self._database.up_since
        workers = {one.process.pid: one for one in self._working()}
        self._waits.append((now, {pid: one.waited_seconds() for pid, one in workers.items()}))
        if up_since is None or not ended:
            return
        for pid, worker in workers.items():
            if worker.up_since is not None:
                since = max(min(ended), worker.up_since, up_since)
                seconds = (now - since).total_seconds() - self._waited(pid, since)
                self.overdue_seconds = max(self.overdue_seconds, seconds)

    def _waited(self, pid: int, since: datetime) -> float:
        """Return how long a worker has waited for a processor since then."""
        known = [waits[pid] for at, waits in self._waits if at >= since and pid in waits]
        return known[-1] - known[0] if known else 0.0

    async def jobs_of(self, pid: int) -> list[UUID]:
        """Return the jobs of the worker with this process id that have done their first step."""
        async with self._database.engine.connect() as connection:
            mine = JOBS.c.worker.like(f"%:{pid}:%")
            begun = select(STEPS.c.job_id)
            found = select(JOBS.c.id).where(JOBS.c.state == "running", mine, JOBS.c.id.in_(begun))
            return list((await connection.scalars(found)).all())

    async def held_by(self, pid: int) -> int:
        """Return how many jobs the worker with this process id has."""
        mine = JOBS.c.worker.like(f"%:{pid}:%")
        counted = select(func.count()).where(JOBS.c.state == "running", mine)
        async with self._database.engine.connect() as connection:
            return (await connection.execute(counted)).scalar_one()

    async def are_done(self, jobs: list[UUID]) -> bool:
        """Tell whether all of ``jobs`` have ended."""
        async with self._database.engine.connect() as connection:
            unfinished = JOBS.c.finished_at.is_(None)
            left = select(func.count()).where(JOBS.c.id.in_(jobs), unfinished)
            return not await connection.scalar(left)
