"""What is done to the rows of jobs, by workers that meet, stop, and come back too late."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from sample_jobs import OPENED, ann, carrier, enqueue, execute, row, rows, until
from sqlalchemy import event, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.util import await_only

from newel.db import Database
from newel.dispatch import dispatch_by
from newel.errors import Conflict, NotFound, Unavailable
from newel.job_queue import Claimed, JobQueue, Outcome, cancel, count_all_open, discard, retry
from newel.job_rows import JobState, from_now
from newel.jobs import JobRun, job

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("log_lines", "dispatch")]


on_postgresql = pytest.mark.parametrize("databases", ["postgresql"], indirect=True)
"""SQLite has one writer at a time."""


@job()
async def nothing(job: JobRun) -> None: ...


@job(priority=-1)
async def urgent(job: JobRun) -> None: ...


@job(queue="mail")
async def post(job: JobRun) -> None: ...


@job(concurrency_key=str)
async def bill(job: JobRun, account: int) -> None: ...


@job(unique=lambda: "one")
async def single(job: JobRun) -> None: ...


@job(retries=0)
async def once(job: JobRun) -> None: ...


@pytest.fixture
def queue(database: Database) -> JobQueue:
    return JobQueue(database, worker="w1")


@pytest.fixture
def other(database: Database) -> JobQueue:
    return JobQueue(database, worker="w2")


async def claim(queue: JobQueue, most: int = 10, *, name: str = "default") -> list[Claimed]:
    """Claim as a worker does, by whichever dispatch this test runs with."""
    dispatch = dispatch_by(queue, OPENED[0] if OPENED else carrier(queue.database))
    await dispatch.care(await queue.due(), [name])
    return await dispatch.claim(name, most=most)


async def now(database: Database) -> datetime:
    async with database.reading_engine.connect() as connection:
        return (await connection.execute(select(from_now()))).scalar_one()


async def change(database: Database, how: Any, id: UUID) -> bool:
    async with database.write(None) as work, work.as_system("an administrator"):
        return await how(work, id)


def done(job: Claimed) -> Outcome:
    return Outcome(job.id, job.attempt, "done")


# ---------------------------------------------------------------- claiming


async def test_the_urgent_come_first_and_then_the_oldest(
    database: Database, queue: JobQueue
) -> None:
    ids = [await enqueue(database, one) for one in (nothing, nothing, urgent, nothing)]
    assert [job.id for job in await claim(queue, 3)] == [ids[2], ids[0], ids[1]]
    assert [job.id for job in await claim(queue, 3)] == [ids[3]]


async def test_a_claim_is_a_lease_and_counts_as_an_attempt(
    database: Database, queue: JobQueue
) -> None:
    id = await enqueue(database, nothing)
    [claimed] = await claim(queue)
    assert claimed.attempt == 1
    found = await row(database, id)
    assert (found.state, found.worker, found.attempt) == ("running", "w1", 1)
    assert found.leased_until is not None
    left = (found.leased_until - await now(database)).total_seconds()
    assert 25 < left <= 30


@pytest.mark.parametrize("ends", [True, False], ids=["a job", "a step"])
async def test_a_worker_that_was_stopped_before_its_commit_loses_the_job(
    database: Database, other: JobQueue, ends: bool
) -> None:
    """PostgreSQL ends its transaction, which has the row locked, before its lease ends."""
    if database.is_sqlite:
        pytest.skip("SQLite has one lock for everything")
    brief = JobQueue(database, worker="w1", lease_seconds=0.6)
    await enqueue(database, nothing)
    [stopped] = await claim(brief)
    work = database.write(None)
    if ends:
        assert await brief.finish_in(work.session, done(stopped))
    else:
        assert await brief.finish_step(work.session, stopped, name="one", result="1")

    async def taken_over() -> bool:
        return await other.reap() == 1

    await until(taken_over)
    with pytest.raises(Unavailable):
        async with work:
            pass
    assert (await row(database, stopped.id)).state == "ready"


async def test_a_worker_that_was_stopped_while_it_committed_holds_up_its_own_job_alone(
    database: Database, queue: JobQueue, other: JobQueue
) -> None:
    """With SIGSTOP it sleeps with the row's lock; without SKIP LOCKED nobody's job is reaped."""
    if database.is_sqlite:
        pytest.skip("SQLite has one lock for everything")
    for _ in range(2):
        await enqueue(database, nothing)
    stopped, _ = await claim(queue)
    await execute(database, "UPDATE jobs SET leased_until = created_at")
    async with database.write(None) as work:
        assert await queue.finish_in(work.session, done(stopped))
        async with asyncio.timeout(5):
            assert await other.reap() == 1
    states = {one.id: one.state for one in await rows(database)}
    assert sorted(states.values()) == ["done", "ready"]
    assert states[stopped.id] == "done"


async def test_who_was_stopped_with_a_row_locked_holds_up_that_job_alone(
    database: Database, queue: JobQueue
) -> None:
    """The leases of a worker's other jobs are renewed, what is due is made ready, and so on."""
    if database.is_sqlite:
        pytest.skip("SQLite has one lock for everything")
    for _ in range(2):
        await enqueue(database, nothing)
    locked, free = await claim(queue)
    waits = [await enqueue(database, nothing.after(seconds=0.01)) for _ in range(2)]
    await execute(database, "UPDATE jobs SET leased_until = created_at WHERE state = 'running'")
    async with database.write(None) as stopped, stopped.as_system("an administrator"):
        assert await cancel(stopped, locked.id)
        assert await cancel(stopped, waits[0])
        async with asyncio.timeout(10):
            held = await queue.beat([locked.id, free.id])

            async def promoted() -> bool:
                return await queue.promote() == 1

            await until(promoted)
            with pytest.raises(Unavailable):  # an administrator is told to try again
                await change(database, cancel, locked.id)
    assert held == {locked.id: (1, False), free.id: (1, False)}
    renewed = await row(database, free.id)
    assert renewed.leased_until is not None
    assert renewed.leased_until > renewed.created_at
    assert (await row(database, waits[1])).state == "ready"


