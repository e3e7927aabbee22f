"""The queue of jobs: what is done to their rows, with one SQL for SQLite and PostgreSQL.

A job is claimed under a lease that the worker renews; the number of its attempt is the fencing
token, so who has lost the lease changes nothing any more. Leases and delays are on the database's
clock. Each statement is a transaction of its own: a worker that is stopped between two of them
holds no lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, get_args
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    ColumnElement,
    Float,
    Integer,
    String,
    Uuid,
    any_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from newel.db import Database, Work
from newel.errors import Conflict, NotFound
from newel.events import OUTBOX
from newel.job_rows import FINISHED, JOBS, STEPS, JobRow, JobState, from_now, without_waiting

__all__ = [
    "OVERDUE",
    "PURGE_ROWS",
    "Announced",
    "Claimed",
    "Due",
    "JobQueue",
    "Outcome",
    "cancel",
    "count_all_open",
    "count_open",
    "discard",
    "retry",
]

PURGE_ROWS: Final = 1000
"""How many rows are removed at once, so that nobody waits for it."""

# In the text of a statement, because no database uses a partial index for a parameter.
_SAID: Final[Mapping[str, ColumnElement[str]]] = {
    state: literal_column(f"'{state}'") for state in get_args(JobState)
}


class Claimed(NamedTuple):
    """A job that this worker has to run now, as attempt number ``attempt``."""

    id: UUID
    name: str
    arguments: str
    caller: str | None
    request_id: str | None
    traceparent: str | None
    run_at: datetime
    concurrency_key: str | None
    attempt: int
    max_attempts: int
    priority: int


class Announced(NamedTuple):
    """A job that may run, as it is marked to be announced; see ``newel.dispatch``."""

    id: UUID
    queue: str
    priority: int
    announced_at: datetime


class Outcome(NamedTuple):
    """What became of an attempt: a final state, or ``scheduled`` in ``delay_seconds``.

    ``extra_attempts`` gives back attempts that were not the job's fault.
    """

    id: UUID
    attempt: int
    state: JobState
    result: str | None = None
    error: str | None = None
    delay_seconds: float = 0.0
    extra_attempts: int = 0


class Due(NamedTuple):
    """What waits for any worker's care."""

    scheduled: bool
    expired: bool
    events: bool
    unannounced: bool
    overdue: bool
    unsent: bool


# ---------------------------------------------------------------- statements


def _head_of_its_line() -> ColumnElement[bool]:
    """Tell that nothing of the same key has to run, or to end, before a job."""
    job, other = JOBS.c, JOBS.alias("other").c
    before = or_(
        other.state == _SAID["running"],
        other.place < job.place,
        (other.state == _SAID["ready"]) & job.place.is_(None) & (other.id < job.id),
    )
    same = (other.concurrency_key == job.concurrency_key) & other.finished_at.is_(None)
    return or_(job.concurrency_key.is_(None), ~exists().where(same, before))


def _may_run(*which: ColumnElement[bool]) -> Any:
    """Pick jobs that may run, the most urgent and oldest first; nobody waits for a locked row."""
    picked = (
        select(JOBS.c.id)
        .where(JOBS.c.state == _SAID["ready"], *which, _head_of_its_line())
        .order_by(JOBS.c.priority, JOBS.c.id)
        # A number in the text: PostgreSQL takes an unknown limit for a tenth of the table.
        .limit(bindparam("b_most", type_=Integer, literal_execute=True))
        .with_for_update(skip_locked=True, of=JOBS)
        .cte("picked")
    )
    return update(JOBS).where(JOBS.c.id.in_(select(picked.c.id)))


def _claim(*which: ColumnElement[bool]) -> Any:
    return (
        _may_run(*which)
        .values(
            state="running",
            announced_at=None,
            attempt=JOBS.c.attempt + 1,
            worker=bindparam("b_worker"),
            leased_until=from_now(bindparam("b_lease", type_=Float)),
            started_at=from_now(),
        )
        .returning(*(JOBS.c[name] for name in Claimed._fields), without_waiting())
    )


