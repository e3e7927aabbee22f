"""Workers: in this process for what they do, in processes of their own for how they end."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest
from sample_jobs import (
    QUICK,
    application,
    drain,
    enqueue,
    execute,
    row,
    rows,
    running,
    tag,
    tags,
    until,
)
from sample_worker import hold, load
from structlog.typing import EventDict

from newel.app import create_app
from newel.db import Database
from newel.errors import AppError, Unavailable
from newel.events import Event
from newel.handlers import on
from newel.job_queue import Claimed, JobQueue, cancel
from newel.jobs import Backoff, JobRun, job
from newel.settings import Settings
from newel.worker import Worker, working

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("log_lines", "dispatch")]


@job()
async def nothing(job: JobRun) -> None: ...


@job(queue="mail")
async def post(job: JobRun) -> None: ...


async def all_done(database: Database) -> bool:
    return all(one.finished_at is not None for one in await rows(database))


async def state(database: Database, id: UUID) -> str:
    return (await row(database, id)).state


# ---------------------------------------------------------------- in this process


async def test_a_cancellation_that_is_swallowed_is_repeated(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    swallowed: list[bool] = []

    async def announce(_: object) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed.append(True)

    for name in ("_Table", "_Carried"):
        monkeypatch.setattr(f"newel.dispatch.{name}.announce", announce)
    app = application(database, nothing)
    app.state.runs_jobs = False
    with anyio.fail_after(20):
        async with working(app):
            await asyncio.sleep(0)  # it listens
    assert swallowed


async def test_it_works_off_what_there_is_and_what_comes(database: Database) -> None:
    app = application(database, nothing, post)
    before = [await enqueue(database, one) for one in (nothing, post)]
    async with running(app):
        await until(lambda: all_done(database))
        id = await enqueue(database, nothing)
        await until(lambda: all_done(database))
    states = {one.id: one.state for one in await rows(database)}
    assert states == dict.fromkeys((*before, id), "done")


@pytest.mark.parametrize("same_process", [True, False])
async def test_it_is_woken_at_once(database: Database, same_process: bool) -> None:
    """A bell in the process, NOTIFY between processes: nobody waits for the next look."""
    if database.is_sqlite and not same_process:
        pytest.skip("between processes, SQLite's workers look every second")
    app = application(database, nothing)
    other = database if same_process else Database(database.url)
    web = application(other, nothing)
    web.state.runs_jobs = False
    async with working(web), running(app, replace(QUICK, poll_seconds=30.0)):
        await asyncio.sleep(0.3)  # it listens, and has looked once
        began = time.monotonic()
        async with other.write(None) as work:
            work.enqueue(nothing)
        await until(lambda: all_done(database))
        assert time.monotonic() - began < 5
    if other is not database:
        await other.close()


async def test_an_event_reaches_its_handler_at_once(database: Database) -> None:
    @on(Event)
    async def book(job: JobRun, event: Event) -> None:
        await tag(job.work, "booked")

    app = application(database, handlers=[book])
    async with running(app, replace(QUICK, poll_seconds=30.0)):
        async with database.write(None) as work:
            work.publish(Event(id=UUID(int=1)))

        async def booked() -> bool:
            return await tags(database) == ["booked"]

        await until(booked, seconds=5)


async def test_the_next_of_a_key_follows_at_once(database: Database) -> None:
    @job(concurrency_key=str)
    async def bill(job: JobRun, account: int) -> None: ...

    app = application(database, bill)
    for _ in range(4):
        await enqueue(database, bill, 7)
    async with running(app, replace(QUICK, poll_seconds=30.0)):
        await until(lambda: all_done(database), seconds=10)


async def test_at_most_so_many_run_at_once(database: Database) -> None:
    now, most = 0, 0

    @job()
    async def count(job: JobRun) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1

    app = application(database, count)
    async with database.write(None) as work:
        for _ in range(150):
            work.enqueue(count)
    async with running(app, replace(QUICK, concurrency=7)):
        await until(lambda: all_done(database))
    assert most == 7


async def test_slow_jobs_are_not_hoarded(database: Database) -> None:
    """A worker that is busy leaves what it has no room for to others."""
    gate = asyncio.Event()

    @job()
    async def slow(job: JobRun) -> None:
        await gate.wait()

    app = application(database, slow)
    for _ in range(20):
        await enqueue(database, slow)
    async with running(app, replace(QUICK, concurrency=3)):

        async def busy() -> bool:
            return [one.state for one in await rows(database)].count("running") == 3

        await until(busy)
        await asyncio.sleep(0.3)
        assert await busy()
        gate.set()
        await until(lambda: all_done(database))


async def test_progress_is_seen_from_outside(database: Database) -> None:
    gate = asyncio.Event()

    @job()
    async def load_all(job: JobRun) -> None:
        job.report(0.25, "caf\udce9\0: page 1 of 4")  # as a file may be called, but no text
        await gate.wait()

    app = application(database, load_all)
    id = await enqueue(database, load_all)
    async with running(app):

        async def told() -> bool:
            found = await row(database, id)
            return (found.progress, found.note) == (0.25, "caf??: page 1 of 4")

        await until(told)
        gate.set()
        await until(lambda: all_done(database))


async def test_a_running_job_can_be_cancelled(database: Database) -> None:
    cleaned = asyncio.Event()

    @job()
    async def hang(job: JobRun) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            assert job.cancel_requested
            cleaned.set()

    app = application(database, hang)
    id = await enqueue(database, hang)
    async with running(app):

        async def runs() -> bool:
            return await state(database, id) == "running"

        await until(runs)
        async with database.write(None) as work, work.as_system("an administrator"):
            assert await cancel(work, id)
        await until(lambda: all_done(database))
    assert cleaned.is_set()
    assert await state(database, id) == "cancelled"


async def test_what_a_cancelled_job_does_to_clean_up_is_not_cut_short(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[int] = []
    cleaned = asyncio.Event()
    beat = JobQueue.beat

    async def counted(queue: JobQueue, ids: Any) -> Any:
        beats.append(len(beats))
        return await beat(queue, ids)

    @job()
    async def hang(job: JobRun) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen = len(beats)
            await until(lambda: len(beats) > seen + 3)
            cleaned.set()

    monkeypatch.setattr(JobQueue, "beat", counted)
    app = application(database, hang)
    id = await enqueue(database, hang)
    async with running(app):

        async def runs() -> bool:
            return await state(database, id) == "running"

        await until(runs)
        async with database.write(None) as work, work.as_system("an administrator"):
            assert await cancel(work, id)
        await until(lambda: all_done(database))
    assert cleaned.is_set()
    assert await state(database, id) == "cancelled"


async def test_a_job_that_was_taken_away_is_stopped(
    database: Database, log_lines: list[EventDict]
) -> None:
    stopped = asyncio.Event()

    @job()
    async def hang(job: JobRun) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    app = application(database, hang)
    id = await enqueue(database, hang)
    async with running(app):

        async def runs() -> bool:
            return await state(database, id) == "running"

        await until(runs)
        await execute(database, "UPDATE jobs SET worker = 'another', attempt = 2")
        await asyncio.wait_for(stopped.wait(), 10)
    assert await state(database, id) == "running"
    assert "lease_lost" in [line["event"] for line in log_lines]


async def test_it_looks_for_lost_leases_more_often_than_promised(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look takes a while: who looks once a second takes a job over after more than one."""
    looks: list[float] = []
    due = JobQueue.due

    async def noted(queue: JobQueue) -> Any:
        looks.append(time.monotonic())
        return await due(queue)

    monkeypatch.setattr(JobQueue, "due", noted)
    async with running(application(database, nothing), replace(QUICK, poll_seconds=0.6)):
        await until(lambda: len(looks) > 4)
    # The first ones have other causes, and a busy machine makes some of them late.
    assert min(later - sooner for sooner, later in pairwise(looks[2:])) < 0.6