async def test_a_worker_claims_from_its_queue(database: Database, queue: JobQueue) -> None:
    id = await enqueue(database, post)
    assert await claim(queue) == []
    assert [job.id for job in await claim(queue, 1, name="mail")] == [id]


async def test_no_job_is_claimed_twice(database: Database) -> None:
    for _ in range(30):
        async with database.write(None) as work:
            for _ in range(10):
                work.enqueue(nothing)
    others = [Database(database.url) for _ in range(3)]

    async def take_all(other: Database) -> list[UUID]:
        queue, taken = JobQueue(other, worker="w"), list[UUID]()
        while found := await claim(queue, 7):
            taken += [job.id for job in found]
        return taken

    taken = await asyncio.gather(*map(take_all, others))
    for other in others:
        await other.close()
    everything = [id for ids in taken for id in ids]
    assert len(everything) == len(set(everything)) == 300


# ---------------------------------------------------------------- keys


async def test_of_one_key_one_runs_at_a_time(database: Database, queue: JobQueue) -> None:
    ids = [await enqueue(database, bill, account) for account in (1, 1, 2, 1)]
    [first, other] = await claim(queue)
    assert [first.id, other.id] == [ids[0], ids[2]]
    assert await claim(queue) == []
    await queue.finish([done(first)])
    [second] = await claim(queue)
    assert second.id == ids[1]


async def test_one_that_waits_for_its_retry_does_not_hold_up_its_key(
    database: Database, queue: JobQueue
) -> None:
    ids = [await enqueue(database, bill, 1) for _ in range(2)]
    [first] = await claim(queue)
    await queue.finish([Outcome(first.id, 1, "scheduled", delay_seconds=100)])
    assert [job.id for job in await claim(queue)] == [ids[1]]


