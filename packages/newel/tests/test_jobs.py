"""A job is recorded with the caller's transaction, run later, and visible exactly once."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from fastapi import Depends
from pydantic import BaseModel
from sample_entities import Agent, Tag, User
from sample_jobs import ann, application, drain, enqueue, execute, row, rows, tag, tags
from sqlalchemy import func, select

from newel.clock import utc_now
from newel.context import request_id
from newel.db import CurrentWork, Database, Work
from newel.errors import Conflict
from newel.jobs import Backoff, GiveUp, Job, JobRun, LeaseLost, TryAgain, job
from newel.principal import ANYONE, Principal
from newel.worker import Worker

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("log_lines")]


class Order(BaseModel):
    sku: str
    amount: int


@job()
async def label(job: JobRun, name: str, *, times: int = 1) -> list[str]:
    for number in range(times):
        job.work.session.add(Tag(label=f"{name} {number}"))
    return [name] * times


@job()
async def nothing(job: JobRun) -> None: ...


# ---------------------------------------------------------------- recorded


async def test_it_is_a_row_of_the_transaction_and_runs_after_it(database: Database) -> None:
    app = application(database, label)
    async with database.write(None) as work:
        id = work.enqueue(label, "red", times=2)
    waiting = await row(database, id)
    assert (waiting.state, waiting.attempt, waiting.max_attempts) == ("ready", 0, 6)
    assert json.loads(waiting.arguments) == {"name": "red", "times": 2}

    assert await drain(app) == 1
    done = await row(database, id)
    assert (done.state, done.attempt, done.error) == ("done", 1, None)
    assert json.loads(done.result or "") == ["red", "red"]
    assert done.started_at is not None
    assert done.finished_at is not None
    assert await tags(database) == ["red 0", "red 1"]


async def test_a_transaction_that_fails_leaves_no_job(database: Database) -> None:
    with pytest.raises(KeyError):  # noqa: PT012 - the job before it is the point
        async with database.write(None) as work:
            work.enqueue(nothing)
            raise KeyError
    assert await rows(database) == []


async def test_arguments_come_back_as_their_types(database: Database) -> None:
    seen: list[Any] = []

    @job()
    async def look(
        job: JobRun, id: UUID, order: Order, *, wait: timedelta, names: set[str], note: str = "-"
    ) -> None:
        seen.extend((id, order, wait, names, note))

    id = uuid4()
    given = (id, Order(sku="x", amount=3), timedelta(minutes=5), {"a", "b"})
    await enqueue(database, look, given[0], given[1], wait=given[2], names=given[3])
    await drain(application(database, look))
    assert seen == [*given, "-"]


async def test_an_argument_of_another_type_is_refused_when_it_is_enqueued(
    database: Database,
) -> None:
    with pytest.raises(ValueError, match="arguments of label"):
        await enqueue(database, label, 7)
    with pytest.raises(TypeError, match="tmies"):
        await enqueue(database, label, "red", tmies=2)
    assert await rows(database) == []


@pytest.mark.parametrize(
    ("said", "state"),
    [('{"name": "red", "colour": 1}', "done"), ('{"title": "red"}', "scheduled")],
    ids=["one more", "another one"],
)
async def test_arguments_of_another_release(database: Database, said: str, state: str) -> None:
    """What a function does not ask for is left out; without what it asks for, it is tried again.

    By a worker of the release that knows, perhaps.
    """
    id = await enqueue(database, label, "red")
    await execute(database, f"UPDATE jobs SET arguments = '{said}'")
    await drain(application(database, label))
    found = await row(database, id)
    assert (found.state, found.attempt) == (state, 1)
    assert ("Field required" in (found.error or "")) == (state == "scheduled")


@pytest.mark.parametrize("by_step", [False, True])
async def test_a_row_is_no_place_for_a_file(database: Database, *, by_step: bool) -> None:
    async def read(work: Work, text: str) -> str:
        await tag(work, "read")
        return text * 2

    @job()
    async def load(job: JobRun, text: str) -> str:
        return await job.step("read", read, text) if by_step else await read(job.work, text)

    with pytest.raises(ValueError, match="1 MiB at most"):
        await enqueue(database, load, "x" * 2**20)
    id = await enqueue(database, load, "x" * 600_000)
    await drain(application(database, load))
    found = await row(database, id)
    assert (found.state, found.attempt, found.result) == ("dead", 1, None)
    assert "1 MiB at most" in json.loads(found.error or "")["detail"]
    assert await tags(database) == []


async def test_what_is_said_of_a_failure_is_not_longer_than_a_trace(database: Database) -> None:
    @job()
    async def repeat(job: JobRun) -> None:
        raise GiveUp("no, " * 100_000)

    id = await enqueue(database, repeat)
    await drain(application(database, repeat))
    assert len((await row(database, id)).error or "") < 20_000


CHECKERS = {
    "pyright": ["pyright", "--pythonpath", sys.executable],
    "ty": ["ty", "check", "--python", sys.prefix, "--output-format", "concise"],
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_a_wrong_argument_is_a_type_error(tmp_path: Path, checker: str) -> None:
    source = tmp_path / "wrong.py"
    source.write_text(
        """