async def test_a_long_job_keeps_its_lease(database: Database) -> None:
    gate = asyncio.Event()

    @job()
    async def long(job: JobRun) -> None:
        await gate.wait()

    app = application(database, long)
    id = await enqueue(database, long)
    async with running(app), running(app):

        async def renewed() -> bool:
            found = await row(database, id)
            assert found.attempt <= 1
            return (
                found.started_at is not None
                and found.leased_until is not None
                and (found.leased_until - found.started_at).total_seconds() > 1.5
            )  # three leases of 0.6 s

        await until(renewed)
        gate.set()
        await until(lambda: all_done(database))
    assert (await row(database, id)).attempt == 1


async def test_an_unknown_job_is_left_for_a_newer_release(
    database: Database, log_lines: list[EventDict]
) -> None:
    id = await enqueue(database, nothing)
    assert await drain(application(database, post)) == 1
    found = await row(database, id)
    assert (found.state, found.attempt, found.max_attempts) == ("scheduled", 1, 7)
    assert "job_unknown" in [line["event"] for line in log_lines]


async def test_a_job_that_nobody_has_known_for_a_day_is_a_dead_letter(database: Database) -> None:
    id = await enqueue(database, nothing)
    await execute(database, "UPDATE jobs SET attempt = 2880, max_attempts = 2886")
    await drain(application(database, post))
    found = await row(database, id)
    assert (found.state, found.attempt) == ("dead", 2881)
    assert json.loads(found.error or "")["code"] == "unknown_job"