async def test_two_workers_do_not_run_one_key(database: Database) -> None:
    """Many workers claim at once; the database holds at most one running job a key."""
    for _ in range(20):
        await enqueue(database, bill, 1)
    others = [Database(database.url) for _ in range(4)]
    most = 0

    async def work_off(other: Database) -> None:
        nonlocal most
        queue = JobQueue(other, worker="w")
        while any(one.finished_at is None for one in await rows(database)):
            for claimed in await claim(queue, 3):
                running = [one for one in await rows(database) if one.state == "running"]
                most = max(most, len(running))
                await queue.finish([done(claimed)])

    await asyncio.gather(*map(work_off, others))
    for other in others:
        await other.close()
    assert most == 1


async def test_the_database_refuses_a_second_running_job_of_a_key(
    database: Database, queue: JobQueue
) -> None:
    """The last line: an id that was made early and committed late."""
    for _ in range(2):
        await enqueue(database, bill, 1)
    await claim(queue)
    with pytest.raises(Conflict):
        await execute(database, "UPDATE jobs SET state = 'running'")


# ---------------------------------------------------------------- fencing


async def test_who_comes_too_late_changes_nothing(
    database: Database, queue: JobQueue, other: JobQueue
) -> None:
    id = await enqueue(database, nothing)
    [first] = await claim(queue)
    await execute(database, "UPDATE jobs SET leased_until = created_at")
    assert await queue.reap() == 1
    [second] = await claim(other)
    assert (second.id, second.attempt) == (id, 2)

    await queue.finish([done(first)])
    assert (await row(database, id)).state == "running"
    assert await queue.beat([id]) == {}
    await queue.report([(id, first.attempt, 0.5, "late")])
    assert (await row(database, id)).progress is None

    await queue.finish([Outcome(id, second.attempt, "done", "of another worker")])
    assert (await row(database, id)).state == "running"
    await other.finish([Outcome(id, second.attempt, "done", "7")])
    assert ((await row(database, id)).state, (await row(database, id)).result) == ("done", "7")


async def test_a_batch_ends_each_in_its_own_way(database: Database, queue: JobQueue) -> None:
    ids = [await enqueue(database, nothing) for _ in range(4)]
    await claim(queue)
    await queue.finish(
        [
            Outcome(ids[0], 1, "done", "1"),
            Outcome(ids[1], 1, "scheduled", error="{}", delay_seconds=60),
            Outcome(ids[2], 1, "ready", extra_attempts=1),
            Outcome(ids[3], 99, "done"),
        ]
    )
    found = {one.id: one for one in await rows(database)}
    assert [found[id].state for id in ids] == ["done", "scheduled", "ready", "running"]
    assert found[ids[0]].finished_at is not None
    assert found[ids[1]].finished_at is None
    assert 50 < (found[ids[1]].run_at - await now(database)).total_seconds() <= 60
    assert found[ids[2]].max_attempts == 7


# ---------------------------------------------------------------- leases and the clock


async def test_a_lease_is_renewed_by_who_holds_it(
    database: Database, queue: JobQueue, other: JobQueue
) -> None:
    id = await enqueue(database, nothing)
    await claim(queue)
    await execute(database, "UPDATE jobs SET leased_until = created_at")
    assert await other.beat([id]) == {}
    assert await queue.beat([id]) == {id: (1, False)}
    assert await queue.reap() == 0


async def test_a_job_of_a_lost_worker_is_ready_again(database: Database, queue: JobQueue) -> None:
    id = await enqueue(database, nothing)
    await claim(queue)
    assert not (await queue.due()).expired
    await execute(database, "UPDATE jobs SET leased_until = created_at")
    assert (await queue.due()).expired
    assert await queue.reap() == 1
    found = await row(database, id)
    assert (found.state, found.leased_until, found.finished_at) == ("ready", None, None)


