"""What the tests of jobs share: an application without routes, its jobs, and looks at the rows."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

from fastapi import FastAPI
from sample_entities import Tag
from sqlalchemy import select, text

from newel.app import create_app
from newel.db import Database, Work
from newel.dispatch import Carrier, open_carrier
from newel.handlers import Handler
from newel.job_rows import JobRow
from newel.jobs import Job
from newel.modules import Module
from newel.principal import Principal
from newel.schedules import Schedule
from newel.settings import Settings
from newel.worker import Worker, WorkerLimits

SECRET = "k3y-0123456789-abcdefghij-ABCDEFGHIJ"
QUICK = WorkerLimits(poll_seconds=0.05, lease_seconds=0.6, stop_seconds=5.0)


def ann(*permissions: str) -> Principal:
    return Principal(id=uuid4(), permissions=frozenset(permissions))


def application(
    database: Database,
    *jobs: Job[..., Any],
    handlers: Sequence[Handler[Any]] = (),
    schedules: Sequence[Schedule] = (),
) -> FastAPI:
    """Return an application that has these in the background, on the test's own database."""
    settings = Settings(
        _env_file=None, secret_key=SECRET, environment="test", database_url=database.url
    )
    module = Module("sample", jobs=jobs, handlers=handlers, schedules=schedules)
    app = create_app(settings, module)
    app.state.database = database
    app.state.carrier = carrier(database)
    return app


OPENED: list[Carrier] = []
"""What `carrier` has returned in a test, for the fixture `dispatch` to close."""


def carrier(database: Database) -> Carrier | None:
    """Open what the environment asks for, as the settings would."""
    name = os.environ.get("SERVICE_NAME", "sample")
    found = open_carrier(os.environ.get("JOBS_URL"), name=name, is_sqlite=database.is_sqlite)
    if found is not None:
        OPENED.append(found)
    return found


async def rows(database: Database) -> list[JobRow]:
    """Return every job, oldest first."""
    async with database.read(None) as work, work.as_system("a test looks"):
        return list(await work.session.scalars(select(JobRow).order_by(JobRow.id)))


async def row(database: Database, id: UUID) -> JobRow:
    [found] = [one for one in await rows(database) if one.id == id]
    return found


async def enqueue(database: Database, job: Job[..., Any], *args: Any, **kwargs: Any) -> UUID:
    async with database.write(None) as work:
        return work.enqueue(job, *args, **kwargs)


async def drain(app: FastAPI) -> int:
    return await Worker(app, app.state.background).drain()


async def execute(database: Database, statement: str) -> None:
    """Change rows behind the engine's back, as time or a crash would."""
    async with database.write(None) as work, work.as_system("a test pretends"):
        await work.session.execute(text(statement))


async def tag(work: Work, label: str) -> None:
    work.session.add(Tag(label=label))
    await work.flush()


async def tags(database: Database) -> list[str]:
    async with database.read(None) as work:
        return list(await work.session.scalars(select(Tag.label).order_by(Tag.id)))


async def until(holds: Callable[[], Any], *, seconds: float = 20) -> None:
    """Wait until ``holds`` returns (or returns something that is awaited and is) true."""
    end = time.monotonic() + seconds
    while True:
        found = holds()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def running(app: FastAPI, limits: WorkerLimits = QUICK) -> Any:
    """Have a worker run in this process inside the block."""
    worker = Worker(app, app.state.background, limits=limits)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await task