async def test_it_goes_on_when_the_database_has_been_away(
    database: Database, monkeypatch: pytest.MonkeyPatch, log_lines: list[EventDict]
) -> None:
    away = {"claim": 2, "finish": 2, "due": 2, "beat": 2}
    for name in away:
        real = getattr(JobQueue, name)

        async def fail_first(
            *args: Any, _real: Any = real, _name: str = name, **kwargs: Any
        ) -> Any:
            if away[_name] > 0:
                away[_name] -= 1
                raise Unavailable("The database does not answer.")
            return await _real(*args, **kwargs)

        monkeypatch.setattr(JobQueue, name, fail_first)
    id = await enqueue(database, nothing)
    async with running(application(database, nothing)):
        await until(lambda: all_done(database))
    assert await state(database, id) == "done"
    hindered = [line for line in log_lines if line["event"] == "worker_hindered"]
    assert hindered[0]["why"] == "The database does not answer."
    assert not any(line["exc_info"] for line in hindered)


async def test_an_outcome_that_no_database_takes_holds_up_no_other(
    database: Database, log_lines: list[EventDict]
) -> None:
    never = Backoff(first_seconds=1e15, longest_seconds=1e15)

    @job(backoff=never)
    async def poison(job: JobRun) -> None:
        raise RuntimeError("tried again in thirty million years, which is no date")

    bad = await enqueue(database, poison)
    good = [await enqueue(database, nothing) for _ in range(3)]
    async with running(application(database, poison, nothing)):
        await until(lambda: all_done(database))
    assert await state(database, bad) == "dead"
    assert {await state(database, id) for id in good} == {"done"}
    assert "outcome_refused" in [line["event"] for line in log_lines]


async def test_what_does_not_finish_in_time_is_handed_back(database: Database) -> None:
    @job()
    async def hang(job: JobRun) -> None:
        await tag(job.work, "half")
        await asyncio.Event().wait()

    app = application(database, hang)
    id = await enqueue(database, hang)
    async with running(app, replace(QUICK, stop_seconds=0.1, poll_seconds=0.5)):

        async def runs() -> bool:
            return await state(database, id) == "running"

        await until(runs)
    found = await row(database, id)
    assert (found.state, found.attempt, found.max_attempts) == ("ready", 1, 7)
    assert found.leased_until is None
    assert await tags(database) == []


async def test_old_rows_are_removed_meanwhile(database: Database) -> None:
    app = application(database, nothing)
    async with database.write(None) as work:
        for _ in range(1100):
            work.enqueue(nothing)
    long_ago = "state = 'done', finished_at = '2020-01-01 00:00:00'"
    await execute(database, f"UPDATE jobs SET {long_ago}")
    worker = Worker(app, app.state.background)
    await worker.purge()
    assert len(await rows(database)) == 100
    await worker.purge()
    assert await rows(database) == []