async def test_a_poison_job_ends_as_a_dead_letter(database: Database, queue: JobQueue) -> None:
    """It kills its worker each time: attempts count when they are claimed."""
    id = await enqueue(database, nothing)
    for _ in range(6):
        assert len(await claim(queue)) == 1
        await execute(database, "UPDATE jobs SET leased_until = created_at")
        await queue.reap()
    found = await row(database, id)
    assert (found.state, found.attempt) == ("dead", 6)
    assert json.loads(found.error or "")["code"] == "worker_lost"
    assert await claim(queue) == []


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_that_jumps_leaves_no_job_stuck(
    database: Database, queue: JobQueue, hours: int
) -> None:
    """Set an hour ahead, every lease has ended; set an hour back, it ends later than any can."""
    id = await enqueue(database, nothing)
    await claim(queue)
    shift = f"'{-hours} hours'"
    jumped = (
        f"strftime('%Y-%m-%d %H:%M:%f000', leased_until, {shift})"
        if database.is_sqlite
        else f"leased_until + interval {shift}"
    )
    await execute(database, f"UPDATE jobs SET leased_until = {jumped}")
    assert await queue.reap() == 1
    assert (await row(database, id)).state == "ready"


async def test_what_is_scheduled_becomes_ready_in_its_time(
    database: Database, queue: JobQueue
) -> None:
    id = await enqueue(database, nothing.after(seconds=3600))
    assert not (await queue.due()).scheduled
    assert await queue.promote() == 0
    await execute(database, "UPDATE jobs SET run_at = created_at")
    assert (await queue.due()).scheduled
    assert await queue.promote() == 1
    assert [job.id for job in await claim(queue)] == [id]


# ---------------------------------------------------------------- from outside


async def test_a_waiting_job_is_cancelled_at_once(database: Database, queue: JobQueue) -> None:
    for declared in (nothing, nothing.after(hours=1)):
        id = await enqueue(database, declared)
        assert await change(database, cancel, id)
        assert (await row(database, id)).state == "cancelled"
        assert not await change(database, cancel, id)
    assert await claim(queue) == []


@pytest.mark.parametrize("state", ["scheduled", "ready", "done"])
async def test_what_was_called_off_does_not_run_again(
    database: Database, queue: JobQueue, state: JobState
) -> None:
    id = await enqueue(database, nothing)
    await claim(queue)
    assert await change(database, cancel, id)
    await queue.finish([Outcome(id, 1, state)])
    found = await row(database, id)
    assert found.state == ("done" if state == "done" else "cancelled")
    assert found.finished_at is not None


async def test_a_running_job_is_asked_to_end(database: Database, queue: JobQueue) -> None:
    id = await enqueue(database, nothing)
    await claim(queue)
    assert await change(database, cancel, id)
    assert (await row(database, id)).state == "running"
    assert await queue.beat([id]) == {id: (1, True)}
    await execute(database, "UPDATE jobs SET leased_until = created_at")
    await queue.reap()  # its worker died before it could
    assert (await row(database, id)).state == "cancelled"


async def test_nobody_ends_the_job_of_another(database: Database) -> None:
    owner, other = ann(), ann()
    async with database.write(owner) as work:
        id = work.enqueue(nothing)
    for how in (cancel, retry, discard):
        with pytest.raises(NotFound):
            async with database.write(other) as work:
                await how(work, id)
    async with database.write(owner) as work:
        assert await cancel(work, id)
    assert (await row(database, id)).state == "cancelled"


async def test_a_dead_letter_is_run_once_more_or_discarded(
    database: Database, queue: JobQueue
) -> None:
    id = await enqueue(database, once)
    assert not await change(database, retry, id)
    assert not await change(database, discard, id)
    for _ in range(2):
        [claimed] = await claim(queue)
        await queue.finish([Outcome(id, claimed.attempt, "dead", error="{}")])
        assert await change(database, retry, id)
        found = await row(database, id)
        assert (found.state, found.max_attempts) == ("ready", claimed.attempt + 1)
        assert found.finished_at is None
    [claimed] = await claim(queue)
    await queue.finish([Outcome(id, claimed.attempt, "dead", error="{}")])
    assert await change(database, discard, id)
    assert (await row(database, id)).state == "cancelled"


