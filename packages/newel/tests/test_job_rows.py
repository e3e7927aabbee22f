"""Rows of jobs: who sees them, and the clock that they are on."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sample_jobs import ann, enqueue, rows
from sqlalchemy import select, update

from newel.db import Database
from newel.errors import Forbidden
from newel.job_rows import FINISHED, JobRow, from_now, write_jobs
from newel.jobs import JobRun, job
from newel.principal import ANYONE, Principal
from newel.scope import UnscopedQuery

pytestmark = pytest.mark.anyio


@job()
async def nothing(job: JobRun) -> None: ...


async def seen(database: Database, caller: Principal) -> int:
    async with database.read(caller) as work:
        return len((await work.session.scalars(select(JobRow))).all())


async def test_its_owner_sees_it_and_operators_of_their_tenant(database: Database) -> None:
    tenant = uuid4()
    owner = Principal(id=uuid4(), tenant_id=tenant)
    async with database.write(owner) as work:
        work.enqueue(nothing)
    await enqueue(database, nothing)
    everything = frozenset({"jobs:all"})
    assert await seen(database, owner) == 1
    assert await seen(database, ann()) == 0
    assert await seen(database, ANYONE) == 0
    assert await seen(database, Principal(id=uuid4(), permissions=everything)) == 2
    assert (
        await seen(database, Principal(id=uuid4(), permissions=everything, tenant_id=tenant)) == 1
    )
    other = Principal(id=uuid4(), permissions=everything, tenant_id=uuid4())
    assert await seen(database, other) == 0


async def test_without_a_caller_there_is_no_look(database: Database) -> None:
    with pytest.raises(UnscopedQuery):
        async with database.read(None) as work:
            await work.session.scalars(select(JobRow))


async def test_nobody_changes_one_as_an_entity(database: Database) -> None:
    owner = ann("jobs:all")
    async with database.write(owner) as work:
        id = work.enqueue(nothing)
    with pytest.raises(Forbidden):  # noqa: PT012 - the change before it is the point
        async with database.write(owner) as work:
            found = await work.session.get_one(JobRow, id)
            found.state = "done"
    assert [one.state for one in await rows(database)] == ["ready"]


async def test_a_statement_changes_ones_own_only(database: Database) -> None:
    async with database.write(ann()) as work:
        work.enqueue(nothing)
    async with database.write(ann()) as work:
        await work.session.execute(update(JobRow).values(state="done"))
    assert [one.state for one in await rows(database)] == ["ready"]


@pytest.mark.parametrize("seconds", [0, 90, -3600])
async def test_the_clock_is_the_databases(database: Database, seconds: float) -> None:
    async with database.reading_engine.connect() as connection:
        now, then = (await connection.execute(select(from_now(), from_now(seconds)))).one()
    assert now.tzinfo is UTC
    assert abs((then - now).total_seconds() - seconds) < 1
    assert abs((datetime.now(UTC) - now).total_seconds()) < 5


async def test_times_compare_as_they_are_stored(database: Database) -> None:
    """SQLite compares texts: what the clock says has the form of what SQLAlchemy wrote."""
    await enqueue(database, nothing)
    for seconds, expected in ((3600, 1), (-3600, 0)):
        async with database.read(None) as work, work.as_system("a test looks"):
            found = select(JobRow).where(JobRow.run_at <= from_now(seconds))
            assert len((await work.session.scalars(found)).all()) == expected


async def test_no_jobs_are_no_statement(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.run_sync(write_jobs, [])
    assert await rows(database) == []


def test_the_final_states_are_known() -> None:
    assert set(FINISHED) == {"done", "dead", "cancelled", "duplicate"}
