"""newel: jobs in PostgreSQL, enqueued in the caller's transaction, kept when they have ended.

With ``JOBS_URL`` in the environment NATS JetStream brings them to the workers.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import structlog
from fastapi import FastAPI
from sqlalchemy import func, inspect, select

from benchmarks.peers.engine import CONCURRENCY, main
from newel.db import Database
from newel.dispatch import open_carrier
from newel.events import OUTBOX
from newel.job_rows import JOBS, STEPS
from newel.jobs import JobRun, job
from newel.worker import Background, Worker, WorkerLimits, working


@job()
async def nothing(job: JobRun, number: int) -> None: ...


class Newel:
    def __init__(self, url: str) -> None:
        self.app = FastAPI()
        state = self.app.state
        state.database = self.database = Database(url.replace("postgresql:", "postgresql+asyncpg:"))
        state.carrier = open_carrier(os.environ.get("JOBS_URL"), name="engines", is_sqlite=False)
        state.background = Background(jobs={"nothing": nothing}, handlers={}, schedules=())
        state.worker_limits = WorkerLimits(concurrency=CONCURRENCY)
        state.runs_jobs = False

    async def open(self) -> None:
        structlog.configure(processors=[structlog.processors.JSONRenderer()])
        async with self.database.engine.begin() as connection:
            tables = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
            for table in (OUTBOX, JOBS, STEPS):
                if table.name not in tables:
                    await connection.run_sync(table.create)
        # What a serving process does: it tells the workers.
        self.telling = asyncio.create_task(self._tell())
        await asyncio.sleep(0)

    async def _tell(self) -> None:
        async with working(self.app):
            await asyncio.Event().wait()

    async def work(self) -> None:
        state = self.app.state
        await Worker(self.app, state.background, limits=state.worker_limits).run()

    async def enqueue(self, numbers: Sequence[int]) -> None:
        async with self.database.write(None) as unit:
            for number in numbers:
                unit.enqueue(nothing, number)

    async def left(self) -> int:
        unfinished = select(func.count()).where(JOBS.c.finished_at.is_(None))
        async with self.database.reading_engine.connect() as connection:
            return (await connection.execute(unfinished)).scalar_one()


if __name__ == "__main__":
    main(Newel)