async def test_what_ended_long_ago_is_removed_by_its_kind(
    database: Database, queue: JobQueue
) -> None:
    ids = [await enqueue(database, nothing) for _ in range(3)]
    for claimed, state in zip(await claim(queue), ("done", "dead", "done"), strict=True):
        await queue.finish([Outcome(claimed.id, 1, state)])
    first_two = "SELECT id FROM jobs ORDER BY id LIMIT 2"
    old = f"UPDATE jobs SET finished_at = '2020-01-01 00:00:00' WHERE id IN ({first_two})"
    await execute(database, old)
    assert await queue.purge("done", days=7) == 1
    assert {one.id for one in await rows(database)} == {ids[1], ids[2]}
    assert await queue.purge("dead", days=90) == 1


@on_postgresql
async def test_a_dead_letter_that_is_run_once_more_is_not_removed(
    database: Database, queue: JobQueue
) -> None:
    """A purge that waited for its row would remove what is to run by then."""
    id = await enqueue(database, once)
    await claim(queue)
    await queue.finish([Outcome(id, 1, "dead", error="{}")])
    await execute(database, "UPDATE jobs SET finished_at = '2020-01-01 00:00:00'")
    async with database.write(None) as work, work.as_system("a test runs it once more"):
        assert await retry(work, id)
        async with asyncio.timeout(20):
            assert await queue.purge("dead", days=90) == 0
    assert (await row(database, id)).state == "ready"


# ---------------------------------------------------------------- speed


async def plan(database: Database, statement: str, parameters: Any = ()) -> str:
    explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
    async with database.engine.connect() as connection:
        if not database.is_sqlite:
            await connection.exec_driver_sql("SET enable_seqscan = off")
            await connection.exec_driver_sql("SET enable_bitmapscan = off")
        found = await connection.exec_driver_sql(explain + statement, parameters)
        return "\n".join(str(tuple(line)) for line in found)


LOOKS = {
    "ix_jobs_ready": (
        "jobs WHERE state = 'ready' AND announced_at IS NULL AND queue = 'x'"
        " ORDER BY priority, id LIMIT 5"
    ),
    "ix_jobs_announced": "jobs WHERE state = 'ready' AND announced_at < '2030-1-1'",
    "ix_jobs_scheduled": "jobs WHERE state = 'scheduled' AND run_at < '2030-1-1'",
    "jobs_running": "jobs WHERE state = 'running' AND worker = 'x'",  # that, or that of its keys
    "ix_jobs_key": "jobs WHERE concurrency_key = 'x' AND finished_at IS NULL",
    "ix_jobs_finished": (
        "jobs WHERE state = 'done' AND finished_at IS NOT NULL AND finished_at < '2020-1-1'"
    ),
    "ix_outbox_unpublished": "outbox WHERE published_at IS NULL ORDER BY position",
    "ix_outbox_published": "outbox WHERE published_at < '2020-1-1'",
}


@pytest.mark.parametrize("index", LOOKS)
async def test_every_look_has_an_index_without_the_finished_rows(
    database: Database, index: str
) -> None:
    assert index in await plan(database, f"SELECT id FROM {LOOKS[index]}")


async def test_counting_reads_no_more_than_what_is_open_or_dead(database: Database) -> None:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(database.reading_engine.sync_engine, "before_cursor_execute", note)
    await count_all_open(database)
    assert not re.search(r"Seq Scan|SCAN jobs(?! USING)", await plan(database, seen[-1]))