def _ours() -> ColumnElement[bool]:
    """The fence: this worker still has the lease, and for this attempt."""
    # Not by the state: for it PostgreSQL takes the index of running jobs instead of the key.
    held = (JOBS.c.id == bindparam("b_id")) & (JOBS.c.attempt == bindparam("b_attempt"))
    return held & JOBS.c.leased_until.is_not(None) & (JOBS.c.worker == bindparam("b_worker"))


def _finish() -> Any:
    final: ColumnElement[bool] = bindparam("b_final", type_=Boolean)
    called_off = JOBS.c.cancel_requested & ~final
    return (
        update(JOBS)
        .where(_ours())
        .values(
            state=case((called_off, "cancelled"), else_=bindparam("b_state", type_=String)),
            result=bindparam("b_result"),
            error=bindparam("b_error"),
            run_at=case((final, JOBS.c.run_at), else_=from_now(bindparam("b_delay", type_=Float))),
            finished_at=case((or_(final, called_off), from_now()), else_=null()),
            leased_until=None,
            max_attempts=JOBS.c.max_attempts + bindparam("b_extra"),
        )
    )


def _parameters(outcome: Outcome, worker: str) -> dict[str, Any]:
    return {
        "b_worker": worker,
        "b_id": outcome.id,
        "b_attempt": outcome.attempt,
        "b_state": outcome.state,
        "b_result": outcome.result,
        "b_error": outcome.error,
        "b_delay": outcome.delay_seconds,
        "b_extra": outcome.extra_attempts,
        "b_final": outcome.state in FINISHED,
    }


def _announce() -> Any:
    named = (JOBS.c[name] for name in Announced._fields)
    marked = _may_run(_UNANNOUNCED).values(announced_at=from_now())
    return marked.returning(*named, without_waiting())


OVERDUE: Final = JOBS.c.announced_at < from_now(-5)
"""Of a ready job: its announcement should have come to a worker by now, or waits in a long line."""

_UNANNOUNCED: Final = JOBS.c.announced_at.is_(None)
_CLAIM: Final = _claim(_UNANNOUNCED, JOBS.c.queue == bindparam("b_queue"))
# An array, on PostgreSQL alone, so that it is one statement however many they are.
_CLAIM_THESE: Final = _claim(JOBS.c.id == any_(bindparam("b_ids", type_=ARRAY(Uuid))))
_ANNOUNCE: Final = _announce()
_FINISH: Final = _finish()


