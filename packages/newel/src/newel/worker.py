"""The worker: claims jobs, runs them, and takes care of what others left behind.

    async with working(app):       # what the lifespan does, as ROLE says
        ...

Every worker does all of it: claims in batches, renews its leases, makes due jobs ready, takes jobs
from workers that are gone, hands events to their handlers, moves schedules on, and removes old
rows. It stops cleanly: what is not finished in time is handed back for others.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID

import structlog
from fastapi import FastAPI
from sqlalchemy.exc import IntegrityError

from newel.broker import Broker
from newel.context import request_id
from newel.db import Database
from newel.dispatch import Carrier, Dispatch, dispatch_by
from newel.errors import AppError, Invalid, Unavailable
from newel.handlers import Handler, relay
from newel.job_queue import PURGE_ROWS, Claimed, JobQueue, Outcome
from newel.job_rows import JobState
from newel.jobs import GiveUp, Job, JobRun, LeaseLost, TryAgain
from newel.publisher import Publisher, watch_backlog
from newel.schedules import Schedule, tick
from newel.tasks import beside, end_tasks
from newel.telemetry import Traces, note_error

__all__ = ["Background", "Worker", "WorkerLimits", "working"]

_TRACE_CHARACTERS: Final = 8000
_NEWER_SECONDS: Final = 30.0
_UNKNOWN_TIMES: Final = 2880
"""A day of such waits."""
_UNKNOWN: Final = '{"code":"unknown_job","detail":"The service does not know this job."}'
_AHEAD_SECONDS: Final = 0.1
_MOST_AHEAD: Final = 200
_CARE_SECONDS: Final = 0.05
_HAND_BACK_SECONDS: Final = 5.0
_PURGE_SECONDS: Final = 60.0
_BACKLOG_SECONDS: Final = 5.0
_log = structlog.get_logger("newel.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """What an application does in the background, by name: jobs, those of handlers included."""

    jobs: Mapping[str, Job[..., Any]]
    handlers: Mapping[str, Sequence[Handler[Any]]]
    schedules: Sequence[Schedule]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLimits:
    """How much a worker does at once, and how long things may take."""

    concurrency: int = 10
    lease_seconds: float = 30.0
    poll_seconds: float = 1.0
    stop_seconds: float = 25.0
    keep_days: float = 7.0
    keep_dead_days: float = 90.0


@dataclass(slots=True, kw_only=True)
class _Attempt:
    """A job that this worker runs now."""

    claimed: Claimed
    run: JobRun
    task: asyncio.Task[None]


class Worker:
    """Runs the jobs of ``app`` in this process; ``run`` returns some time after ``stop``."""

    def __init__(
        self,
        app: FastAPI,
        background: Background,
        *,
        limits: WorkerLimits | None = None,
        queues: Sequence[str] | None = None,
    ) -> None:
        self.name: str = f"{socket.gethostname()[:64]}:{os.getpid()}:{secrets.token_hex(4)}"
        self.limits: WorkerLimits = limits or WorkerLimits()
        self._app = app
        self._background = background
        self._database: Database = app.state.database
        self._queue = JobQueue(
            self._database, worker=self.name, lease_seconds=self.limits.lease_seconds
        )
        self._traces: Traces = getattr(app.state, "traces", None) or Traces()
        carrier: Carrier | None = getattr(app.state, "carrier", None)
        self.dispatch: Dispatch = dispatch_by(self._queue, carrier)
        declared = {job.queue for job in background.jobs.values()}
        self._queues = list(queues or sorted(declared | {"default"}))
        self._attempts: dict[tuple[UUID, int], _Attempt] = {}  # a job may be ours again
        self._outcomes: list[Outcome] = []
        self._frees_key = False  # one of them lets the next job of its key run
        self._wake = asyncio.Event()  # there may be jobs
        self._news = asyncio.Event()  # there may be events
        self._unsent = asyncio.Event()  # there are events for the broker
        self._publisher = _publisher(app, self.name)
        self._slot = asyncio.Event()  # a job has ended
        self._slots = asyncio.Semaphore(self.limits.concurrency)
        self._ran, self._lately, self._counted_at = 0, 0, time.monotonic()
        self._ended = asyncio.Event()
        self._stopping = False
        self._purged_at = time.monotonic()

    def stop(self) -> None:
        """Claim nothing more; ``run`` returns when what is running has finished."""
        self._stopping = True
        self._wake.set()
        self._slot.set()

    async def run(self) -> None:
        """Work until ``stop``, whatever the database does meanwhile."""
        _log.info("worker_started", worker=self.name, queues=self._queues)
        again = self.limits.poll_seconds
        self._news.set()  # what came before us
        bell = self._database.bell
        async with bell.listening(self._wake), bell.listening(self._news):
            loops = [
                asyncio.create_task(_repeat(action, every_seconds=seconds, again_seconds=again))
                for action, seconds in (
                    (self._beat, min(1.0, self.limits.lease_seconds / 3)),
                    (self._care_in_time, min(_CARE_SECONDS, self.limits.poll_seconds)),
                    (partial(self.dispatch.hear, self._notice), 0.0),
                    (self._publish_in_time, 0.0),
                )
            ]
            writing = asyncio.create_task(
                _repeat(self._write_outcomes, again_seconds=again, until=self._is_over)
            )
            try:
                await _repeat(
                    self._claim_or_wait, again_seconds=again, until=lambda: self._stopping
                )
                await self._finish_up()
                await asyncio.wait([writing], timeout=_HAND_BACK_SECONDS)
            finally:
                await end_tasks([*loops, writing])
        _log.info("worker_stopped", worker=self.name)

    def _notice(self) -> None:
        self._wake.set()
        self._news.set()

    async def drain(self) -> int:
        """Run what is due, and what comes of it, until nothing is left; return how many jobs."""
        ran = 0
        while True:
            moved = await self._care()
            found = await self._claim_some(self.limits.concurrency)
            await asyncio.gather(*(attempt.task for attempt in self._attempts.values()))
            if self._outcomes:
                await self._write_outcomes()
            ran += found
            sent = 0 if self._publisher is None else await self._publisher.publish_some()
            if not moved and not found and not sent:
                return ran

    # ------------------------------------------------------------ claiming

    async def _claim_or_wait(self) -> None:
        """Claim when a job could start at once, or when half of those claimed ahead have."""
        most = self.limits.concurrency + self._ahead()
        if len(self._attempts) >= self.limits.concurrency and 2 * len(self._attempts) > most:
            self._slot.clear()
            await self._slot.wait()
            return
        self._wake.clear()
        room = most - len(self._attempts)
        if await self._claim_some(room) < room:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.limits.poll_seconds):
                    await self._wake.wait()

    def _ahead(self) -> int:
        """Return how many jobs to claim before there is room to run them.

        As many as were run lately in a tenth of a second: quick jobs come in large batches, and
        slow ones are left to who has time.
        """
        now = time.monotonic()
        if now - self._counted_at >= _AHEAD_SECONDS:
            lately = self._ran / (now - self._counted_at) * _AHEAD_SECONDS
            self._ran, self._counted_at, self._lately = 0, now, int(lately)
        return min(self._lately, _MOST_AHEAD)

    async def _claim_some(self, room: int) -> int:
        """Claim up to ``room`` jobs and return how many; each queue is first in turn."""
        self._queues.append(self._queues.pop(0))
        found = 0
        for queue in self._queues:
            if found < room:
                claimed = await self.dispatch.claim(queue, most=room - found)
                found += len(claimed)
                for job in claimed:
                    self._start(job)
        return found

    def _start(self, claimed: Claimed) -> None:
        if (claimed.id, claimed.attempt) in self._attempts:
            return  # a server that lost its last moments hands it out once more: it is under way
        declared = self._background.jobs.get(claimed.name)
        if declared is None:  # a newer release enqueued it, whose workers will know it
            _log.warning("job_unknown", job=claimed.name, job_id=str(claimed.id))
            state: JobState = "dead" if claimed.attempt > _UNKNOWN_TIMES else "scheduled"
            self._end(
                claimed, state, error=_UNKNOWN, delay_seconds=_NEWER_SECONDS, extra_attempts=1
            )
            return
        run = JobRun(self._app, self._queue, declared, claimed)
        task = asyncio.create_task(self._attempt(declared, claimed, run))
        self._attempts[claimed.id, claimed.attempt] = _Attempt(claimed=claimed, run=run, task=task)

    # ------------------------------------------------------------ running

    async def _attempt(self, declared: Job[..., Any], claimed: Claimed, run: JobRun) -> None:
        request_id.set(claimed.request_id)  # of this task alone
        said = {"newel.job.id": str(claimed.id), "newel.job.attempt": claimed.attempt}
        span = partial(self._traces.follow, f"job {claimed.name}", attributes=said)
        task, key = asyncio.current_task(), (claimed.id, claimed.attempt)
        try:
            async with self._slots:
                with span(parent=claimed.traceparent):
                    await self._run(declared, claimed, run)
        except asyncio.CancelledError as error:
            if task is not None and task.cancelling():
                self._cancelled(claimed, run)
            else:  # it waited for something else that was cancelled
                self._failed(declared, claimed, error)
        finally:
            try:
                await run.abandon()
            finally:  # who is stopped there must not take its place along
                del self._attempts[key]
                self._ran += 1
                self._slot.set()
                if claimed.concurrency_key is not None:
                    self._notice()

    async def _run(self, declared: Job[..., Any], claimed: Claimed, run: JobRun) -> None:
        try:
            async with asyncio.timeout(declared.timeout_seconds), run.held:
                result = await declared.run(run, claimed.arguments)
            if not await run.commit(Outcome(claimed.id, claimed.attempt, "done", result)):
                self._end(claimed, "done", result=result)
        except LeaseLost:
            _log.warning("lease_lost", job=claimed.name, job_id=str(claimed.id))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a job raises is its failure
            note_error(error)
            self._failed(declared, claimed, error)

    def _cancelled(self, claimed: Claimed, run: JobRun) -> None:
        if run.cancel_requested:
            self._end(claimed, "cancelled")
        elif self._stopping:
            self._end(claimed, "ready", extra_attempts=1)
        else:
            _log.warning("lease_lost", job=claimed.name, job_id=str(claimed.id))

    def _failed(self, declared: Job[..., Any], claimed: Claimed, error: BaseException) -> None:
        dead = isinstance(error, GiveUp) or claimed.attempt >= claimed.max_attempts
        delay = (
            error.after_seconds
            if isinstance(error, TryAgain)
            else declared.backoff.seconds(claimed.attempt)
        )
        log, what = (_log.error, "job_dead") if dead else (_log.warning, "job_failed")
        log(what, job=claimed.name, job_id=str(claimed.id), attempt=claimed.attempt, exc_info=error)
        state: JobState = "dead" if dead else "scheduled"
        self._end(claimed, state, error=_described(error), delay_seconds=delay)

    def _end(self, claimed: Claimed, state: JobState, **details: Any) -> None:
        self._outcomes.append(Outcome(claimed.id, claimed.attempt, state, **details))
        self._frees_key |= claimed.concurrency_key is not None
        self._ended.set()

    async def _write_outcomes(self) -> None:
        """Write what has ended since the last time, in one statement."""
        await self._ended.wait()
        self._ended.clear()
        if not self._outcomes:
            return
        outcomes, self._outcomes = self._outcomes, []
        try:
            await self._finish(outcomes)
        except BaseException:  # what of it is written already is not written twice
            self._outcomes = outcomes + self._outcomes
            self._ended.set()
            raise
        if self._frees_key:
            self._frees_key = False
            self._notice()

    async def _finish(self, outcomes: Sequence[Outcome]) -> None:
        """Write outcomes; one that no database takes makes a dead letter, and holds up no other."""
        try:
            await self._queue.finish(outcomes)
        except (Invalid, IntegrityError) as error:  # one of them: a time beyond all calendars, say
            if len(outcomes) > 1:
                for outcome in outcomes:
                    await self._finish([outcome])
                return
            [bad] = outcomes
            _log.error("outcome_refused", job_id=str(bad.id), state=bad.state, exc_info=error)
            dead = Outcome(bad.id, bad.attempt, "dead", error=_described(error))
            await self._queue.finish([dead])

    def _is_over(self) -> bool:
        return self._stopping and not self._attempts and not self._outcomes

    async def _finish_up(self) -> None:
        """Wait for what is running, and hand the rest back."""
        tasks = [attempt.task for attempt in self._attempts.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self.limits.stop_seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_HAND_BACK_SECONDS)
        self._ended.set()  # the writer sees that it is over

    # ------------------------------------------------------------ leases

    async def _beat(self) -> None:
        """Renew the leases of what is running; stop what was taken away or is to be cancelled."""
        attempts = dict(self._attempts)
        if not attempts:
            return
        held = await self._queue.beat({id for id, _ in attempts})
        for (id, _), attempt in attempts.items():
            if attempt.task.cancelling():
                continue  # it was told, and what it does to clean up is not cut short
            number, cancel = held.get(id, (0, False))
            if number != attempt.claimed.attempt:
                attempt.task.cancel()
            elif cancel:
                attempt.run.cancel_requested = True
                attempt.task.cancel()
        reports = [
            (id, number, *attempt.run.take_report())
            for (id, number), attempt in attempts.items()
            if attempt.run.progress is not None
        ]
        if reports:
            await self._queue.report(reports)

    # ------------------------------------------------------------ care

    async def _care_in_time(self) -> None:
        """Look when something was recorded, an event for example, and now and then anyway."""
        with suppress(TimeoutError):
            # Twice as often as promised: it takes a while, and so may the wait for SQLite's lock.
            async with asyncio.timeout(self.limits.poll_seconds / 2):
                await self._news.wait()
        self._news.clear()
        await self._care()

    async def _care(self) -> bool:
        """Do what any worker has to do for all; tell whether something moved."""
        due = await self._queue.due()
        moved = 0
        if due.unsent:
            self._unsent.set()
        if due.scheduled:
            moved += await self._queue.promote()
        if due.expired:
            reaped = await self._queue.reap()
            _log.warning("jobs_reaped", jobs=reaped)
            moved += reaped
        if due.events:
            moved += await relay(self._database, self._background.handlers)
        if self._background.schedules:
            moved += await tick(self._database, self._background.schedules)
        due = due._replace(unannounced=due.unannounced or moved > 0)
        moved += await self.dispatch.care(due, self._queues)
        if moved:
            self._wake.set()
        if time.monotonic() - self._purged_at > _PURGE_SECONDS:
            await self.purge()
        return moved > 0

    async def _publish_in_time(self) -> None:
        """Send events to the broker: by itself, so that a slow broker holds nothing else up."""
        await self._unsent.wait()
        self._unsent.clear()
        while self._publisher is not None and await self._publisher.publish_some():
            pass

    async def purge(self) -> None:
        """Remove some of what is old; soon again when there is more."""
        kept: dict[JobState, float] = dict.fromkeys(
            ("done", "cancelled", "duplicate"), self.limits.keep_days
        )
        kept["dead"] = self.limits.keep_dead_days
        counts = [await self._queue.purge(state, days=days) for state, days in kept.items()]
        days, leave = self.limits.keep_days, self._publisher is not None
        counts.append(await self._queue.purge_events(days=days, keep_unsent=leave))
        if max(counts) < PURGE_ROWS:
            self._purged_at = time.monotonic()


def _described(error: BaseException) -> str:
    """Return an error as JSON: what its owner may read, and the trace for administrators."""
    if isinstance(error, GiveUp | TryAgain):
        code, detail = "gave_up" if isinstance(error, GiveUp) else "try_again", str(error)
    elif isinstance(error, AppError) and error.status != 500:
        code, detail = error.code, error.detail
    elif isinstance(error, TimeoutError):
        code, detail = "timeout", "It took too long and was stopped."
    else:
        code, detail = AppError.code, AppError.advice
    trace = "".join(traceback.format_exception(error))[-_TRACE_CHARACTERS:]
    said = {"code": code, "detail": detail[:_TRACE_CHARACTERS], "trace": trace}
    # What is no text, as a file may be called, would be no answer's either.
    return json.dumps(said, ensure_ascii=False).encode(errors="replace").decode()


async def _repeat(
    action: Callable[[], Awaitable[object]],
    *,
    every_seconds: float = 0.0,
    again_seconds: float = 1.0,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Do ``action`` again and again, whatever the database does meanwhile."""
    while not until():
        try:
            await action()
        except Exception as error:  # noqa: BLE001 - a worker that gives up is noticed by nobody
            # A database that is away is a state that lasts: one line a try says enough of it.
            trace = None if isinstance(error, Unavailable) else error
            _log.warning("worker_hindered", why=str(error.__cause__ or error), exc_info=trace)
            await asyncio.sleep(again_seconds)
        if every_seconds:
            await asyncio.sleep(every_seconds)


