"""A schedule enqueues its job once a tick, whatever the number of workers and the clock do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sample_jobs import application, drain, execute, row, rows
from sqlalchemy import select, text

from newel.db import Database
from newel.entity import Entity
from newel.errors import ConfigurationError
from newel.jobs import JobRun, job
from newel.schedules import MOST_TICKS, Misfire, _move, schedule, tick

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("log_lines")]


@job()
async def nightly(job: JobRun, days: int = 1) -> str:
    return job.run_at.isoformat()


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


async def due(database: Database) -> dict[str, Any]:
    async with database.read(None) as work, work.as_system("a test looks"):
        found = await work.session.execute(text("SELECT name, cron, due_at FROM job_schedules"))
        return {name: (cron, due_at) for name, cron, due_at in found}


async def overdue(database: Database) -> None:
    """Pretend that the last tick of every schedule has been missed a minute ago."""
    past = "strftime('%Y-%m-%d %H:%M:00.000000', 'now')"
    if not database.is_sqlite:
        past = "date_trunc('minute', statement_timestamp())"
    await execute(database, f"UPDATE job_schedules SET due_at = {past}")


# ---------------------------------------------------------------- times


def test_it_says_its_times() -> None:
    found = schedule("30 3 * * mon", nightly).ticks(at(1, 0))
    assert [next(found) for _ in range(2)] == [at(2, 3, 30), at(9, 3, 30)]


def test_it_follows_the_clocks_of_its_time_zone() -> None:
    """In Berlin the clocks go forward on 29 March: there is no 2:30, and 3:00 comes at 1 UTC."""
    daily = schedule("0 3 * * *", nightly, timezone="Europe/Berlin").ticks(at(28, 0))
    assert [next(daily) for _ in range(2)] == [at(28, 2), at(29, 1)]
    skipped = schedule("30 2 * * *", nightly, timezone="Europe/Berlin").ticks(at(28, 12))
    assert next(skipped) == at(29, 1)  # as Debian's cron does: as soon as the clock is past it


def test_an_hour_that_comes_twice_has_its_ticks_once() -> None:
    """In Berlin the clocks go back at 1 UTC on 25 October: it is 2:05 for the second time."""
    one = schedule("0,15,30,45 2 * * *", nightly, timezone="Europe/Berlin", misfire="all")
    midnight = datetime(2026, 10, 25, tzinfo=UTC)
    now = midnight + timedelta(hours=1, minutes=5)
    quarters = [midnight + timedelta(minutes=minutes) for minutes in (0, 15, 30, 45)]
    assert one.missed(midnight, now) == quarters
    assert next(one.ticks(now)) == midnight + timedelta(days=1, hours=1)


@pytest.mark.parametrize(
    ("misfire", "late", "expected"),
    [
        ("latest", timedelta(0), [at(4, 3)]),
        ("latest", timedelta(hours=5), [at(4, 3)]),
        ("all", timedelta(hours=5), [at(2, 3), at(3, 3), at(4, 3)]),
        ("skip", timedelta(seconds=59), [at(4, 3)]),
        ("skip", timedelta(minutes=2), []),
    ],
)
def test_missed_ticks(misfire: Misfire, late: timedelta, expected: list[datetime]) -> None:
    one = schedule("0 3 * * *", nightly, misfire=misfire)
    assert one.missed(at(2, 3), at(4, 3) + late) == expected


def test_missed_ticks_are_bounded() -> None:
    one = schedule("* * * * *", nightly, misfire="all")
    found = one.missed(at(1, 0), at(1, 0) + timedelta(days=30))
    assert len(found) == MOST_TICKS
    assert found[-1] == at(31, 0)


@pytest.mark.parametrize(
    ("cron", "timezone"),
    [("0 25 * * *", "UTC"), ("nightly", "UTC"), ("0 3 * * *", "Europe/Atlantis")],
)
def test_a_schedule_that_there_is_not_is_refused(cron: str, timezone: str) -> None:
    with pytest.raises(ValueError, match="is no schedule"):
        schedule(cron, nightly, timezone=timezone)


# ---------------------------------------------------------------- ticks


async def test_a_tick_enqueues_the_job_for_its_time(database: Database) -> None:
    app = application(database, nightly, schedules=[schedule("* * * * *", nightly)])
    assert await drain(app) == 0  # it is noted, and waits for its first tick
    [(cron, first)] = (await due(database)).values()
    assert cron == "* * * * * UTC"
    await overdue(database)
    assert await drain(app) == 1
    [found] = await rows(database)
    assert found.state == "done"
    assert (found.run_at.second, found.caller) == (0, None)
    assert found.result == f'"{found.run_at.isoformat()}"'
    assert (await due(database))["nightly"][1] >= first
    assert await drain(app) == 0


async def test_one_worker_wins_each_tick(database: Database) -> None:
    every_minute = [schedule("* * * * *", nightly)]
    others = [Database(database.url) for _ in range(4)]
    assert sum(await asyncio.gather(*(tick(other, every_minute) for other in others))) == 0
    for _ in range(3):
        await overdue(database)
        won = await asyncio.gather(*(tick(other, every_minute) for other in others))
        assert sorted(won) == [0, 0, 0, 1]
    for other in others:
        await other.close()
    assert len(await rows(database)) == 3


async def test_who_looked_before_another_moved_it_enqueues_nothing(database: Database) -> None:
    one = schedule("* * * * *", nightly)
    await tick(database, [one])
    await overdue(database)
    [(said, _)] = (await due(database)).values()
    [due_at] = await stored(database)
    now = datetime.now(UTC)

    async def move() -> int:
        async with database.engine.begin() as connection:
            return await connection.run_sync(_move, one, said, due_at, now)

    assert await move() == 1
    assert await move() == 0
    await execute(database, f"UPDATE job_schedules SET due_at = '{due_at:%Y-%m-%d %H:%M:%S.%f}'")
    assert await move() == 1  # it is the comparison that had made it 0


async def stored(database: Database) -> list[datetime]:
    async with database.reading_engine.connect() as connection:
        found = await connection.execute(select(Entity.metadata.tables["job_schedules"].c.due_at))
        return list(found.scalars())


async def test_a_changed_schedule_starts_anew(database: Database) -> None:
    await tick(database, [schedule("0 3 * * *", nightly)])
    await overdue(database)
    assert await tick(database, [schedule("0 4 * * *", nightly)]) == 0
    cron, _ = (await due(database))["nightly"]
    assert cron == "0 4 * * * UTC"
    assert await rows(database) == []


async def test_a_clock_that_goes_back_repeats_no_tick(database: Database) -> None:
    """The row says when the next tick is due, and that is an hour and more away then."""
    one = schedule("0 * * * *", nightly)
    await tick(database, [one])
    later = "'2999-01-01 00:00:00'"
    await execute(database, f"UPDATE job_schedules SET due_at = {later}")
    assert await tick(database, [one]) == 0
    assert await rows(database) == []


async def test_what_a_tick_enqueued_is_an_ordinary_job(database: Database) -> None:
    one = schedule("* * * * *", nightly, name="every minute")
    await tick(database, [one])
    await overdue(database)
    await tick(database, [one])
    [found] = await rows(database)
    assert (found.name, found.state, found.arguments) == ("nightly", "ready", "{}")
    assert (await row(database, found.id)).owner_id is None


# ---------------------------------------------------------------- put together


async def test_two_schedules_of_one_name_are_refused(database: Database) -> None:
    twice = [schedule("0 3 * * *", nightly), schedule("0 4 * * *", nightly)]
    with pytest.raises(ConfigurationError, match="two schedules that are called nightly"):
        application(database, nightly, schedules=twice)


async def test_a_schedule_of_a_job_that_no_module_lists_is_refused(database: Database) -> None:
    with pytest.raises(ConfigurationError, match="nightly"):
        application(database, schedules=[schedule("0 3 * * *", nightly)])


async def test_two_jobs_of_one_name_are_refused(database: Database) -> None:
    @job(name="nightly")
    async def other(job: JobRun) -> None: ...

    with pytest.raises(ConfigurationError, match="two jobs that are called nightly"):
        application(database, nightly, other)