class JobQueue:
    """The jobs of one database, as ``worker`` claims, keeps and ends them."""

    def __init__(self, database: Database, *, worker: str, lease_seconds: float = 30.0) -> None:
        self.database = database
        self.worker = worker
        self.lease_seconds = lease_seconds
        # PostgreSQL: AUTOCOMMIT. A process that is stopped inside of a transaction keeps its locks.
        self._engine = database.engine if database.is_sqlite else database.reading_engine
        # What locks a job's row is followed by the commit: who is stopped before it keeps the row
        # until the lease, which was renewed a third of it ago at most, is about to end.
        idle_ms = str(int(lease_seconds * 2000 / 3))
        limit = func.set_config("idle_in_transaction_session_timeout", idle_ms, true())
        self._last_words = (JOBS.c.id,) if database.is_sqlite else (JOBS.c.id, limit)
        self._finish_in = _FINISH.returning(*self._last_words)

    async def claim(self, queue: str, *, most: int) -> list[Claimed]:
        """Take up to ``most`` ready, unannounced jobs of ``queue``, urgent and old ones first."""
        return await self._claim(_CLAIM, {"b_queue": queue, "b_most": most})

    async def claim_these(self, ids: Sequence[UUID]) -> list[Claimed]:
        """Take those of ``ids`` that may run; the rest may be announced again once they may."""
        claimed = await self._claim(_CLAIM_THESE, {"b_ids": ids, "b_most": PURGE_ROWS})
        if left := set(ids) - {job.id for job in claimed}:
            await self.withdraw(JOBS.c.id.in_(left))
        return claimed

    async def _claim(self, statement: Any, which: Mapping[str, Any]) -> list[Claimed]:
        values = {**which, "b_worker": self.worker, "b_lease": self.lease_seconds}
        try:
            async with self._engine.begin() as connection:
                rows = (await connection.execute(statement, values)).all()
        except Conflict:  # another worker took a job of the same key in this moment
            return []
        claimed = (Claimed._make(row[:-1]) for row in rows)
        return sorted(claimed, key=lambda job: (job.priority, job.id))

    async def announce(self, *, most: int) -> list[Announced]:
        """Mark up to ``most`` jobs that may run, of any queue, as announced now."""
        async with self._engine.begin() as connection:
            rows = (await connection.execute(_ANNOUNCE, {"b_most": most})).all()
        return [Announced._make(row[:-1]) for row in rows]

    async def withdraw(self, *which: ColumnElement[bool]) -> int:
        """Unmark up to ``PURGE_ROWS`` jobs that were announced; return how many."""
        found = select(JOBS.c.id).where(
            JOBS.c.state == _SAID["ready"], JOBS.c.announced_at.is_not(None), *which
        )
        some = found.limit(PURGE_ROWS).with_for_update(skip_locked=True)
        return await self._execute(
            update(JOBS).where(JOBS.c.id.in_(some)).values(announced_at=None)
        )

    async def finish(self, outcomes: Sequence[Outcome]) -> None:
        """Write what became of attempts; one that has lost its lease changes nothing."""
        async with self._engine.begin() as connection:
            # In one order, so that two who write the same rows never wait for each other.
            ordered = sorted(outcomes, key=lambda outcome: outcome.id)
            await connection.execute(_FINISH, [_parameters(one, self.worker) for one in ordered])

    async def finish_in(self, session: AsyncSession, outcome: Outcome) -> bool:
        """Write an outcome in the transaction of its effects; ``False``: the lease is lost."""
        connection = await session.connection()
        found = await connection.execute(self._finish_in, _parameters(outcome, self.worker))
        return len(found.all()) == 1

    async def beat(self, ids: Iterable[UUID]) -> dict[UUID, tuple[int, bool]]:
        """Renew leases; return, of those still held, the attempt and whether to cancel it.

        A locked row, whose end is being written perhaps, must not hold up the others.
        """
        wanted = list(ids)
        running, mine = JOBS.c.state == _SAID["running"], JOBS.c.worker == self.worker
        held = select(JOBS.c.id, JOBS.c.attempt, JOBS.c.cancel_requested).where(running, mine)
        free = held.with_only_columns(JOBS.c.id).where(JOBS.c.id.in_(wanted))
        renewed = (
            update(JOBS)
            .where(JOBS.c.id.in_(free.with_for_update(skip_locked=True)), running, mine)
            .values(leased_until=from_now(self.lease_seconds))
            .returning(*held.selected_columns, without_waiting())
        )
        async with self._engine.begin() as connection:
            rows = [*(await connection.execute(renewed)).all()]
            if left := set(wanted) - {one.id for one in rows}:
                rows += (await connection.execute(held.where(JOBS.c.id.in_(left)))).all()
        return {one.id: (one.attempt, one.cancel_requested) for one in rows}

    async def report(self, reports: Sequence[tuple[UUID, int, float | None, str | None]]) -> None:
        """Write progress: id, attempt, part done from 0 to 1, and a note."""
        names = ("b_id", "b_attempt", "b_progress", "b_note")
        named = [dict(zip(names, one, strict=True), b_worker=self.worker) for one in reports]
        changed = update(JOBS).where(_ours())
        statement = changed.values(progress=bindparam("b_progress"), note=bindparam("b_note"))
        async with self._engine.begin() as connection:
            await connection.execute(statement, named)

    # ------------------------------------------------------------ care

    def _expired(self) -> ColumnElement[bool]:
        """A lease that has ended, or that ends later than any can: the clock was put back."""
        return or_(
            JOBS.c.leased_until < from_now(),
            JOBS.c.leased_until > from_now(self.lease_seconds + 1.0),
        )

    async def due(self) -> Due:
        """Look, without a lock, what there is to take care of."""
        async with self.database.reading_engine.connect() as connection:
            row = await connection.execute(
                select(
                    exists().where(JOBS.c.state == _SAID["scheduled"], JOBS.c.run_at <= from_now()),
                    exists().where(JOBS.c.state == _SAID["running"], self._expired()),
                    exists().where(OUTBOX.c.published_at.is_(None)),
                    exists().where(JOBS.c.state == _SAID["ready"], _UNANNOUNCED),
                    exists().where(JOBS.c.state == _SAID["ready"], OVERDUE),
                    exists().where(OUTBOX.c.topic.is_not(None), OUTBOX.c.sent_at.is_(None)),
                )
            )
            return Due(*row.one())

    async def promote(self) -> int:
        """Make ready what was scheduled for a time that has come."""
        waits = JOBS.c.state == _SAID["scheduled"]
        due = select(JOBS.c.id).where(waits, JOBS.c.run_at <= from_now()).order_by(JOBS.c.run_at)
        some = due.limit(1000).with_for_update(skip_locked=True)
        promoted = update(JOBS).where(JOBS.c.id.in_(some), waits).values(state="ready")
        return await self._execute(promoted)

    async def reap(self) -> int:
        """Take jobs from workers whose lease has ended; the last attempt makes a dead letter.

        One whose worker was stopped while it committed is locked, and must not hold up the others.
        """
        ended = or_(JOBS.c.cancel_requested, JOBS.c.attempt >= JOBS.c.max_attempts)
        lost = select(JOBS.c.id).where(JOBS.c.state == _SAID["running"], self._expired())
        statement = (
            update(JOBS)
            .where(JOBS.c.id.in_(lost.with_for_update(skip_locked=True)))
            .values(
                state=case((JOBS.c.cancel_requested, "cancelled"), (ended, "dead"), else_="ready"),
                error=_WORKER_LOST,
                leased_until=None,
                finished_at=case((ended, from_now()), else_=null()),
            )
        )
        return await self._execute(statement)

    async def purge(self, state: JobState, *, days: float) -> int:
        """Delete up to ``PURGE_ROWS`` jobs that ended in ``state`` more than ``days`` ago.

        One that is locked may be about to run once more.
        """
        old = select(JOBS.c.id).where(
            JOBS.c.state == state,
            JOBS.c.finished_at.is_not(None),
            JOBS.c.finished_at < from_now(-86_400 * days),
        )
        some = old.limit(PURGE_ROWS).with_for_update(skip_locked=True)
        return await self._execute(delete(JOBS).where(JOBS.c.id.in_(some)))

    async def purge_events(self, *, days: float, keep_unsent: bool = False) -> int:
        """Delete up to ``PURGE_ROWS`` old events; ``keep_unsent``: not what a broker is to get."""
        newest = OUTBOX.alias("newest")  # stays: on SQLite positions go on from it
        old = select(OUTBOX.c.id).where(
            OUTBOX.c.published_at < from_now(-86_400 * days),
            OUTBOX.c.position < select(func.max(newest.c.position)).scalar_subquery(),
        )
        if keep_unsent:
            old = old.where(or_(OUTBOX.c.topic.is_(None), OUTBOX.c.sent_at.is_not(None)))
        return await self._execute(delete(OUTBOX).where(OUTBOX.c.id.in_(old.limit(PURGE_ROWS))))

    async def _execute(self, statement: Any) -> int:
        async with self._engine.begin() as connection:
            return (await connection.execute(statement)).rowcount

    # ------------------------------------------------------------ steps

    async def steps(self, id: UUID) -> dict[str, str]:
        """Return the results, as JSON, of the steps that a job has finished."""
        async with self.database.reading_engine.connect() as connection:
            found = select(STEPS.c.name, STEPS.c.result).where(STEPS.c.job_id == id)
            rows = (await connection.execute(found)).all()
            return {one.name: one.result for one in rows}

    async def finish_step(
        self, session: AsyncSession, job: Claimed, *, name: str, result: str
    ) -> bool:
        """Record a step in the transaction of its effects; ``False``: the lease is lost."""
        connection = await session.connection()
        held = update(JOBS).where(_ours()).values(leased_until=from_now(self.lease_seconds))
        fence = {"b_id": job.id, "b_attempt": job.attempt, "b_worker": self.worker}
        if not (await connection.execute(held.returning(*self._last_words), fence)).all():
            return False
        row = {"job_id": job.id, "name": name, "result": result}
        await connection.execute(insert(STEPS), row)
        return True