from uuid import UUID
from newel.db import Work
from newel.jobs import JobRun, job
from newel.schedules import schedule

@job(retries=3)
async def warm_up(job: JobRun, agent_id: UUID, *, often: int = 1) -> int:
    return often

@job()
async def nightly(job: JobRun, days: int = 1) -> None: ...

async def right(work: Work, id: UUID, run: JobRun) -> None:
    work.enqueue(warm_up, id)
    work.enqueue(warm_up.after(hours=1), id, often=2)
    number: int = await warm_up(run, id)
    schedule("0 3 * * *", nightly)
    assert number

async def wrong(work: Work, id: UUID) -> None:
    work.enqueue(warm_up)
    work.enqueue(warm_up, "id")
    work.enqueue(warm_up, id, often="2")
    work.enqueue(warm_up.after(hours=1), id, offen=2)
    schedule("0 3 * * *", warm_up)
"""
    )
    program, *options = CHECKERS[checker]
    command = [f"{sysconfig.get_path('scripts')}/{program}", *options, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    found = {int(line) for line in re.findall(r"wrong\.py:(\d+):", done.stdout)}
    lines = source.read_text().splitlines()
    first_wrong = lines.index("async def wrong(work: Work, id: UUID) -> None:") + 2
    assert found == set(range(first_wrong, len(lines) + 1)), done.stdout


@pytest.mark.parametrize("declared", ["plain", "nobody", "star", "positional"])
def test_a_function_that_cannot_be_a_job_is_refused(declared: str) -> None:
    def plain(job: JobRun) -> None: ...
    async def nobody() -> None: ...
    async def star(job: JobRun, *names: str) -> None: ...
    async def positional(job: JobRun, name: str, /) -> None: ...

    with pytest.raises(TypeError, match=f"{declared} is no job"):
        job()(locals()[declared])


async def test_a_job_is_a_function_too(database: Database) -> None:
    app = application(database, label)
    seen: list[list[str]] = []

    @job()
    async def outer(job: JobRun) -> None:
        seen.append(await label(job, "blue"))

    app = application(database, outer)
    await enqueue(database, outer)
    await drain(app)
    assert seen == [["blue"]]
    assert await tags(database) == ["blue 0"]


async def test_it_may_run_later(database: Database) -> None:
    app = application(database, nothing)
    soon = await enqueue(database, nothing.after(hours=1))
    past = await enqueue(database, nothing.at(utc_now() - timedelta(hours=1)))
    assert await drain(app) == 1
    assert (await row(database, past)).state == "done"
    assert (await row(database, soon)).state == "scheduled"
    await execute(database, "UPDATE jobs SET run_at = created_at WHERE state = 'scheduled'")
    assert await drain(app) == 1
    assert (await row(database, soon)).state == "done"


async def test_it_remembers_the_request(database: Database) -> None:
    seen: list[str | None] = []

    @job()
    async def look(job: JobRun) -> None:
        seen.append(request_id.get())

    token = request_id.set("request-77")
    await enqueue(database, look)
    request_id.reset(token)
    await drain(application(database, look))
    assert seen == ["request-77"]
    assert request_id.get() is None


# ---------------------------------------------------------------- whose


@job()
async def count_agents(job: JobRun) -> int:
    return await job.work.session.scalar(select(func.count(Agent.id))) or 0


@job(as_system="everybody's agents are counted at night")
async def count_all_agents(job: JobRun) -> int:
    return await job.work.session.scalar(select(func.count(Agent.id))) or 0


async def two_agents(database: Database) -> Principal:
    """Return the owner of one of two agents."""
    async with database.write(None) as work, work.as_system("a test makes users"):
        users = [User(email=f"{name}@example.com") for name in ("ann", "bob")]
        work.session.add_all(users)
        await work.flush()
        work.session.add_all([Agent(owner_id=user.id, name="scout") for user in users])
    return Principal(id=users[0].id)


async def test_it_sees_what_its_caller_sees(database: Database) -> None:
    caller = await two_agents(database)
    app = application(database, count_agents, count_all_agents)
    async with database.write(caller) as work:
        own, everything = work.enqueue(count_agents), work.enqueue(count_all_agents)
    await drain(app)
    assert (await row(database, own)).result == "1"
    assert (await row(database, everything)).result == "2"
    assert (await row(database, own)).owner_id == caller.id


async def test_nobodys_job_sees_no_guarded_rows(database: Database) -> None:
    await two_agents(database)
    id = await enqueue(database, count_agents)
    await drain(application(database, count_agents))
    failed = await row(database, id)
    assert failed.state == "scheduled"
    assert "UnscopedQuery" in (failed.error or "")


async def test_the_caller_is_a_value(database: Database) -> None:
    seen: list[Principal] = []

    @job()
    async def look(job: JobRun) -> None:
        seen.append(job.caller)

    caller = ann("agents:*")
    async with database.write(caller) as work:
        work.enqueue(look)
    await enqueue(database, look)
    await drain(application(database, look))
    assert set(seen) == {caller, ANYONE}


# ---------------------------------------------------------------- its transaction


class TagService:
    def __init__(self, work: CurrentWork) -> None:
        self.work = work

    async def add(self, label: str) -> None:
        await tag(self.work, label)


class Clerk:
    def __init__(self, tags: Annotated[TagService, Depends()]) -> None:
        self.tags = tags


async def test_dependencies_share_its_transaction(database: Database) -> None:
    @job()
    async def file(job: JobRun) -> None:
        clerk = await job.resolve(Clerk)
        assert clerk.tags.work is job.work
        await clerk.tags.add("filed")

    await enqueue(database, file)
    await drain(application(database, file))
    assert await tags(database) == ["filed"]


async def test_a_failure_takes_back_what_it_changed(database: Database) -> None:
    @job(backoff=Backoff(first_seconds=0.0))
    async def fail_once(job: JobRun) -> None:
        await tag(job.work, f"attempt {job.attempt}")
        if job.attempt == 1:
            raise KeyError("no")

    id = await enqueue(database, fail_once)
    assert await drain(application(database, fail_once)) == 2
    assert await tags(database) == ["attempt 2"]
    assert (await row(database, id)).state == "done"


async def test_what_it_enqueues_is_of_its_transaction(database: Database) -> None:
    @job(backoff=Backoff(first_seconds=0.0))
    async def parent(job: JobRun) -> None:
        job.work.enqueue(nothing)
        if job.attempt == 1:
            raise KeyError("no")

    await enqueue(database, parent)
    await drain(application(database, parent, nothing))
    assert sorted(one.name for one in await rows(database)) == ["nothing", "parent"]


async def test_who_has_lost_the_lease_commits_nothing(database: Database) -> None:
    """The fence: while it ran, another worker took the job and finished it."""

    @job()
    async def slow(job: JobRun) -> None:
        await execute(database, "UPDATE jobs SET attempt = attempt + 1, state = 'done'")
        await tag(job.work, "twice")

    id = await enqueue(database, slow)
    await drain(application(database, slow))
    assert await tags(database) == []
    assert (await row(database, id)).attempt == 2


async def test_without_the_fence_its_changes_would_be_there_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test above."""

    async def no_fence(*_: object) -> bool:
        return True

    @job()
    async def slow(job: JobRun) -> None:
        await execute(database, "UPDATE jobs SET attempt = attempt + 1, state = 'done'")
        await tag(job.work, "twice")

    monkeypatch.setattr("newel.job_queue.JobQueue.finish_in", no_fence)
    await enqueue(database, slow)
    await drain(application(database, slow))
    assert await tags(database) == ["twice"]


