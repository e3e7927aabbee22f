"""Jobs over HTTP: what became of mine, for whoever enqueued them, and all of them, for operators.

    app = create_app(Settings(), users, agents.module, job_routes.module())

``GET /jobs/{id}``, its stream of progress and ``DELETE`` are for the owner: another user's job is
not found. The list, ``retry`` and ``discard``, and the page ``/admin/jobs``, need ``jobs:all``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, BeforeValidator, Field

from newel.auth import requires
from newel.db import CurrentWork
from newel.depends import CursorSigner, DatabaseDep
from newel.errors import Conflict
from newel.job_pages import page_router
from newel.job_queue import cancel, discard, retry
from newel.job_rows import SEE_ALL, JobRow, JobState
from newel.modules import Module
from newel.pages import CursorQuery, KeysetPage, KeysetSlice
from newel.principal import Principal
from newel.repository import Repository
from newel.schemas import ReadModel

__all__ = ["JobDetail", "JobError", "JobQuery", "JobRead", "JobRepository", "module"]

STREAM_SECONDS: Final = 1800.0
"""After how long a stream of progress ends; browsers open it again by themselves."""

_LOOK_SECONDS: Final = 0.5


def _parsed(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


class JobError(BaseModel):
    """Why the last attempt failed, in words that were written for clients."""

    code: str
    detail: str


class _JobFields(ReadModel):
    """What everybody sees who sees a job; ``progress`` is from 0 to 1."""

    id: UUID
    name: str
    state: JobState
    attempt: int
    max_attempts: int
    progress: float | None
    note: str | None
    result: Annotated[Any, BeforeValidator(_parsed)]
    cancel_requested: bool
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobRead(_JobFields):
    """A job as its owner sees it."""

    error: Annotated[JobError | None, BeforeValidator(_parsed)]


class TracedError(JobError):
    """Why the last attempt failed, with the traceback."""

    trace: str | None = None


class JobDetail(_JobFields):
    """A job as an operator sees it."""

    error: Annotated[TracedError | None, BeforeValidator(_parsed)]
    queue: str
    priority: int
    owner_id: UUID | None
    request_id: str | None
    worker: str | None
    leased_until: datetime | None


class JobQuery(CursorQuery):
    """What a list of jobs can be filtered by; the newest come first."""

    sort: Annotated[str, Field(pattern="^-?id$", description="`-id` or `id`")] = "-id"
    state: JobState | None = None
    name: Annotated[str, Field(max_length=128)] | None = None
    queue: Annotated[str, Field(max_length=64)] | None = None
    owner_id: UUID | None = None


class JobRepository(Repository[JobRow]):
    """The rows of jobs that the caller may see."""

    entity: type[JobRow] = JobRow


Jobs = Annotated[JobRepository, Depends()]
Operator = Annotated[Principal, requires(SEE_ALL)]

_router: Final = APIRouter(prefix="/jobs", tags=["jobs"])


@_router.get("", response_model=KeysetPage[JobDetail], summary="List jobs")
async def list_jobs(
    query: Annotated[JobQuery, Query()], jobs: Jobs, signer: CursorSigner, _caller: Operator
) -> KeysetSlice[JobRow]:
    """List jobs by state, name, queue or owner, the newest first."""
    return await jobs.keyset(query, signer)


@_router.get("/{job_id}", response_model=JobRead, summary="Read a job")
async def read_job(job_id: UUID, jobs: Jobs, _caller: Annotated[Principal, requires()]) -> JobRow:
    """Tell how far a job of the caller's is, and what came out."""
    return await jobs.get(job_id)


@_router.delete("/{job_id}", status_code=202, response_model=JobRead, summary="Cancel a job")
async def cancel_job(
    job_id: UUID, work: CurrentWork, jobs: Jobs, _caller: Annotated[Principal, requires()]
) -> JobRow:
    """End a job that waits at once, and ask one that runs to end; 409 when it has ended."""
    if not await cancel(work, job_id):
        raise Conflict("The job has ended already.")
    return await jobs.get(job_id)


async def _seen(job_id: UUID, jobs: Jobs, caller: Annotated[Principal, requires()]) -> Principal:
    """Answer 404 before the stream begins."""
    await jobs.get(job_id)
    return caller


@_router.get("/{job_id}/events", response_class=EventSourceResponse, summary="Follow a job")
async def follow_job(
    request: Request,
    job_id: UUID,
    database: DatabaseDep,
    caller: Annotated[Principal, Depends(_seen)],
) -> AsyncGenerator[ServerSentEvent]:
    """Send the job whenever it has changed, as `progress`, and at its end, as `end`."""
    before: JobRead | None = None
    for _ in range(int(STREAM_SECONDS / _LOOK_SECONDS)):
        if request.app.state.draining:  # the browser opens it again, at another process
            return
        async with database.read(caller) as work:
            row = await JobRepository(work).find(job_id)
        if row is None:  # removed meanwhile
            return
        now = JobRead.model_validate(row)
        if now.finished_at is not None:
            yield ServerSentEvent(event="end", data=now)
            return
        if now != before:
            yield ServerSentEvent(event="progress", data=now)
        before = now
        await asyncio.sleep(_LOOK_SECONDS)


@_router.post("/{job_id}/retry", response_model=JobDetail, summary="Run a dead job once more")
async def retry_job(job_id: UUID, work: CurrentWork, jobs: Jobs, _caller: Operator) -> JobRow:
    """Run a dead or cancelled job once more; 409 for any other."""
    if not await retry(work, job_id):
        raise Conflict("Only a dead or cancelled job can be run again.")
    return await jobs.get(job_id)


@_router.post("/{job_id}/discard", response_model=JobDetail, summary="Give up on a dead job")
async def discard_job(job_id: UUID, work: CurrentWork, jobs: Jobs, _caller: Operator) -> JobRow:
    """Give up on a dead job; 409 for any other."""
    if not await discard(work, job_id):
        raise Conflict("Only a dead job can be discarded.")
    return await jobs.get(job_id)


def module() -> Module:
    """Return the module with the routes of jobs and the pages ``/admin/jobs``."""
    return Module(
        "jobs",
        description="What is done in the background",
        routers=[_router],
        root_routers=[page_router],
    )