_WORKER_LOST: Final = '{"code":"worker_lost","detail":"The worker was lost while it ran this."}'


# ---------------------------------------------------------------- from outside


async def cancel(work: Work, id: UUID) -> bool:
    """End a job that waits; ask a running one to end. ``False``: it has ended already."""
    running = JOBS.c.state == _SAID["running"]
    cancelled = JOBS.c.finished_at.is_(None)
    values = {
        "state": case((running, JOBS.c.state), else_="cancelled"),
        "finished_at": case((running, null()), else_=from_now()),
        "cancel_requested": True,
    }
    return await _change(work, id, cancelled, values)


async def retry(work: Work, id: UUID) -> bool:
    """Run a dead or cancelled job once more; ``False``: it is neither."""
    values = {
        "state": "ready",
        "finished_at": None,
        "announced_at": None,
        "cancel_requested": False,
        "max_attempts": JOBS.c.attempt + 1,
    }
    return await _change(work, id, JOBS.c.state.in_(["dead", "cancelled"]), values)


async def discard(work: Work, id: UUID) -> bool:
    """Give up on a dead job: it is cancelled, and removed like others that have ended."""
    return await _change(work, id, JOBS.c.state == _SAID["dead"], {"state": "cancelled"})


async def count_open(work: Work) -> dict[JobState, int]:
    """Count the jobs that somebody may want to know of: those that have not ended, and the dead."""
    row = (await work.session.execute(_COUNT_OPEN)).one()
    return dict(zip(_OPEN_OR_DEAD, row, strict=True))