# ---------------------------------------------------------------- failing


async def test_retries_wait_longer_and_longer_and_end(database: Database) -> None:
    @job(retries=2, backoff=Backoff(first_seconds=100, factor=10, jitter=0.0))
    async def fail(job: JobRun) -> None:
        raise KeyError("the password is hunter2")

    app = application(database, fail)
    id = await enqueue(database, fail)
    waits: list[float] = []
    for _ in range(2):
        await drain(app)
        failed = await row(database, id)
        assert failed.state == "scheduled"
        waits.append(round((failed.run_at - utc_now()).total_seconds(), -1))
        await execute(database, "UPDATE jobs SET run_at = created_at")
    await drain(app)
    dead = await row(database, id)
    assert waits == [100, 1000]
    assert (dead.state, dead.attempt) == ("dead", 3)
    said = json.loads(dead.error or "")
    assert said["code"] == "server_error"
    assert "hunter2" not in said["detail"]
    assert "KeyError" in said["trace"]
    assert await drain(app) == 0


@pytest.mark.parametrize("attempt", [1, 2, 5])
def test_the_wait_varies_so_that_not_all_come_back_at_once(attempt: int) -> None:
    backoff = Backoff(first_seconds=1, factor=2, longest_seconds=10, jitter=0.5)
    waits = {backoff.seconds(attempt) for _ in range(200)}
    exact = min(2 ** (attempt - 1), 10)
    assert len(waits) > 100
    assert exact * 0.5 <= min(waits) < exact * 0.8
    assert exact * 1.2 < max(waits) <= exact * 1.5