def _publisher(app: FastAPI, name: str) -> Publisher | None:
    broker: Broker | None = getattr(app.state, "broker", None)
    if broker is None:
        return None
    service: str = app.state.settings.service_name
    traces: Traces | None = getattr(app.state, "traces", None)
    return Publisher(app.state.database, broker, name=name, service=service, traces=traces)


@asynccontextmanager
async def working(app: FastAPI) -> AsyncGenerator[None]:
    """Work as long as the block lasts, if ``app.state.runs_jobs``; else only wake who does."""
    background: Background = app.state.background
    database: Database = app.state.database
    worker = Worker(app, background, limits=app.state.worker_limits)
    publishes = getattr(app.state, "broker", None) is not None
    has_work = bool(background.jobs) or publishes
    loops: list[Coroutine[Any, Any, None]] = []
    if has_work:
        loops.append(_repeat(worker.dispatch.announce))
    if publishes:
        most: int = app.state.settings.broker_backlog
        watching = partial(watch_backlog, database, most=most)
        loops.append(_repeat(watching, every_seconds=_BACKLOG_SECONDS))
    async with beside(*loops):
        running = asyncio.create_task(worker.run()) if has_work and app.state.runs_jobs else None
        try:
            yield
        finally:
            worker.stop()
            if running is not None:
                await running
