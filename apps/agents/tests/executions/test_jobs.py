"""What is done about executions in the background: recorded with its cause, and tried again."""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI
from newel.db import Database, Work
from newel.errors import Unavailable
from newel.job_rows import JobRow
from newel.jobs import Backoff, JobRun
from newel.principal import Principal
from newel.testing import commits_fail, run_jobs
from sqlalchemy import select

from agent_management.executions.events import ExecutionCreated

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("client")]

CAUSES: dict[str, Callable[[Work], object]] = {
    "run_execution_job": lambda work: work.publish(ExecutionCreated(id=uuid4(), owner_id=uuid4())),
}
every_job = pytest.mark.parametrize("name", CAUSES)


async def cause(database: Database, name: str) -> None:
    async with database.write(Principal(id=uuid4())) as work:
        CAUSES[name](work)


@every_job
async def test_it_is_to_be_done_with_the_commit_or_not_at_all(
    app: FastAPI, database: Database, name: str
) -> None:
    with commits_fail(database), pytest.raises(Unavailable):
        await cause(database, name)
    assert await run_jobs(app) == 0
    await cause(database, name)
    assert await run_jobs(app) == 1


@every_job
async def test_what_fails_is_tried_again(
    app: FastAPI, database: Database, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    known, attempts = app.state.background.jobs[name], list[int]()

    @wraps(known.function)
    async def fail_once(run: JobRun, *told: Any, **more: Any) -> None:
        attempts.append(run.attempt)
        if run.attempt == 1:
            raise RuntimeError("try again")

    again = replace(known, function=fail_once, backoff=Backoff(first_seconds=0))
    monkeypatch.setitem(app.state.background.jobs, name, again)
    await cause(database, name)
    await run_jobs(app)
    assert attempts == [1, 2]


async def test_run_execution_job_ends(app: FastAPI, database: Database, test_db: Work) -> None:
    await cause(database, "run_execution_job")
    await run_jobs(app)
    states = select(JobRow.state).where(JobRow.name == "run_execution_job")
    assert await test_db.session.scalar(states) == "done"