async def test_a_job_may_say_when_to_try_again(database: Database) -> None:
    @job(retries=1)
    async def fail(job: JobRun) -> None:
        raise TryAgain("the other side is busy", after_seconds=500)

    id = await enqueue(database, fail)
    await drain(application(database, fail))
    failed = await row(database, id)
    assert failed.state == "scheduled"
    assert 480 < (failed.run_at - utc_now()).total_seconds() < 505
    assert json.loads(failed.error or "")["detail"] == "the other side is busy"


@pytest.mark.parametrize("seconds", [1e15, float("inf"), -1e15])
async def test_whatever_an_upstream_says_a_time_comes_of_it(
    database: Database, seconds: float
) -> None:
    @job(retries=1)
    async def fail(job: JobRun) -> None:
        raise TryAgain("Retry-After", after_seconds=seconds)

    id = await enqueue(database, fail)
    await drain(application(database, fail))
    failed = await row(database, id)
    assert failed.state == ("scheduled" if seconds > 0 else "dead")


async def test_a_job_may_give_up(database: Database) -> None:
    @job()
    async def fail(job: JobRun) -> None:
        raise GiveUp("there is no such file")

    id = await enqueue(database, fail)
    await drain(application(database, fail))
    assert (await row(database, id)).state == "dead"


async def test_an_error_for_clients_is_kept_as_such(database: Database) -> None:
    @job()
    async def fail(job: JobRun) -> None:
        raise Conflict("It is closed.")

    id = await enqueue(database, fail)
    await drain(application(database, fail))
    said = json.loads((await row(database, id)).error or "")
    assert (said["code"], said["detail"]) == ("conflict", "It is closed.")


async def test_a_job_that_takes_too_long_is_stopped(database: Database) -> None:
    @job(timeout_seconds=0.05)
    async def hang(job: JobRun) -> None:
        await tag(job.work, "hanging")
        await asyncio.Event().wait()

    id = await enqueue(database, hang)
    await drain(application(database, hang))
    failed = await row(database, id)
    assert failed.state == "scheduled"
    assert json.loads(failed.error or "")["code"] == "timeout"
    assert await tags(database) == []


# ---------------------------------------------------------------- keys


async def test_a_unique_job_is_there_once_until_it_has_finished(database: Database) -> None:
    @job(unique=lambda name: name)
    async def report(job: JobRun, name: str) -> None: ...

    app = application(database, report)
    first = await enqueue(database, report, "sales")
    second = await enqueue(database, report, "sales")
    other = await enqueue(database, report, "stock")
    assert await drain(app) == 2
    third = await enqueue(database, report, "sales")
    states = {one.id: one.state for one in await rows(database)}
    assert states == {first: "done", second: "duplicate", other: "done", third: "ready"}
    assert json.loads((await row(database, second)).result or "") == {"job_id": str(first)}