async def count_all_open(database: Database) -> dict[JobState, int]:
    """Count them whoever's they are: for the operator, not for a caller."""
    [row] = await database.rows(_COUNT_OPEN, {})
    return dict(zip(_OPEN_OR_DEAD, row, strict=True))


_OPEN_OR_DEAD: Final[tuple[JobState, ...]] = ("scheduled", "ready", "running", "dead")


def _counted(state: JobState, *which: ColumnElement[bool]) -> ColumnElement[int]:
    found = select(func.count()).select_from(JobRow).where(JobRow.state == _SAID[state], *which)
    return found.scalar_subquery()


# In the words of the partial indexes: who looks does not read what has ended in a week.
_COUNT_OPEN: Final = select(
    _counted("scheduled"),
    _counted("ready", JobRow.announced_at.is_(None))
    + _counted("ready", JobRow.announced_at.is_not(None)),
    _counted("running"),
    _counted("dead", JobRow.finished_at.is_not(None)),
)


async def _change(
    work: Work, id: UUID, condition: ColumnElement[bool], values: Mapping[str, Any]
) -> bool:
    """Change a job that ``work`` sees; raises ``NotFound``."""
    if await work.session.scalar(select(JobRow.id).where(JobRow.id == id)) is None:
        raise NotFound("job", id)
    connection = await work.session.connection()
    if not work.database.is_sqlite:  # a worker may be stopped at the job's end: 503, try again
        await connection.execute(select(func.set_config("lock_timeout", "1500", true())))
    statement = update(JOBS).where(JOBS.c.id == id, condition).values(values)
    return (await connection.execute(statement)).rowcount == 1
