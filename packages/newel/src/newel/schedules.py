"""Schedules: when a job is enqueued, as a cron expression.

    module = Module("reports", jobs=[nightly], schedules=[schedule("0 3 * * *", nightly)])

Each schedule is a row with the time of its next tick; of all workers the one that moves it on
enqueues the job, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Any, Final, Literal, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from sqlalchemy import Column, Connection, String, Table, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from newel.db import Database
from newel.entity import Entity, UTCDateTime
from newel.job_rows import from_now, write_jobs
from newel.jobs import Job
from newel.outbox import Enqueueable

__all__ = ["Misfire", "Schedule", "schedule", "tick"]

Misfire = Literal["latest", "all", "skip"]
"""What happens to ticks at which no worker ran: one job for all, one for each, or none."""

LATE_SECONDS: Final = 60.0
"""How late a tick may be and is still on time for ``skip``."""

MOST_TICKS: Final = 1000
"""How many missed ticks are made up for at most; the oldest are left out."""

_INSTANT: Final = timedelta(microseconds=1)
_END_SOON: Final = text("SET LOCAL idle_in_transaction_session_timeout = 5000")
"""Who is stopped in the middle, with SIGSTOP for example, keeps the others from it no longer."""

_SCHEDULES: Final = Table(
    "job_schedules",
    Entity.metadata,
    Column("name", String(128), primary_key=True),
    Column("cron", String(128), nullable=False),
    Column("due_at", UTCDateTime, nullable=False),
    info={"kernel": True},
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """When ``job`` is enqueued: at every time that ``cron`` matches in ``timezone``."""

    name: str
    cron: str
    job: Job[..., Any]
    timezone: str
    misfire: Misfire

    @property
    def said(self) -> str:
        """What the row remembers, to notice that the schedule was changed."""
        return f"{self.cron} {self.timezone}"

    def ticks(self, start: datetime, *, back: bool = False) -> Iterator[datetime]:
        """Yield the times after ``start``, or, ``back``, the times before it, in UTC."""
        # In the second of two equal hours CronSim believes to be in the first.
        begin = start + timedelta(hours=1) if back else start
        for time in CronSim(self.cron, begin.astimezone(ZoneInfo(self.timezone)), reverse=back):
            tick = time.astimezone(UTC)
            if tick < start if back else tick > start:
                yield tick

    def missed(self, due: datetime, now: datetime) -> list[datetime]:
        """Return the ticks from ``due`` to ``now`` that are to be made up for, oldest first."""
        past = takewhile(lambda time: time >= due, self.ticks(now + _INSTANT, back=True))
        match self.misfire:
            case "all":
                return list(islice(past, MOST_TICKS))[::-1]
            case "latest":
                return list(islice(past, 1))
            case "skip":
                on_time = now - timedelta(seconds=LATE_SECONDS)
                return [time for time in islice(past, 1) if time >= on_time]


def schedule(
    cron: str,
    job: Enqueueable[[]],
    *,
    name: str | None = None,
    timezone: str = "UTC",
    misfire: Misfire = "latest",
) -> Schedule:
    """Return the schedule of a job that needs no arguments; its runs know their tick as ``run_at``.

    ``cron`` has five fields: minute, hour, day, month, day of the week. Where a clock change skips
    or repeats an hour, Debian's cron is followed. Raises ``ValueError`` for an expression or a
    ``timezone`` that there is not.
    """
    declared = cast("Job[..., Any]", job)
    try:
        CronSim(cron, datetime.now(ZoneInfo(timezone)))
    except (CronSimError, ZoneInfoNotFoundError) as error:
        raise ValueError(f"{cron!r} in {timezone} is no schedule: {error}") from None
    return Schedule(
        name=name or declared.name, cron=cron, job=declared, timezone=timezone, misfire=misfire
    )


async def tick(database: Database, schedules: Sequence[Schedule]) -> int:
    """Enqueue what is due, and note what is new; return how many jobs were enqueued."""
    async with database.reading_engine.connect() as connection:
        now = (await connection.execute(select(from_now()))).scalar_one()
        found = await connection.execute(
            select(_SCHEDULES.c.name, _SCHEDULES.c.cron, _SCHEDULES.c.due_at)
        )
        rows = {name: (cron, due) for name, cron, due in found}
    enqueued = 0
    for one in schedules:
        said, due = rows.get(one.name, ("", now))
        if said != one.said or due <= now:
            async with database.engine.begin() as connection:
                enqueued += await connection.run_sync(_move, one, said, due, now)
    return enqueued


def _move(
    connection: Connection, schedule: Schedule, said: str, due: datetime, now: datetime
) -> int:
    """Move a schedule to its next tick; who succeeds enqueues the ticks that it has passed."""
    values = {"cron": schedule.said, "due_at": next(schedule.ticks(now))}
    if not said:
        dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
        new = dialect.insert(_SCHEDULES).on_conflict_do_nothing()
        connection.execute(new, {"name": schedule.name, **values})
        return 0
    if connection.dialect.name != "sqlite":
        connection.execute(_END_SOON)
    same = _SCHEDULES.c.name == schedule.name, _SCHEDULES.c.cron == said, _SCHEDULES.c.due_at == due
    free = select(_SCHEDULES.c.name).where(*same).with_for_update(skip_locked=True)
    moved = update(_SCHEDULES).where(_SCHEDULES.c.name.in_(free), *same)
    if not connection.execute(moved.values(values)).rowcount:
        return 0  # another worker was quicker, or is at it
    if said != schedule.said:
        return 0  # it was changed: the old times are nobody's wish any more
    jobs = [{**schedule.job.row(None), "run_at": time} for time in schedule.missed(due, now)]
    write_jobs(connection, jobs)
    return len(jobs)