async def test_the_newest_event_is_found_by_its_position(database: Database) -> None:
    """SQLite looks for it with each event that is published, PostgreSQL with each purge."""
    newest = "SELECT coalesce(max(position), 0) + 1 FROM outbox"
    assert "ix_outbox_position" in await plan(database, newest)


async def test_a_twin_is_looked_for_among_what_has_not_finished(database: Database) -> None:
    """And not among a million rows that have: whoever enqueues it would wait for that."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "jobs.unique_key =" in statement:
            seen.append((statement, parameters))

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    for _ in range(2):
        await enqueue(database, single)
    [looked] = seen
    assert "uq_jobs_unique_key" in await plan(database, *looked)


@on_postgresql
async def test_who_comes_when_its_twin_has_just_ended_is_no_duplicate(database: Database) -> None:
    """The twin ends between the two statements by which it is met and looked for."""
    ends = "UPDATE jobs SET state = 'done', finished_at = created_at WHERE finished_at IS NULL"
    other, met = Database(database.url), list[str]()

    def end_it(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "jobs.unique_key =" in statement and not met:
            met.append(statement)
            await_only(execute(other, ends))

    first = await enqueue(database, single)
    event.listen(database.engine.sync_engine, "before_cursor_execute", end_it)
    second = await enqueue(database, single)
    await other.close()
    states = {one.id: one.state for one in await rows(database)}
    assert (states, len(met)) == ({first: "done", second: "ready"}, 1)


async def test_an_end_is_written_to_the_row_of_its_key(database: Database, queue: JobQueue) -> None:
    """And not looked for among all the jobs that a worker runs: ten times as dear."""
    if database.is_sqlite:
        pytest.skip("SQLite takes the key anyway")
    await enqueue(database, nothing)
    [claimed] = await claim(queue)
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(database.reading_engine.sync_engine, "before_cursor_execute", note)
    await queue.finish([done(claimed)])
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("SET plan_cache_mode = force_generic_plan")
        await connection.exec_driver_sql(f"PREPARE ended AS {seen[0]}")
        nulls = ", ".join(["NULL"] * len(set(re.findall(r"\$\d+", seen[0]))))
        found = await connection.exec_driver_sql(f"EXPLAIN EXECUTE ended({nulls})")
        explained = "\n".join(found.scalars())
    assert "pk_jobs" in explained
    assert "ix_jobs_running" not in explained


async def test_the_queue_names_states_in_the_text(database: Database, queue: JobQueue) -> None:
    """A state that was a parameter would find no partial index."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    event.listen(database.reading_engine.sync_engine, "before_cursor_execute", note)
    await queue.claim("default", most=1)
    await queue.promote()
    await queue.reap()
    await queue.due()
    wanted = ("state = 'ready'", "state = 'scheduled'", "state = 'running'", "state = 'running'")
    asked = [statement for statement in seen if "jobs" in statement]
    assert len(asked) == 4
    for statement, state in zip(asked, wanted, strict=True):
        assert state in statement


async def test_a_claim_does_not_wait_for_the_disk(database: Database, queue: JobQueue) -> None:
    """What PostgreSQL forgets of it in a crash never was; that a job has ended does wait."""
    if database.is_sqlite:
        pytest.skip("SQLite waits for the disk at every commit")
    for _ in range(2):
        await enqueue(database, nothing)
    [first] = await claim(queue, 1)

    async def waits(connection: AsyncConnection) -> bool:
        shown = text("SELECT current_setting('synchronous_commit')")
        return (await connection.execute(shown)).scalar_one() == "on"

    async with database.engine.begin() as connection:
        queue._engine = Same(connection)  # type: ignore[assignment] # as much of one as it uses
        await connection.execute(text("SET LOCAL synchronous_commit = on"))
        await queue.finish([done(first)])
        assert await waits(connection)
        assert len(await claim(queue)) == 1
        assert not await waits(connection)


class Same:
    """One connection, in the place of an engine."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[AsyncConnection]:
        yield self.connection