async def test_a_job_that_exits_ends_its_own_attempt(database: Database) -> None:
    """As what is called in a job may do that was written for a command line."""

    @job(retries=0)
    async def leave(job: JobRun) -> None:
        sys.exit(3)

    left, other = await enqueue(database, leave), await enqueue(database, nothing)
    async with running(application(database, leave, nothing)):
        await until(lambda: all_done(database))
    assert (await state(database, left), await state(database, other)) == ("dead", "done")


async def test_who_claims_its_own_job_again_gives_up_the_old_lease_and_keeps_the_new(
    database: Database,
) -> None:
    """As a single worker does that was asleep for longer than its lease."""
    gate, begun, ended = asyncio.Event(), list[int](), list[int]()

    @job()
    async def hang(job: JobRun) -> None:
        begun.append(job.attempt)
        try:
            await gate.wait()
        finally:
            ended.append(job.attempt)

    id = await enqueue(database, hang)
    async with running(application(database, hang), replace(QUICK, lease_seconds=30.0)):
        await until(lambda: begun == [1])
        await execute(database, "UPDATE jobs SET state = 'ready', leased_until = NULL")
        await until(lambda: (begun, ended) == ([1, 2], [1]))

        async def renewed() -> bool:
            found = await row(database, id)
            assert found.leased_until is not None
            assert found.started_at is not None
            return (found.leased_until - found.started_at).total_seconds() > 30.5

        await until(renewed)
        gate.set()
        await until(lambda: all_done(database))
    assert ended == [1, 2]


async def test_an_attempt_knows_whether_it_is_the_last(database: Database) -> None:
    seen = list[tuple[int, bool]]()

    @job(retries=1, backoff=Backoff(first_seconds=0))
    async def fail(job: JobRun) -> None:
        seen.append((job.attempt, job.is_last))
        raise RuntimeError

    id = await enqueue(database, fail)
    async with running(application(database, fail)):
        await until(lambda: all_done(database))
    assert seen == [(1, False), (2, True)]
    assert await state(database, id) == "dead"


