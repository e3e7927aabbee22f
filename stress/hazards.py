"""What befalls workers: poison, a stop in the middle, a queue that is full, a clock that jumps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

import httpx2
from sqlalchemy import ColumnElement, Table, func, select

from newel.ids import uuid7
from newel.job_rows import JOBS
from stress.depot.application import Trace
from stress.figures import Figure
from stress.fleet import Member
from stress.load import Load
from stress.machine import Clock
from stress.outages import ANSWER_SECONDS, kept, slowest_answer, wrong_answers
from stress.site import LEASE_SECONDS, Site

__all__ = ["HAZARDS", "Hazard", "jumping", "start"]

Hazard = Callable[[Site, Load], Awaitable[list[Figure]]]

HOUR_SECONDS: Final = 3600
OVERDUE_SECONDS: Final = 1.5
"""How long after its lease a job may be left: half a second until the next look, and its run."""

_LONG_SECONDS: Final = 3.0
"""How long a job takes that outlives a lease which nobody renews."""

_SHORT_SECONDS: Final = 0.5
_QUEUE: Final = 2000
_ATTEMPTS: Final = 3
_PATIENCE_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.05
_TRACES: Final[Any] = Trace.__table__


async def start(*members: Member) -> None:
    """Have members run, and wait until they work."""
    for one in members:
        await one.start()
    for one in members:
        await one.ready()


async def poison(site: Site, load: Load) -> list[Figure]:
    """A job kills its worker, each time it is tried: all others are done all the same."""
    began, deaths = time.monotonic(), 0
    await _post(site, f"/poison/{uuid7()}")
    is_dead = (JOBS.c.name == "explode", JOBS.c.state == "dead")
    # One more than may be: an attempt that is not counted kills for ever.
    while deaths <= _ATTEMPTS and not await _count(site, JOBS, *is_dead):
        if not site.worker.is_alive:
            deaths += 1
            await start(site.worker)
        if time.monotonic() - began > _PATIENCE_SECONDS:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    dead = await _count(site, JOBS, *is_dead)
    return [
        Figure(name="workers that it killed", value=deaths, most=_ATTEMPTS),
        Figure(name="poison that is no dead letter", value=1 - dead, most=0),
        *await _promises(site, load, since=began),
    ]


async def pause(site: Site, load: Load) -> list[Figure]:
    """A worker is stopped in the middle of a job, and wakes when another one has done it."""
    began, job = time.monotonic(), uuid7()
    await start(site.spare)
    await _post(site, f"/waits/{job}", seconds=str(_SHORT_SECONDS))
    stopped = await _at_work(site)
    stopped_at = time.monotonic()
    await _until(partial(_effects, site, job))
    took = time.monotonic() - stopped_at
    if stopped is not None:
        stopped.resume()
    figures = await _promises(site, load, since=began)
    effects = await _effects(site, job)
    await site.spare.stop()
    late = took - LEASE_SECONDS - _SHORT_SECONDS
    return [
        Figure(name="effects but one", value=abs(effects - 1), most=0),
        Figure(
            name="done after the lease, s", value=round(max(0.0, late), 2), most=OVERDUE_SECONDS
        ),
        *figures,
    ]


async def flood(site: Site, load: Load) -> list[Figure]:
    """Thousands of jobs are recorded at once: requests go on, and all of them are done."""
    began = time.monotonic()
    crates = [str(uuid7()) for _ in range(_QUEUE)]
    await _post(site, "/shelves", json=crates)
    figures = await _promises(site, load, since=began)
    done = await _count(site, _TRACES, _TRACES.c.crate_id.in_([UUID(one) for one in crates]))
    return [
        Figure(name="jobs in the queue", value=_QUEUE),
        Figure(name="until all were done, s", value=round(time.monotonic() - began, 1)),
        Figure(name="effects but one", value=abs(done - _QUEUE), most=0),
        slowest_answer(load.since(began), most=ANSWER_SECONDS),
        *figures,
    ]


def jumping(clock: Clock, *, restarts_allowed: bool) -> Hazard:
    """Return what happens when ``clock`` jumps an hour ahead, and an hour back.

    A job is longer than its lease then. When it is the database's clock that jumps, its lease ends
    or is longer than any: another attempt may begin, and one of them counts.
    """

    async def run(site: Site, load: Load) -> list[Figure]:
        began, jobs = time.monotonic(), [uuid7() for _ in range(3)]
        for job, seconds in zip(jobs, (HOUR_SECONDS, 0, -HOUR_SECONDS), strict=True):
            await _post(site, f"/waits/{job}", seconds=str(_LONG_SECONDS))
            await _until(partial(_count, site, JOBS, *_RUNS))
            clock.jump(seconds)
            await _until(partial(_effects, site, job))
        clock.jump(0)
        figures = await _promises(site, load, since=began)
        effects = [await _effects(site, job) for job in jobs]
        again = await _count(site, JOBS, JOBS.c.name == "wait", JOBS.c.attempt > 1)
        counted = await _count(site, _TRACES, _TRACES.c.kind == "counted")
        minutes = (time.monotonic() - began) / 60
        # An hour ahead makes up for the ticks in between by one; an hour back repeats none.
        most = int(minutes) + 2 + restarts_allowed
        return [
            Figure(name="jumps", value=len(jobs) + 1),
            Figure(
                name="jobs that were begun again",
                value=again,
                most=None if restarts_allowed else 0,
            ),
            Figure(name="effects but one", value=sum(abs(one - 1) for one in effects), most=0),
            Figure(name="runs of a job of each minute", value=counted, most=most),
            slowest_answer(load.since(began), most=ANSWER_SECONDS),
            *figures,
        ]

    return run


HAZARDS: Final[Mapping[str, Hazard]] = {
    "worker-poison": poison,
    "worker-paused": pause,
    "queue-full": flood,
}

_RUNS: Final = (JOBS.c.name == "wait", JOBS.c.state == "running")


async def _at_work(site: Site) -> Member | None:
    """Stop the worker that has the job which waits; return it, ``None`` when nobody took it."""
    mine = select(JOBS.c.worker).where(*_RUNS)
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        async with site.engine.connect() as connection:
            name = str(await connection.scalar(mine))
        for one in (site.worker, site.spare):
            if f":{one.process.pid}:" in name:
                one.pause()
                return one
        await asyncio.sleep(_LOOK_SECONDS)
    return None


async def _promises(site: Site, load: Load, *, since: float) -> list[Figure]:
    async with load.held():
        return [wrong_answers(load.since(since)), *await kept(site, load)]


async def _effects(site: Site, job: UUID) -> int:
    return await _count(site, _TRACES, _TRACES.c.crate_id == job)


async def _count(site: Site, table: Table, *which: ColumnElement[bool]) -> int:
    async with site.engine.connect() as connection:
        counted = select(func.count()).select_from(table).where(*which)
        return (await connection.scalar(counted)) or 0


async def _until(holds: Callable[[], Awaitable[int]]) -> None:
    """Wait until something is so, or for too long, which a figure shows."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not await holds() and time.monotonic() < end:  # noqa: ASYNC110 - of other processes
        await asyncio.sleep(_LOOK_SECONDS)


async def _post(site: Site, path: str, *, json: Any = None, **query: str) -> None:
    async with httpx2.AsyncClient(base_url=site.api.url, trust_env=False, timeout=30) as client:
        answer = await client.post(f"/api/v1{path}", params=query, json=json)
    answer.raise_for_status()
