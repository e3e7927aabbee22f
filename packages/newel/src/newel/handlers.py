"""Handlers: what a service does about an event, durably, as a job of its own.

    @on(AgentCreated)
    async def announce(job: JobRun, event: AgentCreated) -> None: ...

    module = Module("agents", handlers=[announce])

Each handler of an event gets a job. A handler sees the events of one entity one at a time and in
their order: while one waits for its retry the later ones wait too, and those of others go on.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Row, func, or_, select, text, update

from newel.db import Database
from newel.events import OUTBOX, Event
from newel.job_rows import from_now, write_jobs
from newel.jobs import Backoff, Job, JobRun, job
from newel.principal import load_principal

__all__ = ["Handler", "on", "relay"]

E = TypeVar("E", bound=Event)

_ONE_RELAY: Final = 7_310_225_022
"""The advisory lock's number; any constant that only we use."""

_UNKNOWN_SECONDS: Final = 900.0
"""How long an event that has no handler here waits for a worker of the release that has one: as
long as a release may take. Until then each look reads over it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Handler(Generic[E]):
    """A function for the events of one type, and the job that runs it."""

    event: type[E]
    job: Job[[E], None]

    async def __call__(self, run: JobRun, event: E) -> None:
        await self.job(run, event)

    def delivery(self, row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
        """Return the columns of the job that delivers a row of the outbox to this handler."""
        caller = None if row.caller is None else load_principal(row.caller)
        arguments = json.dumps({self.job.arguments[0]: row.payload})
        return {
            **self.job.columns(caller, arguments=arguments),
            "concurrency_key": f"{self.job.name}:{row.aggregate_id}",
            "place": row.position,
            "request_id": row.request_id,
            "traceparent": row.traceparent,
        }


def on(
    event: type[E],
    *,
    name: str | None = None,
    queue: str = "default",
    priority: int = 0,
    retries: int = 10,
    backoff: Backoff | None = None,
    timeout_seconds: float = 300.0,
    as_system: str | None = None,
) -> Callable[[Callable[[JobRun, E], Awaitable[None]]], Handler[E]]:
    """Declare an ``async`` function as a handler of ``event``; the options are those of a job.

    It runs with the permissions of who published the event.
    """
    declare = job(
        name=name,
        queue=queue,
        priority=priority,
        retries=retries,
        backoff=backoff,
        timeout_seconds=timeout_seconds,
        as_system=as_system,
    )

    def handler(function: Callable[[JobRun, E], Awaitable[None]]) -> Handler[E]:
        return Handler(event=event, job=declare(function))

    return handler


async def relay(
    database: Database, handlers: Mapping[str, Sequence[Handler[Any]]], *, most: int = 500
) -> int:
    """Make the jobs that deliver up to ``most`` events; return how many events.

    ``handlers`` are by the name of their event. One process does it at a time, so that the jobs of
    one entity appear in the order of its events. Others are left to workers of another release.
    """
    known = OUTBOX.c.name.in_(handlers), OUTBOX.c.occurred_at < from_now(-_UNKNOWN_SECONDS)
    waiting = select(OUTBOX).where(OUTBOX.c.published_at.is_(None), or_(*known))
    async with database.engine.begin() as connection:
        if not database.is_sqlite:
            # Who is stopped in here, with SIGSTOP for example, does not stop all others for long.
            await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 5000"))
            if not await connection.scalar(select(func.pg_try_advisory_xact_lock(_ONE_RELAY))):
                return 0
        found = await connection.execute(waiting.order_by(OUTBOX.c.position).limit(most))
        rows = found.all()
        jobs = [handler.delivery(row) for row in rows for handler in handlers.get(row.name, ())]
        await connection.run_sync(write_jobs, jobs)
        handed_over = update(OUTBOX).where(OUTBOX.c.id.in_([row.id for row in rows]))
        await connection.execute(handed_over.values(published_at=from_now()))
    return len(rows)