async def test_two_at_the_same_moment_are_one(database: Database) -> None:
    @job(unique=lambda: "one")
    async def report(job: JobRun) -> None: ...

    await asyncio.gather(*(enqueue(database, report) for _ in range(10)))
    states = sorted(one.state for one in await rows(database))
    assert states == ["duplicate"] * 9 + ["ready"]


async def test_two_units_with_the_same_keys_do_not_lock_each_other_up(database: Database) -> None:
    @job(unique=str)
    async def refresh(job: JobRun, number: int) -> None: ...

    async def enqueue_all(numbers: Iterable[int]) -> None:
        async with database.write(None) as work:
            for number in numbers:
                work.enqueue(refresh, number)

    await asyncio.gather(enqueue_all(range(50)), enqueue_all(reversed(range(50))))
    states = Counter(one.state for one in await rows(database))
    assert states == {"ready": 50, "duplicate": 50}


async def test_a_key_that_does_not_fit_is_refused(database: Database) -> None:
    @job(unique=lambda name: name)
    async def report(job: JobRun, name: str) -> None: ...

    with pytest.raises(ValueError, match="a key of report"):
        await enqueue(database, report, "x" * 300)


# ---------------------------------------------------------------- steps


async def test_a_finished_step_is_not_done_again(database: Database) -> None:
    async def load(work: Work, page: int) -> dict[UUID, int]:
        await tag(work, f"page {page}")
        return {UUID(int=page): page}

    seen: list[Any] = []

    @job(backoff=Backoff(first_seconds=0.0))
    async def load_all(job: JobRun) -> int:
        for page in range(3):
            if page == 2 and job.attempt == 1:
                raise KeyError("killed here")
            seen.append(await job.step(f"page {page}", load, page))
        return len(seen)

    id = await enqueue(database, load_all)
    assert await drain(application(database, load_all)) == 2
    assert await tags(database) == ["page 0", "page 1", "page 2"]
    assert seen[:2] == seen[2:4] == [{UUID(int=0): 0}, {UUID(int=1): 1}]
    assert (await row(database, id)).state == "done"


async def test_a_step_that_fails_leaves_nothing(database: Database) -> None:
    async def load(work: Work) -> None:
        await tag(work, "half")
        raise KeyError("no")

    @job(retries=0)
    async def load_all(job: JobRun) -> None:
        await job.step("load", load)

    await enqueue(database, load_all)
    await drain(application(database, load_all))
    assert await tags(database) == []


async def test_a_step_without_the_lease_leaves_nothing(database: Database) -> None:
    lost: list[bool] = []

    async def load(work: Work) -> None:
        await tag(work, "twice")

    @job()
    async def load_all(job: JobRun) -> None:
        await execute(database, "UPDATE jobs SET attempt = attempt + 1")
        try:
            await job.step("load", load)
        except LeaseLost:
            lost.append(True)
            raise

    await enqueue(database, load_all)
    await drain(application(database, load_all))
    assert lost == [True]
    assert await tags(database) == []


async def test_steps_go_with_their_job(database: Database) -> None:
    async def load(work: Work) -> int:
        return 7

    @job()
    async def load_all(job: JobRun) -> int:
        return await job.step("load", load)

    await enqueue(database, load_all)
    app = application(database, load_all)
    await drain(app)
    await execute(database, "UPDATE jobs SET finished_at = '2020-01-01'")
    worker = Worker(app, app.state.background)
    await worker.purge()
    assert await rows(database) == []
    async with database.read(None) as work, work.as_system("a test looks"):
        found = await work.session.execute(select(func.count()).select_from(_steps()))
        assert found.scalar_one() == 0


def _steps() -> Any:
    return Tag.metadata.tables["job_steps"]


def test_a_job_is_declared_with_its_options() -> None:
    @job(name="send", queue="mail", priority=-5, retries=1, timeout_seconds=9)
    async def declared(job: JobRun) -> None: ...

    assert isinstance(declared, Job)
    assert (declared.name, declared.queue, declared.priority) == ("send", "mail", -5)
    blank = declared.row(None)
    assert (blank["queue"], blank["priority"], blank["max_attempts"]) == ("mail", -5, 2)