async def test_an_attempt_that_is_handed_out_once_more_goes_on(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a server that lost its last moments: the claim is not there any more."""
    gate, begun, ended = asyncio.Event(), list[int](), list[int]()
    real, handed_out = Worker._start, list[int]()

    def start(worker: Worker, claimed: Claimed) -> None:
        real(worker, claimed)
        handed_out.append(claimed.attempt)

    monkeypatch.setattr(Worker, "_start", start)

    @job()
    async def hang(job: JobRun) -> None:
        begun.append(job.attempt)
        await gate.wait()
        ended.append(job.attempt)

    id = await enqueue(database, hang)
    async with running(application(database, hang), replace(QUICK, lease_seconds=30.0)):
        await until(lambda: begun == [1])
        forgotten = "UPDATE jobs SET state = 'ready', leased_until = NULL, attempt = 0"
        await execute(database, forgotten)
        await until(lambda: handed_out == [1, 1])
        gate.set()
        await until(lambda: all_done(database))
    assert (begun, ended) == ([1], [1])
    assert await state(database, id) == "done"


async def test_a_cancellation_that_comes_from_inside_is_a_failure(database: Database) -> None:
    """As of a task that a job waits for, and somebody else has ended: the lease is not lost."""

    @job(retries=0)
    async def wait(job: JobRun) -> None:
        other = asyncio.create_task(asyncio.Event().wait())
        other.cancel()
        await other

    id = await enqueue(database, wait)
    async with running(application(database, wait)):
        await until(lambda: all_done(database))
    found = await row(database, id)
    assert (found.state, json.loads(found.error or "")["code"]) == ("dead", AppError.code)


async def test_who_is_stopped_while_it_rolls_back_takes_no_place_along(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by the next look at leases, when its end has been written already."""

    async def be_stopped(_: JobRun) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(JobRun, "abandon", be_stopped)
    for _ in range(3):
        await enqueue(database, nothing)
    async with running(application(database, nothing), replace(QUICK, concurrency=1)):
        await until(lambda: all_done(database))


# ---------------------------------------------------------------- which processes


@pytest.mark.parametrize(("role", "works"), [("all", True), ("worker", True), ("web", False)])
async def test_the_role_says_who_works(database: Database, role: str, works: bool) -> None:
    app = application(database, nothing)
    app.state.runs_jobs = _built(role, database).state.runs_jobs
    id = await enqueue(database, nothing)
    async with working(app):
        if works:
            await until(lambda: all_done(database))
    assert await state(database, id) == ("done" if works else "ready")


def _built(role: str, database: Database) -> Any:
    secret, url = "k3y-0123456789-abcdefghij-ABCDEFGHIJ", database.url
    return create_app(Settings(_env_file=None, secret_key=secret, role=role, database_url=url))


async def test_tests_run_jobs_when_they_want_to(database: Database) -> None:
    app = application(database, nothing)
    app.state.checks = {"database": database.ping}
    id = await enqueue(database, nothing)
    async with app.router.lifespan_context(app):
        assert await state(database, id) == "ready"


# ---------------------------------------------------------------- processes of their own


@asynccontextmanager
async def process(
    database: Database, *, sabotage: str = ""
) -> AsyncGenerator[asyncio.subprocess.Process]:
    program = Path(__file__).with_name("sample_worker.py")
    found = await asyncio.create_subprocess_exec(
        *(sys.executable, str(program), database.url, sabotage),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield found
    finally:
        if found.returncode is None:
            found.kill()
        await found.wait()


async def line(worker: asyncio.subprocess.Process, event: str) -> dict[str, Any]:
    """Read its log up to a line."""
    assert worker.stdout is not None
    while text := await asyncio.wait_for(worker.stdout.readline(), 20):
        said: dict[str, Any] = json.loads(text)
        if said["event"] == event:
            return said
    raise AssertionError(f"it never said {event}")


async def test_a_job_of_a_killed_worker_goes_on_in_another(
    database: Database, tmp_path: Path
) -> None:
    """Within its lease and a second; the steps that were done are not done again."""
    id = await enqueue(database, load, str(tmp_path))
    async with process(database) as first, process(database) as second:
        await line(second, "worker_started")
        await until((tmp_path / "started-1").exists)
        owner = (await row(database, id)).worker or ""
        killed, killed_at = first if f":{first.pid}:" in owner else second, time.monotonic()
        killed.send_signal(signal.SIGKILL)
        await until((tmp_path / "started-2").exists)
        assert time.monotonic() - killed_at < 1.0 + 1.0 + 1.0  # lease, promise, a busy machine
        (tmp_path / "go").touch()
        await until(lambda: all_done(database))
    assert await state(database, id) == "done"
    assert await tags(database) == [f"page {page}" for page in range(4)]


@pytest.mark.parametrize("sabotage", ["", "fence"])
async def test_a_worker_that_wakes_after_its_lease_changes_nothing(
    database: Database, tmp_path: Path, sabotage: str
) -> None:
    """With SIGSTOP it sleeps through its lease; without the fence its change is there as well."""
    await enqueue(database, hold, str(tmp_path))
    async with process(database, sabotage=sabotage) as first:
        await until((tmp_path / "started-1").exists)
        first.send_signal(signal.SIGSTOP)
        async with process(database) as second:
            await until((tmp_path / "started-2").exists)
            (tmp_path / "go").touch()
            await until(lambda: all_done(database))
            assert second.returncode is None
        first.send_signal(signal.SIGCONT)
        if sabotage:

            async def doubled() -> bool:
                return await tags(database) == ["held 2", "held 1"]

            await until(doubled)
            return
        await line(first, "lease_lost")
    assert await tags(database) == ["held 2"]


async def test_it_stops_cleanly(database: Database, tmp_path: Path) -> None:
    id = await enqueue(database, hold, str(tmp_path))
    async with process(database) as worker:
        await until((tmp_path / "started-1").exists)
        worker.send_signal(signal.SIGTERM)
        other = await enqueue(database, hold, str(tmp_path))
        (tmp_path / "go").touch()
        await line(worker, "worker_stopped")
        assert await asyncio.wait_for(worker.wait(), 10) == 0
    assert await state(database, id) == "done"
    assert await state(database, other) in {"ready", "done"}  # the signal may come a moment later
